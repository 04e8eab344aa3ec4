"""Writes what a format was converted to: spec.json and weights.safetensors, a few MB of weights in memory at a time."""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, NamedTuple

import torch
from torch import Tensor

from schema.errors import BadWeights, GlossariumError, UnknownSubject
from schema.records import DictionarySpec
from schema.settings import Settings
from schema.subjects import Site, SubjectFacts, subject_facts, width
from schema.weights import check_encoder, check_weights
from workers.formats.files import Converted

SPEC, WEIGHTS, LABELS = "spec.json", "weights.safetensors", "labels.jsonl"
_BYTES_AT_ONCE = 2**26
_NAMES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64", torch.int32: "I32"}


def write_converted(converted: Converted, out: Path, settings: Settings) -> None:
    """Write a dictionary to a folder, and check it against the subject where that is known on this machine.

    Neurons have no weights.safetensors. labels.jsonl is there where the format names its features.
    Raises: UnknownSite, BadWeights, ShapeMismatch, NotFinite. Nothing is left in the folder then.
    """
    out.mkdir(parents=True, exist_ok=True)
    _clear(out)
    try:
        _write(converted, out, settings)
    except GlossariumError:
        _clear(out)
        raise


def facts_here(subject: str, settings: Settings) -> SubjectFacts | None:
    """Return what is known of a subject on this machine; None for one that only its installation knows.

    Raises: UnknownSubject for a folder or a bundled subject that is not there.
    """
    try:
        return subject_facts(subject, settings)
    except UnknownSubject:
        if subject.startswith(("bundled:", "/", ".")):
            raise
        return None  # a Hugging Face id: the installation that takes the dictionary checks it


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file, of tensors that may be views of files: never more than some rows in memory.

    Raises: BadWeights naming a tensor that is not of numbers as weights are.
    """
    header: dict[str, object] = {}
    at = 0
    for name, tensor in tensors.items():
        if tensor.dtype not in (*_NAMES, torch.float64):
            dtype = str(tensor.dtype).removeprefix("torch.")
            raise BadWeights(f"tensor={name}; dtype={dtype} must be float32, float16, bfloat16 or float64")
        n_bytes = math.prod(tensor.shape) * _kept(tensor).itemsize
        header[name] = {"dtype": _NAMES[_kept(tensor)], "shape": list(tensor.shape), "data_offsets": [at, at + n_bytes]}
        at += n_bytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors.values():
            _write_rows(file, tensor)


def _write(converted: Converted, out: Path, settings: Settings) -> None:
    check_encoder(converted.spec)
    widths = _widths(converted.spec, settings)
    if converted.tensors:
        save_tensors(out / WEIGHTS, converted.tensors)
        check_weights(out / WEIGHTS, converted.spec, widths.read, widths.write)
    if converted.labels:
        with (out / LABELS).open("w", encoding="utf-8") as file:
            for index, text in converted.labels.items():
                file.write(json.dumps({"feature": index, "text": text}, ensure_ascii=False) + "\n")
    spec = converted.spec.model_dump(mode="json", exclude_defaults=True)
    (out / SPEC).write_text(json.dumps(spec, indent=1) + "\n", "utf-8")


def _clear(out: Path) -> None:
    for name in (SPEC, WEIGHTS, LABELS):
        (out / name).unlink(missing_ok=True)


def _kept(tensor: Tensor) -> torch.dtype:
    """Return the dtype that a tensor is written in: its own where canonical weights have it, else float32."""
    return tensor.dtype if tensor.dtype in _NAMES else torch.float32


def _write_rows(file: IO[bytes], tensor: Tensor) -> None:
    for rows in _in_rows(tensor.reshape(1) if tensor.ndim == 0 else tensor):
        block = rows.to(_kept(tensor)).contiguous()
        file.write(block.view(torch.uint8).numpy().data.cast("B"))


def _in_rows(tensor: Tensor) -> Iterator[Tensor]:
    row_bytes = max(1, tensor[:1].numel() * _kept(tensor).itemsize)
    yield from torch.split(tensor, max(1, _BYTES_AT_ONCE // row_bytes))


class _Widths(NamedTuple):
    read: int | None
    write: int | None


def _widths(spec: DictionarySpec, settings: Settings) -> _Widths:
    """Return the widths of the read and the write site, where the subject is known on this machine."""
    read, write = Site.parse(spec.read_site), Site.parse(spec.write_site or spec.read_site)
    facts = facts_here(spec.subject, settings)
    return _Widths(None, None) if facts is None else _Widths(width(facts, read), width(facts, write))
