"""Records as small bytes: one compressed blob per feature and kind of evidence.

What a record repeats is brought together before it is compressed, as column stores do: objects with the same fields
become one table, wherever in the record they stand, and equal ones one row of it; a table becomes one column per field,
a list of lists becomes its lengths and one list, and every column is stored by itself: numbers in the narrowest type
that holds them exactly, all their low bytes before all their high ones, zeros left out where most are; texts in a row.
What has no such form stays JSON, so that any record goes in and comes out as it was.

A packed record is a version byte and a zstandard frame of: length of the header (4 bytes), header (JSON), columns. The
version also says which dictionary the frame was made with: `data/packing.vN.zdict`, trained on evidence of MLP neurons
on the bundled corpus (`tests/benchmarks/training.py`). Texts alone are packed without a header.
"""

import json
import struct
from collections.abc import Container, Iterator, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple, TypeVar

import numpy as np
import zstandard
from numpy.typing import NDArray

from schema.errors import GlossariumError
from schema.records import Record

VERSION = 3
_LEVEL = 19
_FLOATS = ("<f2", "<f4", "<f8")
_INTEGERS = ("|u1", "<i2", "<u4", "<i8")
_MARK, _SPACE = "\x1f", "\x1e"  # begins a text; stands for a space within one
_LENGTH = struct.Struct("<I")
_MOST_BYTES = 2**26
"""Of a body; real ones have some ten thousand. What is imported may say anything of its size."""
_MOST_VALUES = 2**20
"""In the columns of a record, and of objects in it; real ones have some ten thousand."""

# The header is [table, tables]; the last row of that table is the record. A table is [n_rows, {field: node}].
# A node says where the values of a column are:
# {"l": node, "v": node}        lists: their lengths, their elements in a row
# {"r": table, "v": node}       objects: their rows in a table
# {"t": n_bytes}                texts in a row, each after a mark or beginning with its first space
# {"c": dtype}                  numbers
# {"c": dtype, "n": n, "g": node}  the same, n of them not 0, each so many places behind the one before it
# {"j": values}                 anything else, with {"table": …, "row": …} for an object
Node = dict[str, Any]
R = TypeVar("R", bound=Record)


def pack(record: Record) -> bytes:
    """Return a record as compressed bytes; equal records are equal bytes."""
    return _compressed(body_of(record))


def pack_texts(texts: Sequence[str]) -> bytes:
    """Return texts, such as the tokens of a context, as compressed bytes: without a header, as they are many."""
    return _compressed(body_of_texts(texts))


def body_of(record: Record) -> bytes:
    """Return what is compressed of a record."""
    tables = _Tables()
    root = tables.intern(record.model_dump(mode="json"))
    columns: list[bytes] = []
    nodes = [root.table, [[len(table.rows), table.nodes(columns)] for table in tables.in_order()]]
    header = json.dumps(nodes, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")
    return b"".join([_LENGTH.pack(len(header)), header, *columns])


def body_of_texts(texts: Sequence[str]) -> bytes:
    """Return what is compressed of texts: one text, which never begins with a bracket, or else JSON."""
    joined = _joined(texts)
    return (json.dumps(texts) if joined is None else joined).encode("utf-8", "surrogatepass")


def unpack(cls: type[R], data: bytes) -> R:
    """Return the record that `pack` made these bytes of. Raises GlossariumError on any other bytes."""
    body = _decompressed(data)
    try:
        (n_bytes,) = _LENGTH.unpack_from(body)
        nodes = json.loads(body[_LENGTH.size : _LENGTH.size + n_bytes].decode("utf-8", "surrogatepass"))
        return cls.model_validate(_Reader(body, _LENGTH.size + n_bytes).record(nodes))
    except (ValueError, LookupError, TypeError, struct.error, RecursionError) as exc:
        raise GlossariumError(f"a packed record of {len(data)} bytes is no {cls.__name__}: {exc!r:.200}") from exc


def unpack_fields(data: bytes, names: Container[str]) -> dict[str, Any]:
    """Return some fields of the record that `pack` made these bytes of, unchecked, for a fraction of `unpack`.

    They hold no objects. Raises GlossariumError as `unpack`.
    """
    body = _decompressed(data)
    try:
        (n_bytes,) = _LENGTH.unpack_from(body)
        nodes = json.loads(body[_LENGTH.size : _LENGTH.size + n_bytes].decode("utf-8", "surrogatepass"))
        return _Reader(body, _LENGTH.size + n_bytes).fields(nodes, names)
    except (ValueError, LookupError, TypeError, struct.error, RecursionError) as exc:
        raise GlossariumError(f"a packed record of {len(data)} bytes is none: {exc!r:.200}") from exc


def unpack_texts(data: bytes) -> tuple[str, ...]:
    """Return the texts that `pack_texts` made these bytes of. Raises GlossariumError on any other bytes."""
    try:
        body = _decompressed(data).decode("utf-8", "surrogatepass")
        return tuple(json.loads(body) if body.startswith("[") else _parted(body))
    except ValueError as exc:
        raise GlossariumError(f"packed texts of {len(data)} bytes are none: {exc!r:.200}") from exc


def check_packed(data: bytes) -> None:
    """Raise GlossariumError unless bytes are of this version, whole, and of a size that is read."""
    _decompressed(data)


def _compressed(body: bytes) -> bytes:
    compressor = zstandard.ZstdCompressor(
        level=_LEVEL, dict_data=_dictionary(), write_checksum=True, write_dict_id=False
    )
    return bytes([VERSION]) + compressor.compress(body)


def _decompressed(data: bytes) -> bytes:
    if data[:1] != bytes([VERSION]):
        raise GlossariumError(
            f"a packed record of version {data[:1].hex() or 'none'}; this installation reads {VERSION:02x}"
        )
    try:
        n_bytes = zstandard.frame_content_size(data[1:])
        if not 0 <= n_bytes <= _MOST_BYTES:
            raise GlossariumError(f"a packed record of {n_bytes} bytes; at most {_MOST_BYTES} are read")
        return zstandard.ZstdDecompressor(dict_data=_dictionary()).decompress(data[1:])
    except zstandard.ZstdError as exc:
        raise GlossariumError(f"a packed record of {len(data)} bytes is damaged: {exc}") from exc


@cache
def _dictionary() -> zstandard.ZstdCompressionDict:
    data = (files("schema") / "data" / f"packing.v{VERSION}.zdict").read_bytes()
    made = zstandard.ZstdCompressionDict(data)
    made.precompute_compress(level=_LEVEL)
    return made


# ------------------------------------------------------------------------------------------------------------- writing


class _Row(NamedTuple):
    """Stands for an object: its table's number and its row."""

    table: int
    row: int


_NESTED = {dict, list, _Row}  # what may hold or be an object


class _Table:
    """The different objects with the same fields."""

    def __init__(self, number: int, fields: tuple[str, ...]) -> None:
        self.number = number
        self.rows: list[list[Any]] = []
        self._fields = fields
        self._known: dict[str, _Row] = {}

    def intern(self, row: list[Any]) -> _Row:
        """Return where a row is, new or known."""
        # By its text: to Python 1, 1.0 and True are equal, and 0.0 and -0.0.
        key = repr(row)
        if key not in self._known:
            self._known[key] = _Row(self.number, len(self.rows))
            self.rows.append(row)
        return self._known[key]

    def nodes(self, columns: list[bytes]) -> dict[str, Node]:
        """Return the node of every field, and append their columns."""
        return {field: _shred([row[i] for row in self.rows], columns) for i, field in enumerate(self._fields)}


class _Tables:
    """The tables of one record."""

    def __init__(self) -> None:
        self._tables: dict[tuple[str, ...], _Table] = {}

    def in_order(self) -> list[_Table]:
        """Return the tables by number."""
        return list(self._tables.values())

    def intern(self, value: Any) -> Any:
        """Return a value with every object in it replaced by its row."""
        if isinstance(value, list) and not _NESTED.isdisjoint(map(type, value)):
            return [self.intern(element) for element in value]
        if not isinstance(value, dict):
            return value
        row, fields = [self.intern(element) for element in value.values()], tuple(value)
        if fields not in self._tables:
            self._tables[fields] = _Table(len(self._tables), fields)
        return self._tables[fields].intern(row)


def _shred(values: Sequence[Any], columns: list[bytes]) -> Node:
    """Return the node of values that stand at the same place, and append their columns."""
    kinds = {type(value) for value in values}
    kind = kinds.pop() if len(kinds) == 1 else None
    if kind is _Row and len(tables := {value.table for value in values}) == 1:
        return {"r": tables.pop(), "v": _shred([value.row for value in values], columns)}
    if kind is list:
        lengths = _shred([len(value) for value in values], columns)
        return {"l": lengths, "v": _shred([element for value in values for element in value], columns)}
    if kind is str and (text := _joined(values)) is not None:
        columns.append(text.encode("utf-8", "surrogatepass"))
        return {"t": len(columns[-1])}
    dtypes = {float: _FLOATS, int: _INTEGERS}.get(kind, ()) if kind is not None else ()
    for dtype in dtypes:
        if (narrow := _narrowed(values, dtype)) is not None:
            return _number_node(narrow, columns)
    return {"j": _plain(list(values))}


def _number_node(column: NDArray[Any], columns: list[bytes]) -> Node:
    """Return the node of numbers, and append their column and, where most of them are 0, that of their places."""
    node: Node = {"c": column.dtype.str}
    (places,) = column.view(f"<u{column.itemsize}").nonzero()  # -0.0 is not 0
    if 2 * len(places) < len(column):
        node |= {"n": len(places), "g": _shred(np.diff(places, prepend=0).tolist(), columns)}
        column = column[places]
    columns.append(column.view("|u1").reshape(len(column), column.itemsize).T.tobytes())
    return node


def _plain(value: Any) -> Any:
    """Return a value as JSON can hold it: there are no objects in it but those that stand for one."""
    if isinstance(value, _Row):
        return value._asdict()
    return [_plain(element) for element in value] if isinstance(value, list) else value


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


# ------------------------------------------------------------------------------------------------------------- reading


class _Reader:
    """Reads columns one after the other, in the order in which they were written."""

    def __init__(self, body: bytes, start: int) -> None:
        self._body = body
        self._at = start
        self._left = _MOST_VALUES

    def record(self, header: tuple[int, list[tuple[int, dict[str, Node]]]]) -> Any:
        """Return the object that a header is of."""
        root, tables = header
        rows = []
        for n, nodes in tables:
            self._count(n)
            fields = {field: self._join(node, n) for field, node in nodes.items()}
            rows.append([{field: values[i] for field, values in fields.items()} for i in range(n)])
        return _resolved(_Row(root, len(rows[root]) - 1), rows, [_MOST_VALUES])

    def fields(self, header: tuple[int, list[tuple[int, dict[str, Node]]]], names: Container[str]) -> dict[str, Any]:
        """Return some fields of the object that a header is of; what else there is is passed over."""
        root, tables = header
        found: dict[str, Any] = {}
        for number, (n, nodes) in enumerate(tables):
            self._count(n)
            for field, node in nodes.items():
                if number == root and field in names:
                    found[field] = self._join(node, n)[-1]
                else:
                    self._pass(node, n)
        return found

    def _pass(self, node: Node, n: int) -> None:
        """Go on behind the n values of a node."""
        if "r" in node:
            self._pass(node["v"], n)
        elif "l" in node:
            self._pass(node["v"], sum(self._join(node["l"], n)))
        elif "t" in node:
            self._at += node["t"]
        elif "c" in node:
            if "g" in node:
                self._pass(node["g"], node["n"])
            self._at += node.get("n", n) * np.dtype(node["c"]).itemsize

    def _join(self, node: Node, n: int) -> list[Any]:
        """Return the n values of a node, objects by their rows."""
        self._count(n)
        if "r" in node:
            return [_Row(node["r"], row) for row in self._join(node["v"], n)]
        if "l" in node:
            lengths = self._join(node["l"], n)
            return list(_split(self._join(node["v"], sum(lengths)), lengths))
        if "t" in node:
            return _parted(self._take(node["t"]).decode("utf-8", "surrogatepass"))
        if "c" in node:
            return self._numbers(node, n)
        return [_unplain(value) for value in node["j"]]

    def _count(self, n: int) -> None:
        """Refuse what says that it holds more than a record ever does, before memory is asked for."""
        self._left -= n
        if n < 0 or self._left < 0:
            raise GlossariumError(f"a packed record says that it holds {n} values; at most {_MOST_VALUES} are read")

    def _numbers(self, node: Node, n: int) -> list[Any]:
        """Return n numbers, with the zeros that were left out."""
        values = np.zeros(n, dtype=node["c"])
        places = np.cumsum(self._join(node["g"], node["n"]), dtype=np.int64) if "g" in node else np.arange(n)
        size = values.itemsize
        planes = np.frombuffer(self._take(len(places) * size), dtype="|u1").reshape(size, len(places))
        values[places] = planes.T.copy().view(values.dtype).reshape(len(places))
        return list(values.tolist())

    def _take(self, n_bytes: int) -> bytes:
        taken = self._body[self._at : self._at + n_bytes]
        self._at += n_bytes
        return taken


def _unplain(value: Any) -> Any:
    if isinstance(value, dict):
        return _Row(**value)
    return [_unplain(element) for element in value] if isinstance(value, list) else value


def _resolved(value: Any, rows: Sequence[Sequence[dict[str, Any]]], left: list[int]) -> Any:
    """Return a value with every row replaced by its object.

    left:  how many more objects may be made, in a list: equal ones are stored once, and few bytes could stand for many.
    """
    if isinstance(value, _Row):
        left[0] -= 1
        if left[0] < 0:
            raise GlossariumError(f"a packed record of more than {_MOST_VALUES} objects; that many are not read")
        return {field: _resolved(part, rows, left) for field, part in rows[value.table][value.row].items()}
    if isinstance(value, list) and not _NESTED.isdisjoint(map(type, value)):
        return [_resolved(element, rows, left) for element in value]
    return value


def _split(values: Any, lengths: list[int]) -> Iterator[Any]:
    start = 0
    for length in lengths:
        yield values[start : start + length]
        start += length
