"""Plain directions: rows [N, d] in a .safetensors or .npy file, with a bias or thresholds where they have some.

Probes, difference-in-means, DAS rows. a_i(x) = relu(x·v_i + b_i); the same rows are written.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from schema.errors import BadWeights, ShapeMismatch, UnknownSite
from schema.records import DictionarySpec, Encoder
from workers.formats.files import Converted, Wanted, read_tensors

_BIASES = ("bias", "b", "b_enc")
_THRESHOLDS = ("threshold", "thresholds")


def recognises(path: Path) -> bool:
    """Return whether a path is a file that may hold directions."""
    return path.is_file() and path.suffix in (".safetensors", ".npy")


def convert(path: Path, wanted: Wanted) -> Converted:
    """Return directions in canonical form. Raises UnknownSite without a site, BadWeights, ShapeMismatch."""
    site = wanted.chosen_site()
    if site is None:
        raise UnknownSite("site=None; directions do not say where they are read: give --site, such as resid_post.14")
    tensors = _read_npy(path) if path.suffix == ".npy" else _named(read_tensors(path))
    spec = DictionarySpec(
        name=wanted.name or path.stem,
        subject=wanted.subject,
        revision=wanted.revision,
        read_site=site,
        encoder=Encoder(kind="linear"),
        n_features=len(tensors["w_dec"]),
        source="directions",
    )
    return Converted(spec, tensors, "plain directions" + (" with a bias" if "b_enc" in tensors else ""))


def _read_npy(path: Path) -> dict[str, Tensor]:
    try:
        rows = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as exc:
        raise BadWeights(f"file={path.name!r}; must be a .npy array of numbers: {exc}") from exc
    if rows.dtype.kind != "f":
        raise BadWeights(f"file={path.name!r}; dtype={rows.dtype} must be a float")
    return {"w_dec": _rows(torch.from_numpy(rows.astype(np.float32)))}


def _named(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors by what they are: the rows may have any name, the others must have a known one."""
    rest = dict(tensors)
    found = {}
    for canonical, names in (("b_enc", _BIASES), ("threshold", _THRESHOLDS)):
        for name in names:
            if name in rest:
                found[canonical] = rest.pop(name).reshape(-1)
    if len(rest) != 1:
        listed = ", ".join(sorted(rest)) or "none"
        raise BadWeights(f"tensors={listed}; must be one [N, d] tensor, and optionally a bias and a threshold [N]")
    return found | {"w_dec": _rows(next(iter(rest.values())))}


def _rows(tensor: Tensor) -> Tensor:
    if tensor.ndim == 1:
        tensor = tensor[None]
    if tensor.ndim != 2 or not tensor.numel():
        raise ShapeMismatch(f"directions={list(tensor.shape)}; must be [N, d]")
    return tensor
