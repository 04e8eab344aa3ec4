"""Plain directions: rows [N, d] in a .safetensors, .npy or .pt file, with a bias or thresholds where they have some.

Probes, difference-in-means, LAT and PCA components. a_i(x) = relu(x·v_i + b_i); the same rows are written. A file of a
rotation is a subspace, whose rows are read in `subspaces`.
"""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from schema.errors import BadWeights, ShapeMismatch, UnknownSite
from schema.records import DictionarySpec, Encoder
from workers.formats import subspaces
from workers.formats.arrays import read_array
from workers.formats.files import Converted, Layout, Spot, Wanted, read_tensors
from workers.formats.pickles import SUFFIXES, read_pickle

NAME = "directions (.safetensors, .npy, .pt)"
_BIASES = ("bias", "b", "b_enc")
_THRESHOLDS = ("threshold", "thresholds")


def recognises(path: Path) -> bool:
    """Return whether a path is a file that may hold directions."""
    return path.is_file() and path.suffix in (".safetensors", ".npy", *SUFFIXES)


def convert(path: Path, wanted: Wanted) -> Converted:
    """Return directions in canonical form. Raises UnknownSite without a site, BadWeights, ShapeMismatch."""
    tensors = _read(path)
    if subspaces.is_subspace(tensors):
        return subspaces.convert(path, tensors, wanted)
    site = wanted.chosen_site()
    if site is None:
        raise UnknownSite("site=None; directions do not say where they are read: give --site, such as resid_post.14")
    found = _named(path.name, tensors)
    spec = DictionarySpec(
        name=wanted.name or path.stem,
        subject=wanted.subject,
        revision=wanted.revision,
        read_site=site,
        encoder=Encoder(kind="linear"),
        n_features=len(found["w_dec"]),
        source="directions",
    )
    return Converted(spec, found, "plain directions" + (" with a bias" if "b_enc" in found else ""))


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".npy":
        return {path.stem: read_array(path)}
    return read_pickle(path) if path.suffix in SUFFIXES else read_tensors(path)


def _named(file: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors by what they are: the rows may have any name, the others must have a known one."""
    spots = {
        name: Spot(canonical, "F")
        for canonical, names in (("b_enc", _BIASES), ("threshold", _THRESHOLDS))
        for name in names
        if name in tensors
    }
    rows = sorted(tensors.keys() - spots.keys())
    if len(rows) != 1 or len({spot.name for spot in spots.values()}) < len(spots):
        listed = ", ".join(sorted(tensors)[:10]) or "none"
        raise BadWeights(
            f"file={file!r}; tensors={listed}; must be one [N, d] tensor, and optionally a bias and a threshold [N]"
        )
    flat = {name: tensors[name].reshape(-1) for name in spots}
    return Layout(spots | {rows[0]: Spot("w_dec", "Fd")}).take(
        file, flat | {rows[0]: _rows(file, tensors[rows[0]])}, {}
    )


def _rows(file: str, tensor: Tensor) -> Tensor:
    if tensor.ndim == 1:
        tensor = tensor[None]
    if tensor.ndim != 2 or not tensor.numel():
        raise ShapeMismatch(f"file={file!r}; directions={list(tensor.shape)}; must be [N, d]")
    return tensor
