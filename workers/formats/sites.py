"""What others call the sites: TransformerLens' hook names, and module names of Hugging Face models."""

import re
from typing import NamedTuple

from schema.errors import UnknownSite
from schema.subjects import SubjectFacts

_HOOKS = {
    "hook_resid_pre": "resid_pre",
    "hook_resid_mid": "resid_mid",
    "hook_resid_post": "resid_post",
    "hook_mlp_in": "mlp_in",
    "hook_mlp_out": "mlp_out",
    "hook_attn_out": "attn_out",
    "attn.hook_z": "attn_heads",
    "mlp.hook_post": "mlp_hidden",
    "mlp.hook_in": "mlp_in",
    "mlp.hook_out": "mlp_out",
    "ln2.hook_normalized": "mlp_normed",
}
_BLOCK = re.compile(r"(?:[a-z_]+\.)*(?:layers|h)\.(\d+)(?:\.(mlp|self_attn|attention|attn))?")


class Sites(NamedTuple):
    """Where a dictionary reads, and where it writes if that is somewhere else."""

    read: str
    write: str | None = None


def site_of_hook(hook: str) -> str:
    """Return the site that TransformerLens calls `hook`. Raises UnknownSite."""
    found = re.fullmatch(r"blocks\.(\d+)\.(.+)", hook)
    if not found or found[2] not in _HOOKS:
        known = ", ".join(f"blocks.L.{name}" for name in _HOOKS)
        raise UnknownSite(f"hook_name={hook!r}; must be one of {known}, or name the site with --site")
    return f"{_HOOKS[found[2]]}.{int(found[1])}"


def sites_of_module(name: str, transcodes: bool, facts: SubjectFacts | None) -> Sites:
    """Return where a dictionary of a module's output reads and writes; a transcoder reads the module's input.

    name:   `layers.3`, `layers.3.mlp`, `h.3.attn`, with or without the model's own prefix.
    Raises: UnknownSite.
    """
    if re.fullmatch(r"(?:[a-z_]+\.)*(embed_tokens|embed_in|wte)", name) and not transcodes:
        return Sites("resid_pre.0")
    found = _BLOCK.fullmatch(name)
    if not found:
        raise UnknownSite(
            f"hookpoint={name!r}; must be layers.L, layers.L.mlp or the like, or name the site with --site"
        )
    layer, part = int(found[1]), found[2]
    if transcodes:
        return _of_transcoder(name, layer, part)
    if part is None:
        return Sites(f"resid_post.{layer}")
    if facts is not None and facts.model_type in ("gemma2", "gemma3_text"):
        # The module's own output, before the norm that stands between it and the residual.
        return Sites(f"module:model.layers.{layer}.{'mlp' if part == 'mlp' else 'self_attn'}")
    return Sites(f"{'mlp' if part == 'mlp' else 'attn'}_out.{layer}")


def _of_transcoder(name: str, layer: int, part: str | None) -> Sites:
    if part != "mlp":
        raise UnknownSite(f"hookpoint={name!r}; a transcoder is of an MLP, layers.L.mlp: name the site with --site")
    return Sites(f"mlp_in.{layer}", f"mlp_out.{layer}")
