"""LoReFT and DAS subspaces: a rotation R [k, d] with orthonormal rows, and of LoReFT W [k, d] and b [k].

One feature a row. LoReFT adds R^T (W h + b - R h), so row i writes r_i as far as (w_i - r_i)·h + b_i says; that is its
activation where it is positive. A row of DAS is read and written as a plain direction. What is read here is not the
subspace as one feature: it has no direction of its own.
Source: the state dicts of pyreft's LoreftIntervention and of pyvene's rotations.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from schema.errors import BadWeights, UnknownSite
from schema.records import DictionarySpec, Encoder
from workers.formats.files import Converted, Layout, Spot, Wanted

NAME = "a LoReFT or DAS subspace"
_UPRIGHT = ("R", "rotate")  # rows first; pyvene's layers have them as columns
_LAYERS = ("rotate_layer", "rotate_layer.weight")
_ORIGINAL, _BASE = "rotate_layer.parametrizations.weight.original", "rotate_layer.parametrizations.weight.0.base"
_SOURCES = {"weight": "W", "bias": "b", "learned_source.weight": "W", "learned_source.bias": "b", "W": "W", "b": "b"}
_UNUSED = ("embed_dim", "interchange_dim", "subspace")
_TOLERANCE = 0.02  # of rows' products: bf16 has 8 bits


def is_subspace(tensors: Mapping[str, Tensor]) -> bool:
    """Return whether tensors are those of a subspace."""
    return any(name in tensors for name in (*_UPRIGHT, *_LAYERS, _ORIGINAL))


def convert(file: Path, tensors: Mapping[str, Tensor], wanted: Wanted) -> Converted:
    """Return the rows of a subspace in canonical form. Raises UnknownSite without a site, BadWeights, ShapeMismatch."""
    site = wanted.chosen_site()
    if site is None:
        raise UnknownSite("site=None; a subspace does not say where it is read: give --site, such as resid_post.14")
    rest = {name: tensor for name, tensor in tensors.items() if name not in _UNUSED}
    rows = _orthonormal(file.name, _rotation(rest))
    learnt = {_SOURCES.get(name, name): tensor for name, tensor in rest.items()}
    canonical = {"w_dec": rows}
    if learnt:
        spots = {"W": Spot("w_enc", "Fd"), "b": Spot("b_enc", "F")}
        source = Layout(spots).take(file.name, learnt, {"F": len(rows), "d": rows.shape[1]})
        canonical |= {"w_enc": source["w_enc"].float() - rows, "b_enc": source["b_enc"]}
    spec = DictionarySpec(
        name=wanted.name or file.stem,
        subject=wanted.subject,
        revision=wanted.revision,
        read_site=site,
        encoder=Encoder(kind="linear"),
        n_features=len(rows),
        source="loreft" if learnt else "das",
    )
    return Converted(spec, canonical, f"the {len(rows)} rows of a {'LoReFT' if learnt else 'DAS'} subspace")


def _rotation(tensors: dict[str, Tensor]) -> Tensor:
    """Return R (k, d), taken out of the tensors."""
    for name in _UPRIGHT:
        if name in tensors:
            return tensors.pop(name)
    for name in _LAYERS:
        if name in tensors:
            return tensors.pop(name).T
    return _parametrized(tensors.pop(_ORIGINAL), tensors.pop(_BASE, None)).T


def _parametrized(original: Tensor, base: Tensor | None) -> Tensor:
    """Return the orthogonal weight that torch's parametrization makes of what is saved of it."""
    layer = nn.Module()
    layer.weight = nn.Parameter(torch.zeros_like(original))
    nn.init.orthogonal_(layer.weight)
    nn.utils.parametrizations.orthogonal(layer)
    state = {"parametrizations.weight.original": original}
    layer.load_state_dict(state if base is None else state | {"parametrizations.weight.0.base": base})
    with torch.no_grad():
        return torch.as_tensor(layer.weight).detach()


def _orthonormal(file: str, rows: Tensor) -> Tensor:
    rows = Layout({"R": Spot("w_dec", "Fd")}).take(file, {"R": rows}, {})["w_dec"].float()
    if len(rows) > rows.shape[1] or not torch.allclose(rows @ rows.T, torch.eye(len(rows)), atol=_TOLERANCE):
        raise BadWeights(f"file={file!r}; the rows of the rotation {list(rows.shape)} must be orthonormal")
    return rows
