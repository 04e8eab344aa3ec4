"""Exemplars on their way between workers: blocks of features, each a compressed frame of its own.

Whoever writes, reads or merges holds one block at a time, so a dictionary may have any number of features. A frame is
its length (8 bytes, little endian) and a zstandard frame of safetensors.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from functools import reduce
from typing import IO

import safetensors.torch
import torch
import zstandard
from torch import Tensor

from schema.errors import GlossariumError
from workers.methods.contexts import Contexts
from workers.methods.exemplars import Corpus, ExemplarAccumulator, ExemplarOptions, Lists, Watched, merge
from workers.methods.slots import Slots
from workers.methods.tally import Tally
from workers.methods.windows import DESCRIBE, SCORE

_FORMAT = 2
_LEVEL = 3
_LENGTH_BYTES = 8


def frames(blocks: Iterable[ExemplarAccumulator]) -> Iterator[bytes]:
    """Yield the bytes of a file of blocks."""
    for block in blocks:
        data = to_bytes(block)
        yield len(data).to_bytes(_LENGTH_BYTES, "little")
        yield data


def read_blocks(file: IO[bytes], device: torch.device | str = "cpu") -> Iterator[ExemplarAccumulator]:
    """Yield the blocks of a file. Raises GlossariumError where it is none, or not whole."""
    while length := file.read(_LENGTH_BYTES):
        yield from_bytes(file.read(int.from_bytes(length, "little")), device)


def merge_blocks(parts: Iterable[Iterable[ExemplarAccumulator]]) -> Iterator[ExemplarAccumulator]:
    """Yield the blocks of what all parts have seen together; the parts are of the same features."""
    for blocks in zip(*parts, strict=True):
        yield reduce(merge, blocks)


def to_bytes(seen: ExemplarAccumulator) -> bytes:
    """Return the whole state, compressed; equal states are equal bytes."""
    tensors = {name: tensor.cpu().contiguous() for name, tensor in _tensors(seen).items()}
    header = {
        "format": _FORMAT,
        "first": seen.watched.first,
        "n_tokens": seen.n_tokens,
        "options": asdict(seen.options),
    }
    packed = safetensors.torch.save(tensors, {"exemplars": json.dumps(header, sort_keys=True)})
    return zstandard.ZstdCompressor(level=_LEVEL).compress(packed)


def from_bytes(data: bytes, device: torch.device | str = "cpu") -> ExemplarAccumulator:
    """Return the accumulator that `to_bytes` was called on. Raises GlossariumError on anything else."""
    try:
        packed = zstandard.ZstdDecompressor().decompress(data)
        header = json.loads(_metadata(packed)["exemplars"])
        tensors = safetensors.torch.load(packed)
    except (zstandard.ZstdError, safetensors.SafetensorError, ValueError, KeyError) as exc:
        raise GlossariumError(f"{len(data)} bytes that are no stored exemplars: {exc}") from exc
    if header["format"] != _FORMAT:
        raise GlossariumError(f"stored exemplars of format {header['format']}; this version reads {_FORMAT}")

    def taken(name: str) -> Tensor:
        return tensors[name].to(device)

    lists = [
        Lists(*(Slots(*(taken(f"{split}.{name}.{field}") for field in Slots._fields)) for name in Lists._fields))
        for split in (DESCRIBE, SCORE)
    ]
    return ExemplarAccumulator(
        Watched(header["first"], taken("thresholds"), taken("neighbours")),
        ExemplarOptions(**header["options"]),
        Tally(*(taken(f"counts.{field}") for field in Tally._fields)),
        lists,
        Corpus(header["n_tokens"], Contexts(*(tensors[f"contexts.{field}"] for field in Contexts._fields))),
    )


def _tensors(seen: ExemplarAccumulator) -> dict[str, Tensor]:
    tensors = {"thresholds": seen.watched.thresholds, "neighbours": seen.watched.neighbours}
    tensors |= {f"counts.{field}": getattr(seen.counts, field) for field in Tally._fields}
    tensors |= {f"contexts.{field}": tensor for field, tensor in seen.contexts()._asdict().items()}
    for split, lists in enumerate(seen.lists):
        for name, kept in zip(Lists._fields, lists, strict=True):
            tensors |= {f"{split}.{name}.{field}": tensor for field, tensor in kept.ordered()._asdict().items()}
    return tensors


def _metadata(packed: bytes) -> dict[str, str]:
    length = int.from_bytes(packed[:8], "little")
    metadata: dict[str, str] = json.loads(packed[8 : 8 + length])["__metadata__"]
    return metadata
