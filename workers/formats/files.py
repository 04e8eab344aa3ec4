"""What every format has in common: what the user asked for, what comes out, and how tensors are read and named."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from schema.errors import BadWeights, InvalidInput, ShapeMismatch, UnknownSite
from schema.records import DictionarySpec
from schema.subjects import SITE_KINDS, Site, SubjectFacts
from schema.weights import read_header

_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
# Of safetensors that are converted here; canonical ones are narrower. Whole numbers: the k of a topk dictionary.
_READABLE = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4}
_MATRICES = {"w_enc": "F", "w_dec": "F", "w_skip": "w"}  # the first axis of each in canonical form
MAX_JSON_BYTES = 10_000_000


@dataclass(frozen=True)
class Wanted:
    """What the user said of the files. None leaves it to the files.

    site:  `resid_post.14`, or a kind alone where `layer` gives the layer.
    facts: of the subject, where it is known on this machine.
    """

    subject: str
    name: str | None = None
    revision: str | None = None
    site: str | None = None
    layer: int | None = None
    norm_coefficient: float | None = None
    facts: SubjectFacts | None = None

    def chosen_site(self) -> str | None:
        """Return the site that the user named. Raises UnknownSite."""
        if self.site is None or self.layer is None:
            return None if self.site is None else str(Site.parse(self.site))
        if self.site not in SITE_KINDS:
            raise UnknownSite(f"site={self.site!r} with --layer {self.layer}; must be one of {', '.join(SITE_KINDS)}")
        return f"{self.site}.{self.layer}"


class Converted(NamedTuple):
    """A dictionary in canonical form, read when it is written.

    found:  says in a few words what it was.
    labels: what its authors call its features, by index, where they do.
    """

    spec: DictionarySpec
    tensors: Mapping[str, Tensor]
    found: str
    labels: Mapping[int, str] = {}


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object. Raises BadWeights."""
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise BadWeights(
                f"file={path.name!r} has {path.stat().st_size:,} bytes; at most {MAX_JSON_BYTES:,} are read"
            )
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as exc:
        raise BadWeights(f"file={path.name!r}; must be a JSON object: {exc}") from exc
    if not isinstance(value, dict):
        raise BadWeights(f"file={path.name!r}; must be a JSON object")
    return value


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file, which come into memory when they are used. Raises BadWeights."""
    if not path.is_file():
        raise BadWeights(f"file={path.name!r} is missing in {path.parent}; was the download finished?")
    read_header(path, _READABLE)  # before any library believes what the file says of itself
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (OSError, SafetensorError) as exc:
        raise BadWeights(f"file={path.name!r}; must be safetensors: {exc}") from exc


class Spot(NamedTuple):
    """What a tensor of some format is.

    name: its canonical name.
    axes: one letter an axis: F features, d the width that is read, w the width that is written (an autoencoder's is
          d); "" for a single number that holds for all features.
    """

    name: str
    axes: str


@dataclass(frozen=True)
class Layout:
    """The tensors of a format under its own names.

    optional: may be missing.
    ignored:  may be there and change nothing.
    """

    spots: Mapping[str, Spot]
    optional: Collection[str] = ()
    ignored: Collection[str] = field(default=())

    def take(self, file: str, tensors: Mapping[str, Tensor], sizes: Mapping[str, int]) -> dict[str, Tensor]:
        """Return the tensors under canonical names and the right way round.

        sizes:  what the configuration says of axes F, d and w; axes that it says nothing of need only agree.
        Raises: BadWeights, ShapeMismatch; both name the file, the tensor and what was expected.
        """
        self._check_names(file, tensors)
        bound = dict(sizes)
        found = {}
        for name, spot in sorted(self.spots.items(), key=lambda item: -len(item[1].axes)):  # matrices say most
            if name in tensors:
                _check_float(file, name, tensors[name])
                _check_shape(file, name, tensors[name], spot.axes, bound)
                found[spot.name] = _upright(tensors[name], spot, bound)
        return found

    def _check_names(self, file: str, tensors: Mapping[str, Tensor]) -> None:
        missing = [name for name in self.spots if name not in tensors and name not in self.optional]
        unknown = sorted(tensors.keys() - self.spots.keys() - set(self.ignored))
        if missing or unknown:
            wrong = " and ".join(
                f"{what}={', '.join(names)}" for what, names in (("missing", missing), ("unknown", unknown)) if names
            )
            raise BadWeights(f"file={file!r}; {wrong}; must have {', '.join(self.spots)}")


def _check_float(file: str, name: str, tensor: Tensor) -> None:
    if tensor.dtype not in _FLOATS:
        dtype = str(tensor.dtype).removeprefix("torch.")
        raise BadWeights(f"file={file!r}; tensor={name}; dtype={dtype} must be float32, float16, bfloat16 or float64")


def _check_shape(file: str, name: str, tensor: Tensor, axes: str, bound: dict[str, int]) -> None:
    """Raise ShapeMismatch unless a tensor has the axes; sizes that were not known are learnt from it."""
    shape = tuple(tensor.shape)
    if (axes == "" and tensor.numel() == 1) or _fits(shape, axes, bound):
        bound |= dict(zip(axes, shape, strict=False))
        return
    wanted = ", ".join(str(bound.get(axis, axis)) for axis in axes)
    turned = len(shape) == 2 and _fits(shape[::-1], axes, bound)
    hint = "; it is transposed: save it the other way round" if turned else ""
    raise ShapeMismatch(f"file={file!r}; {name}={list(shape)} must be [{wanted}]{hint}")


def _fits(shape: tuple[int, ...], axes: str, bound: Mapping[str, int]) -> bool:
    return len(shape) == len(axes) and all(
        size > 0 and bound.get(axis, size) == size for axis, size in zip(axes, shape, strict=True)
    )


def _upright(tensor: Tensor, spot: Spot, bound: Mapping[str, int]) -> Tensor:
    if spot.axes == "":
        return tensor.reshape(1).expand(bound["F"])
    turned = spot.name in _MATRICES and spot.axes[0] != _MATRICES[spot.name]
    return tensor.T if turned else tensor


def need(config: Mapping[str, Any], key: str) -> Any:
    """Return an entry that a format must have. Raises InvalidInput."""
    if config.get(key) is None:
        raise InvalidInput(f"{key}=None; the format's configuration must have it")
    return config[key]


def whole(config: Mapping[str, Any], key: str) -> int:
    """Return a positive whole number that a format must have. Raises InvalidInput."""
    value = need(config, key)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidInput(f"{key}={value!r}; must be a positive whole number")
    return value


def number(config: Mapping[str, Any], key: str) -> float:
    """Return a positive number that a format must have. Raises InvalidInput."""
    value = need(config, key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise InvalidInput(f"{key}={value!r}; must be a positive number")
    return float(value)
