"""Records as small bytes: one compressed blob per feature and kind of evidence.

What a record repeats is brought together before it is compressed, as column stores do: a list of records becomes one
column per field, a list of lists becomes its lengths and one list, and every column is stored by itself: numbers in the
narrowest type that holds them exactly, all their low bytes before all their high ones; texts in a row.
What has no such form stays JSON, so that any record goes in and comes out as it was.

A packed record is a version byte and a zstandard frame of: length of the header (4 bytes), header (JSON), columns.
"""

import json
import struct
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import zstandard
from numpy.typing import NDArray

from schema.errors import GlossariumError
from schema.records import Record

VERSION = 1
_LEVEL = 12  # above, bytes hardly shrink and packing slows down
_FLOATS = ("<f2", "<f4", "<f8")
_INTEGERS = ("|u1", "<i2", "<u4", "<i8")
_MARK, _SPACE = "\x1f", "\x1e"  # begins a text; stands for a space within one
_LENGTH = struct.Struct("<I")

# A node of the header says where the values of one place in the record are:
# {"d": {field: node}}          objects with the same fields
# {"l": node, "v": node}        lists: their lengths, their elements in a row
# {"t": n_bytes}                texts in a row, each after a mark or beginning with its first space
# {"c": dtype}                  numbers
# {"j": values}                 anything else
Node = dict[str, Any]
R = TypeVar("R", bound=Record)


def pack(record: Record) -> bytes:
    """Return a record as compressed bytes; equal records are equal bytes."""
    columns: list[bytes] = []
    node = _shred([record.model_dump(mode="json")], columns)
    header = json.dumps(node, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")
    body = b"".join([_LENGTH.pack(len(header)), header, *columns])
    return bytes([VERSION]) + zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).compress(body)


def unpack(cls: type[R], data: bytes) -> R:
    """Return the record that `pack` made these bytes of. Raises GlossariumError on any other bytes."""
    if data[:1] != bytes([VERSION]):
        raise GlossariumError(
            f"a packed record of version {data[:1].hex() or 'none'}; this installation reads {VERSION:02x}"
        )
    try:
        body = zstandard.ZstdDecompressor().decompress(data[1:])
    except zstandard.ZstdError as exc:
        raise GlossariumError(f"a packed record of {len(data)} bytes is damaged: {exc}") from exc
    (n_bytes,) = _LENGTH.unpack_from(body)
    node = json.loads(body[_LENGTH.size : _LENGTH.size + n_bytes].decode("utf-8", "surrogatepass"))
    (value,) = _Reader(body, _LENGTH.size + n_bytes).join(node, 1)
    return cls.model_validate(value)


def _shred(values: Sequence[Any], columns: list[bytes]) -> Node:
    """Return the node of values that stand at the same place, and append their columns."""
    kinds = {type(value) for value in values}
    kind = kinds.pop() if len(kinds) == 1 else None
    if kind is dict and len({tuple(value) for value in values}) == 1:
        return {"d": {field: _shred([value[field] for value in values], columns) for field in values[0]}}
    if kind is list:
        lengths = _shred([len(value) for value in values], columns)
        return {"l": lengths, "v": _shred([element for value in values for element in value], columns)}
    if kind is str and (text := _joined(values)) is not None:
        columns.append(text.encode("utf-8", "surrogatepass"))
        return {"t": len(columns[-1])}
    dtypes = {float: _FLOATS, int: _INTEGERS}.get(kind, ()) if kind is not None else ()
    for dtype in dtypes:
        if (narrow := _narrowed(values, dtype)) is not None:
            columns.append(_shuffled(narrow))
            return {"c": dtype}
    return {"j": list(values)}


def _joined(texts: Sequence[str]) -> str | None:
    """Return texts as one, or None where they hold a mark.

    Most tokens begin with a space and hold no other one, so that spaces tell where they begin. This is a tenth smaller
    than lengths beside the text.
    """
    if any(_MARK in text or _SPACE in text for text in texts):
        return None
    return "".join(
        " " + text[1:].replace(" ", _SPACE) if text.startswith(" ") else _MARK + text.replace(" ", _SPACE)
        for text in texts
    )


def _parted(joined: str) -> list[str]:
    texts = joined.replace(" ", _MARK + " ").split(_MARK)[1:]
    return [text.replace(_SPACE, " ") for text in texts] if _SPACE in joined else texts


def _narrowed(values: Sequence[float] | Sequence[int], dtype: str) -> NDArray[Any] | None:
    """Return the numbers in a narrow type if every one comes back with the same bits, else None."""
    kind = np.dtype(dtype)
    if kind.kind in "iu":
        limits = np.iinfo(kind)
        inside = not values or (min(values) >= limits.min and max(values) <= limits.max)
        return np.array(values, dtype=kind) if inside else None
    wide = np.array(values, dtype="<f8")
    with np.errstate(over="ignore", invalid="ignore"):
        narrow = wide.astype(kind)
    return narrow if np.array_equal(narrow.astype("<f8").view("<u8"), wide.view("<u8")) else None


def _shuffled(column: NDArray[Any]) -> bytes:
    return column.view("|u1").reshape(len(column), -1).T.tobytes()


class _Reader:
    """Reads columns one after the other, in the order in which they were written."""

    def __init__(self, body: bytes, start: int) -> None:
        self._body = body
        self._at = start

    def join(self, node: Node, n: int) -> list[Any]:
        """Return the n values of a node."""
        if "d" in node:
            fields = {field: self.join(child, n) for field, child in node["d"].items()}
            return [{field: values[i] for field, values in fields.items()} for i in range(n)]
        if "l" in node:
            lengths = self.join(node["l"], n)
            return list(_split(self.join(node["v"], sum(lengths)), lengths))
        if "t" in node:
            return _parted(self._take(node["t"]).decode("utf-8", "surrogatepass"))
        if "c" in node:
            dtype = np.dtype(node["c"])
            planes = np.frombuffer(self._take(n * dtype.itemsize), dtype="|u1").reshape(dtype.itemsize, n)
            return planes.T.copy().view(dtype).reshape(n).tolist()
        return list(node["j"])

    def _take(self, n_bytes: int) -> bytes:
        taken = self._body[self._at : self._at + n_bytes]
        self._at += n_bytes
        return taken


def _split(values: Any, lengths: list[int]) -> Iterator[Any]:
    start = 0
    for length in lengths:
        yield values[start : start + length]
        start += length
