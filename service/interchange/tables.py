"""Labels as tables: CSV and parquet with one row a feature, and one static JSON of index → label for circuit tools."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from typing import Any

from schema.errors import InvalidInput
from schema.store.exports import FACETS, FacetRow, LabelRow

Rows = Iterable[Sequence[LabelRow]]
"""Rows by index, some at a time."""

_TYPES = {
    "feature": "int64",
    "density": "float64",
    "max_activation": "float64",
    "labelled_at": "timestamp",
    "n": "int64",
    "success": "bool",
    "status": "string",
}
_TEXTS = frozenset(LabelRow._fields) - _TYPES.keys()


def columns() -> dict[str, str]:
    """Return the columns of a table, with their types: the facets' fields are prefixed with the facet's name."""
    found: dict[str, str] = {}
    for name in LabelRow._fields:
        if name in FACETS:
            found |= {f"{name}_{field}": _TYPES.get(field, "float64") for field in FacetRow._fields}
        else:
            found[name] = "string" if name in _TEXTS else _TYPES[name]
    return found


def flat(row: LabelRow) -> list[Any]:
    """Return a row's values in the order of `columns`."""
    values: list[Any] = []
    for value in row:
        if isinstance(value, FacetRow):
            values.extend(value)
        else:
            values.append(value)
    return values


def write_csv(rows: Rows) -> Iterator[bytes]:
    """Yield a CSV file (RFC 4180, UTF-8, a header): what is not known is empty, times are ISO 8601."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(columns())
    for some in rows:
        writer.writerows([_as_text(value) for value in flat(row)] for row in some)
        yield text.getvalue().encode("utf-8", "replace")
        text.seek(0)
        text.truncate()


def write_json(rows: Rows) -> Iterator[bytes]:
    """Yield one JSON object of index → label, a feature a line; features without a label are left out."""
    yield b"{"
    before = "\n"
    for some in rows:
        lines = [f"{json.dumps(str(row.feature))}: {json.dumps(row.label)}" for row in some if row.label is not None]
        if lines:
            yield (before + ",\n".join(lines)).encode()
            before = ",\n"
    yield b"\n}\n"


def write_parquet(rows: Rows) -> Iterator[bytes]:
    """Yield a parquet file (zstd), a row group for each batch of rows. Raises InvalidInput without pyarrow."""
    if find_spec("pyarrow") is None:
        raise InvalidInput("format=parquet needs pyarrow, which this API was installed without; ask for csv")
    return _parquet(rows)


def _parquet(rows: Rows) -> Iterator[bytes]:
    import pyarrow  # 60 MB that only this needs
    import pyarrow.parquet

    types = {"string": pyarrow.string(), "timestamp": pyarrow.timestamp("us", tz="UTC")}
    schema = pyarrow.schema(
        [(name, types.get(kind) or pyarrow.type_for_alias(kind)) for name, kind in columns().items()]
    )
    sink = _Sink()
    with pyarrow.parquet.ParquetWriter(sink, schema, compression="zstd") as writer:
        for some in rows:
            by_column = zip(*(flat(row) for row in some), strict=True)
            arrays = [
                pyarrow.array([_plain(value) for value in values], field.type)
                for values, field in zip(by_column, schema, strict=True)
            ]
            writer.write_batch(pyarrow.record_batch(arrays, schema=schema))
            yield sink.take()
    yield sink.take()


class _Sink(io.RawIOBase):
    """A file that is written to and taken from; it remembers how much went through, which parquet's footer says."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._at = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        part = bytes(data)
        self._parts.append(part)
        self._at += len(part)
        return len(part)

    def tell(self) -> int:
        return self._at

    def take(self) -> bytes:
        """Return what was written since the last time."""
        taken, self._parts = b"".join(self._parts), []
        return taken


def _as_text(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.isoformat() if hasattr(value, "isoformat") else value


def _plain(value: Any) -> Any:
    """Return a value that arrow knows: ids as text, texts without lone surrogates."""
    if value is None or isinstance(value, bool | int | float) or hasattr(value, "isoformat"):
        return value
    return str(value).encode("utf-8", "replace").decode()
