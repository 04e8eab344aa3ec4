"""dictionary_learning: ae.pt and config.json, all seven classes.

Each has its own names for the same things; `encode` is what is computed, which for the batch kinds cuts at the
threshold that training ended with. AutoEncoder is loaded with decoder rows of norm 1, as its own
`from_pretrained` loads it.
Source: dictionary_learning/dictionary.py and trainers/ of dictionary-learning 0.1.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from schema.errors import BadWeights, InvalidInput, UnknownSite
from schema.records import DictionarySpec, Encoder, EncoderKind
from workers.formats.files import Converted, Layout, Spot, Wanted, need, read_json, whole
from workers.formats.pickles import read_pickle

NAME = "a dictionary_learning folder"
CONFIG, WEIGHTS = "config.json", "ae.pt"
FILES = (CONFIG, WEIGHTS)


class _Class(NamedTuple):
    kind: EncoderKind
    layout: Layout
    subtracts: bool


_LINEAR = {"encoder.weight": Spot("w_enc", "Fd"), "decoder.weight": Spot("w_dec", "dF")}
_BIASED = _LINEAR | {"encoder.bias": Spot("b_enc", "F")}
_PARAMETERS = {
    "W_enc": Spot("w_enc", "dF"),
    "b_enc": Spot("b_enc", "F"),
    "W_dec": Spot("w_dec", "Fd"),
    "b_dec": Spot("b_dec", "d"),
}
_B_DEC = {"b_dec": Spot("b_dec", "d")}
_ONE_THRESHOLD = {"threshold": Spot("threshold", "")}
_GATED = _LINEAR | {
    "decoder_bias": Spot("b_dec", "d"),
    "gate_bias": Spot("b_gate", "F"),
    "mag_bias": Spot("b_mag", "F"),
    "r_mag": Spot("r_mag", "F"),
}
_CLASSES = {
    "AutoEncoder": _Class("relu", Layout(_BIASED | {"bias": Spot("b_dec", "d")}), True),
    "AutoEncoderNew": _Class("relu", Layout(_BIASED | {"decoder.bias": Spot("b_dec", "d")}), False),
    "GatedAutoEncoder": _Class("gated", Layout(_GATED), True),
    "JumpReluAutoEncoder": _Class("jumprelu", Layout(_PARAMETERS | {"threshold": Spot("threshold", "F")}), False),
    "AutoEncoderTopK": _Class("topk", Layout(_BIASED | _B_DEC, ignored=("k", "threshold")), True),
    "BatchTopKSAE": _Class("batchtopk", Layout(_BIASED | _B_DEC | _ONE_THRESHOLD, ignored=("k",)), True),
    "MatryoshkaBatchTopKSAE": _Class(
        "batchtopk", Layout(_PARAMETERS | _ONE_THRESHOLD, ignored=("k", "group_sizes")), True
    ),
}
_SUBMODULES = {"resid_post": "resid_post", "mlp": "mlp_out", "attn": "attn_out", "attention": "attn_out"}


def recognises(path: Path) -> bool:
    """Return whether a path is a folder of dictionary_learning."""
    return (path / WEIGHTS).is_file()


def convert(path: Path, wanted: Wanted) -> Converted:
    """Return a dictionary in canonical form. Raises InvalidInput naming what it can't honour."""
    trainer = need(read_json(path / CONFIG), "trainer")
    if not isinstance(trainer, Mapping):
        raise BadWeights(f"file={CONFIG!r}; trainer must be an object")
    name = str(need(trainer, "dict_class"))
    if name not in _CLASSES:
        raise InvalidInput(f"dict_class={name!r}; must be one of {', '.join(_CLASSES)}")
    kind, layout, subtracts = _CLASSES[name]
    sizes = {"F": whole(trainer, "dict_size"), "d": whole(trainer, "activation_dim")}
    saved = read_pickle(path / WEIGHTS)
    tensors = layout.take(WEIGHTS, saved, sizes)
    if name == "AutoEncoder":
        tensors = _of_norm_1(tensors)
    spec = DictionarySpec(
        name=wanted.name or path.resolve().name,
        subject=wanted.subject,
        revision=wanted.revision,
        read_site=wanted.chosen_site() or _site(trainer),
        encoder=Encoder(
            kind=kind, k=_k(trainer, saved) if kind in ("topk", "batchtopk") else None, subtract_b_dec=subtracts
        ),
        n_features=sizes["F"],
        source="dictionary_learning",
    )
    return Converted(
        spec, tensors, f"dictionary_learning {name}, trained on {trainer.get('lm_name') or 'an unnamed model'}"
    )


def _k(trainer: Mapping[str, Any], saved: Mapping[str, Tensor]) -> int:
    """Return how many features fire a token. Raises BadWeights where the two files differ."""
    k = whole(trainer, "k")
    if "k" in saved and int(saved["k"]) != k:
        raise BadWeights(f"k={int(saved['k'])} in {WEIGHTS} and {k} in {CONFIG}; must be the same")
    return k


def _of_norm_1(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    norms = torch.linalg.vector_norm(tensors["w_dec"].float(), dim=1)
    if torch.allclose(norms, torch.ones_like(norms)):
        return dict(tensors)
    norms = norms.clamp_min(torch.finfo(torch.float32).tiny)
    scaled = {
        "w_dec": tensors["w_dec"] / norms[:, None],
        "w_enc": tensors["w_enc"] * norms[:, None],
        "b_enc": tensors["b_enc"] * norms,
    }
    return {**tensors, **scaled}


def _site(trainer: Mapping[str, Any]) -> str:
    """Return the site that a trainer's configuration names. Raises UnknownSite."""
    layer, submodule = need(trainer, "layer"), trainer.get("submodule_name") or "resid_post"
    kind = next((kind for prefix, kind in _SUBMODULES.items() if str(submodule).startswith(prefix)), None)
    if kind is None or isinstance(layer, bool) or not isinstance(layer, int):
        raise UnknownSite(f"layer={layer!r}, submodule_name={submodule!r}; name the site with --site")
    return f"{kind}.{layer}"
