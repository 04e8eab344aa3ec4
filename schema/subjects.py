"""Subjects and sites, as far as they can be known without loading a model (and so without torch).

A *site* is a place in the subject where a dictionary reads or writes. This room knows what a site is called, how
many layers and how wide a subject is, and which subjects an installation allows. It does not know module names: those
are in workers/architecture.py, and in a subject of any other architecture only the loaded model has them.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from schema.errors import UnknownSite, UnknownSubject
from schema.records import SiteKind
from schema.settings import Settings

SITE_KINDS: tuple[str, ...] = get_args(SiteKind)
MODULE = "module"
BUNDLED = "bundled:smollm2-135m-instruct"

# The architectures whose sites have names; in any other a site is a module path. workers/architecture.py has the names.
ARCHITECTURES = frozenset({"gemma2", "gemma3_text", "gpt2", "gpt_neox", "llama", "mistral", "qwen2", "qwen3"})


@dataclass(frozen=True)
class Site:
    """A named place at a layer (`resid_post.14`), or any module's output (`module:model.layers.3.mlp`)."""

    kind: str
    layer: int | None = None
    path: str | None = None

    def __str__(self) -> str:
        """Return the spelling that `parse` reads."""
        return f"{MODULE}:{self.path}" if self.kind == MODULE else f"{self.kind}.{self.layer}"

    @classmethod
    def parse(cls, text: str) -> "Site":
        """Return the site that a text names. Raises UnknownSite."""
        kind, colon, path = text.partition(":")
        if colon and kind == MODULE and path:
            return cls(MODULE, path=path)
        kind, _, layer = text.partition(".")
        if kind not in SITE_KINDS or not (layer.isascii() and layer.isdecimal()) or len(layer) > 6:
            raise UnknownSite(
                f"site={text!r}; must be KIND.LAYER with KIND one of {', '.join(SITE_KINDS)}, or module:PATH"
            )
        return cls(kind, layer=int(layer))


@dataclass(frozen=True)
class Blocks:
    """What is known of a subject's blocks from its configuration.

    d_heads:  the width of all heads side by side, before the output projection.
    parallel: attention and MLP both read the block's input, so there is no residual between them.
    """

    n_layers: int
    d_model: int
    d_mlp: int
    d_heads: int
    n_vocab: int
    parallel: bool = False


@dataclass(frozen=True)
class SubjectFacts:
    """What is known of a subject from its configuration.

    known: its blocks, if it is of an architecture whose sites have names.
    """

    name: str
    model_type: str
    known: Blocks | None = None

    @property
    def blocks(self) -> Blocks:
        """Return its blocks. Raises UnknownSite if its architecture's sites have no names."""
        if self.known is None:
            names = ", ".join(sorted(ARCHITECTURES))
            raise UnknownSite(
                f"architecture={self.model_type!r} of {self.name}; its sites are module paths, module:PATH "
                f"(sites have names in {names})"
            )
        return self.known


BUNDLED_FACTS = SubjectFacts(
    BUNDLED, "llama", Blocks(n_layers=30, d_model=576, d_mlp=1536, d_heads=9 * 64, n_vocab=49152)
)

# The names that configurations use, first found first taken: Llama-like and GPT-NeoX, then GPT-2.
_KEYS: Mapping[str, tuple[str, ...]] = {
    "n_layers": ("num_hidden_layers", "n_layer"),
    "d_model": ("hidden_size", "n_embd"),
    "n_heads": ("num_attention_heads", "n_head"),
    "n_vocab": ("vocab_size",),
}


def check_allowed(name: str, settings: Settings) -> None:
    """Raise UnknownSubject unless this installation allows the subject (a CLI on one's own machine may skip this)."""
    if name not in settings.subjects_allowed:
        raise UnknownSubject(f"subject={name!r}; allowed here: {', '.join(settings.subjects_allowed) or 'none'}")


def subject_facts(name: str, settings: Settings) -> SubjectFacts:
    """Return what is known of a subject without loading it.

    name:   the bundled subject, or a local folder with a config.json.
    Raises: UnknownSubject for anything else, and where a configuration lacks a size.
    """
    if name == BUNDLED:
        return BUNDLED_FACTS
    path = Path(name).expanduser() / "config.json"
    if name.startswith("bundled:") or not path.is_file():
        allowed = ", ".join(settings.subjects_allowed) or "none"
        raise UnknownSubject(
            f"subject={name!r}; must be {BUNDLED} or a folder with a config.json (allowed here: {allowed})"
        )
    return facts_of_config(name, _read_config(path))


def facts_of_config(name: str, config: Mapping[str, Any]) -> SubjectFacts:
    """Return the facts in a Hugging Face configuration. Raises UnknownSubject where a size that counts is missing."""
    text = config.get("text_config")
    if isinstance(text, Mapping):  # a multimodal wrapper: the language model is inside
        config = text
    model_type = str(config.get("model_type", "unknown"))
    return SubjectFacts(name, model_type, _blocks(name, config) if model_type in ARCHITECTURES else None)


def width(facts: SubjectFacts, site: Site) -> int | None:
    """Return how wide a site is; None for a module path, which only the loaded subject knows.

    Raises: UnknownSite if the subject has no such layer or site, or no named sites at all.
    """
    if site.kind == MODULE:
        return None
    blocks = facts.blocks
    if site.layer is None or not 0 <= site.layer < blocks.n_layers:
        raise UnknownSite(f"layer={site.layer}; {facts.name} has 0..{blocks.n_layers - 1}")
    if site.kind == "resid_mid" and blocks.parallel:
        raise UnknownSite(f"site={site}; {facts.name} runs attention and MLP in parallel and has no resid_mid")
    return {"mlp_hidden": blocks.d_mlp, "attn_heads": blocks.d_heads}.get(site.kind, blocks.d_model)


def _read_config(path: Path) -> Mapping[str, Any]:
    try:
        config = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as exc:
        raise UnknownSubject(f"config={str(path)!r}; must be readable JSON: {exc}") from exc
    if not isinstance(config, Mapping):
        raise UnknownSubject(f"config={str(path)!r}; must be a JSON object")
    return config


def _blocks(name: str, config: Mapping[str, Any]) -> Blocks:
    sizes = {fact: _size(name, config, keys) for fact, keys in _KEYS.items()}
    d_model, n_heads = sizes["d_model"], sizes["n_heads"]
    return Blocks(
        n_layers=sizes["n_layers"],
        d_model=d_model,
        d_mlp=int(config.get("intermediate_size") or config.get("n_inner") or 4 * d_model),
        d_heads=n_heads * int(config.get("head_dim") or d_model // n_heads),
        n_vocab=sizes["n_vocab"],
        parallel=config.get("model_type") == "gpt_neox" and bool(config.get("use_parallel_residual", True)),
    )


def _size(name: str, config: Mapping[str, Any], keys: tuple[str, ...]) -> int:
    for key in keys:
        value = config.get(key)
        if isinstance(value, int) and value > 0:
            return value
    raise UnknownSubject(f"subject={name!r}; its config.json must have a positive {' or '.join(keys)}")
