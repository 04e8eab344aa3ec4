"""Checks a file of canonical weights before anything is computed with it, without torch.

Canonical weights are safetensors in float32, float16 or bfloat16: `w_dec` (F, d_write); `w_enc` (F, d_read), `b_enc`
(F,), `b_dec` (d_write,), `threshold` (F,); gated dictionaries have `b_gate`, `b_mag` and `r_mag` (F,) for `b_enc`;
transcoders may have `w_skip` (d_write, d_read), which is added to what they write and belongs to no feature.
Which ones an encoder needs is in `needed_tensors`. The header is read here by hand: a file from outside is not trusted
to say how much memory it needs, and an API has no torch.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from schema.errors import BadWeights, NotFinite, ShapeMismatch
from schema.records import DictionarySpec, Encoder, EncoderKind

MAX_HEADER_BYTES = 1_000_000  # the format allows 100 MB; no dictionary has more than a dozen tensors
_CHUNK = 2**22  # values checked at a time
_SIZES = {"F32": 4, "F16": 2, "BF16": 2}


class TensorEntry(NamedTuple):
    """Where a tensor is in a file: bytes from `start` to `end`."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


class Needed(NamedTuple):
    """Names of tensors that a file must and may have."""

    required: frozenset[str]
    optional: frozenset[str]


_NEEDED: Mapping[EncoderKind, Needed] = {
    "relu": Needed(frozenset({"w_enc", "b_enc", "w_dec"}), frozenset({"b_dec", "w_skip"})),
    "topk": Needed(frozenset({"w_enc", "b_enc", "w_dec"}), frozenset({"b_dec", "w_skip"})),
    "batchtopk": Needed(frozenset({"w_enc", "b_enc", "w_dec", "threshold"}), frozenset({"b_dec", "w_skip"})),
    "jumprelu": Needed(frozenset({"w_enc", "b_enc", "w_dec", "threshold"}), frozenset({"b_dec", "w_skip"})),
    "gated": Needed(frozenset({"w_enc", "b_gate", "b_mag", "r_mag", "w_dec"}), frozenset({"b_dec"})),
    "linear": Needed(frozenset({"w_dec"}), frozenset({"w_enc", "b_enc", "threshold", "b_dec"})),
    "neurons": Needed(frozenset(), frozenset()),
}


def needed_tensors(encoder: Encoder) -> Needed:
    """Return which tensors the weights of an encoder must and may have."""
    needed = _NEEDED[encoder.kind]
    if encoder.subtract_b_dec and encoder.kind != "neurons":
        return Needed(needed.required | {"b_dec"}, needed.optional - {"b_dec"})
    return needed


def check_encoder(spec: DictionarySpec) -> None:
    """Raise BadWeights where an encoder lacks a number that its kind needs, or has one that it can't use."""
    encoder = spec.encoder
    if encoder.kind == "topk" and not (encoder.k and encoder.k <= spec.n_features):
        raise BadWeights(f"k={encoder.k}; a topk encoder needs k in 1..{spec.n_features}")
    if encoder.normalize == "expected_average_only_in" and encoder.norm_coefficient is None:
        raise BadWeights("norm_coefficient=None; expected_average_only_in needs the factor that inputs are scaled by")
    if encoder.rescale_acts_by_decoder_norm and encoder.kind not in ("relu", "topk", "batchtopk", "jumprelu"):
        raise BadWeights(f"rescale_acts_by_decoder_norm=True; a {encoder.kind} encoder does not use it")
    if encoder.kind == "neurons" and (encoder.subtract_b_dec or encoder.normalize != "none"):
        raise BadWeights("neurons are read as they are; leave out subtract_b_dec and normalize")


def check_weights(path: Path, spec: DictionarySpec, d_read: int | None, d_write: int | None) -> None:
    """Return if the file holds finite weights that fit the spec and the widths of its sites.

    d_read, d_write: None where only the loaded subject knows (module paths); then they must only be consistent.
    Raises: BadWeights, ShapeMismatch, NotFinite (naming the tensor and its first bad index).
    """
    check_encoder(spec)
    if spec.encoder.kind == "neurons":
        raise BadWeights("encoder=neurons; neurons are read from the subject and have no weights file")
    entries = read_header(path)
    _check_names(entries, needed_tensors(spec.encoder))
    _check_shapes(entries, spec, d_read, d_write)
    _check_finite(path, entries)


def read_header(path: Path, dtypes: Mapping[str, int] = _SIZES) -> dict[str, TensorEntry]:
    """Return the tensors of a safetensors file by name. Raises BadWeights unless they fill the file exactly.

    dtypes: those that may be in it, with the bytes of a value.
    """
    n_bytes = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if len(start) < 8 or length > MAX_HEADER_BYTES:
            raise BadWeights(f"file={path.name!r}; {_what_it_is(start, MAX_HEADER_BYTES < length <= n_bytes)}")
        if 8 + length > n_bytes:
            raise BadWeights(f"file={path.name!r} is truncated: {n_bytes} bytes, its header alone needs {8 + length}")
        header = _parse(file.read(length), path.name)
    named = {name: item for name, item in header.items() if name != "__metadata__"}
    try:
        entries = [_entry(name, item, 8 + length, dtypes) for name, item in named.items()]
        _check_offsets(entries, 8 + length, n_bytes)
    except BadWeights as exc:
        raise BadWeights(f"file={path.name!r}; {exc}") from exc
    return {entry.name: entry for entry in entries}


def _what_it_is(start: bytes, fits: bool) -> str:
    """Return what is wrong with a file whose first 8 bytes are no length of a header, or of one that is too long."""
    if re.match(rb"\x80[\x02-\x05]|PK", start):
        return "this is a pickle (or a zip of one); convert it with glossarium submit"
    if start == b"version ":
        return "this is a pointer of git LFS, and not the file that it stands for; fetch it with git lfs pull"
    if fits:
        return f"its header has {int.from_bytes(start, 'little'):,} bytes; at most {MAX_HEADER_BYTES:,} are read"
    return "must be safetensors: its first 8 bytes are no header length"


def _parse(text: bytes, name: str) -> dict[str, Any]:
    try:
        header = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as exc:
        raise BadWeights(f"file={name!r}; must be safetensors: its header is no JSON: {exc}") from exc
    if not isinstance(header, dict):
        raise BadWeights(f"file={name!r}; must be safetensors: its header is no JSON object")
    return header


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) < len(pairs):
        raise ValueError("a name stands twice")
    return dict(pairs)


def _entry(name: str, item: Any, base: int, dtypes: Mapping[str, int]) -> TensorEntry:
    if not isinstance(item, dict):
        raise BadWeights(f"tensor={name}; its header entry must be an object")
    dtype: Any = item.get("dtype")
    shape: Any = item.get("shape")
    offsets: Any = item.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in dtypes:
        raise BadWeights(f"tensor={name}; dtype={dtype!r} must be one of {', '.join(dtypes)}")
    if not (_naturals(shape) and _naturals(offsets) and len(offsets) == 2):
        raise BadWeights(f"tensor={name}; shape={shape!r} and data_offsets={offsets!r} must be whole numbers")
    start, end = offsets
    if end - start != (needed := math.prod(shape) * dtypes[dtype]):
        raise BadWeights(f"tensor={name}; data_offsets={offsets!r} must span {needed} bytes for {dtype} {shape!r}")
    return TensorEntry(name, dtype, tuple(shape), base + start, base + end)


def _naturals(values: Any) -> bool:
    return isinstance(values, list) and all(type(v) is int and v >= 0 for v in values)


def _check_offsets(entries: list[TensorEntry], start: int, n_bytes: int) -> None:
    """Raise BadWeights unless the tensors stand one after the other, from the header to the end of the file."""
    for entry in sorted(entries, key=lambda e: (e.start, e.end)):
        if entry.start != start:
            raise BadWeights(f"tensor={entry.name}; begins at byte {entry.start}, where the one before ends at {start}")
        start = entry.end
    if start > n_bytes:
        raise BadWeights(f"it is truncated: {n_bytes} bytes, its header needs {start}")
    if start < n_bytes:
        raise BadWeights(f"it has {n_bytes - start} bytes after its last tensor")


def _check_names(entries: Mapping[str, TensorEntry], needed: Needed) -> None:
    if missing := sorted(needed.required - entries.keys()):
        raise BadWeights(f"missing={', '.join(missing)}; this encoder needs {', '.join(sorted(needed.required))}")
    if unknown := sorted(entries.keys() - needed.required - needed.optional):
        known = ", ".join(sorted(needed.required | needed.optional))
        raise BadWeights(f"unknown={', '.join(unknown)}; this encoder has {known}")


def _check_shapes(
    entries: Mapping[str, TensorEntry], spec: DictionarySpec, d_read: int | None, d_write: int | None
) -> None:
    d_write = d_write if d_write is not None else _second(entries["w_dec"])
    if d_read is None:
        same = spec.write_site is None or spec.write_site == spec.read_site
        d_read = _second(entries["w_enc"]) if "w_enc" in entries and not same else d_write
    if (spec.encoder.subtract_b_dec or "w_enc" not in entries) and d_read != d_write:
        raise ShapeMismatch(f"d_read={d_read}, d_write={d_write}; must be equal where b_dec or w_dec is also read with")
    expected = {"w_dec": (spec.n_features, d_write), "w_enc": (spec.n_features, d_read), "b_dec": (d_write,)}
    expected["w_skip"] = (d_write, d_read)
    for entry in sorted(entries.values(), key=lambda e: -len(e.shape)):  # matrices first: they say most
        if entry.shape != (shape := expected.get(entry.name, (spec.n_features,))):
            raise ShapeMismatch(f"{entry.name}={list(entry.shape)}; must be {list(shape)}")


def _second(entry: TensorEntry) -> int:
    return entry.shape[1] if len(entry.shape) == 2 else 0


def _check_finite(path: Path, entries: Mapping[str, TensorEntry]) -> None:
    for entry in sorted(entries.values(), key=lambda e: e.start):
        for first, finite in _finite_chunks(path, entry):
            if not finite.all():
                index = np.unravel_index(first + int(np.argmin(finite)), entry.shape)
                raise NotFinite(f"{entry.name}[{', '.join(str(int(i)) for i in index)}] is NaN or infinite")


def _finite_chunks(path: Path, entry: TensorEntry) -> Iterator[tuple[int, NDArray[np.bool_]]]:
    """Yield (index of the first value, which values are finite), a few MB at a time."""
    size = _SIZES[entry.dtype]
    with path.open("rb") as file:
        file.seek(entry.start)
        for first in range(0, (entry.end - entry.start) // size, _CHUNK):
            count = min(_CHUNK, (entry.end - entry.start) // size - first)
            yield first, _finite(file.read(count * size), entry.dtype)


def _finite(values: bytes, dtype: str) -> NDArray[np.bool_]:
    finite: NDArray[np.bool_]
    if dtype == "BF16":  # numpy has no bfloat16: all exponent bits set means NaN or infinite
        finite = (np.frombuffer(values, "<u2") & 0x7F80) != 0x7F80
    else:
        finite = np.isfinite(np.frombuffer(values, "<f4" if dtype == "F32" else "<f2"))
    return finite
