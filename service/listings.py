"""Listings of the client: records that come page after page, one by one or as a table of pandas or polars."""

import json
from collections.abc import Iterator
from datetime import datetime
from importlib import import_module
from types import ModuleType, UnionType
from typing import Any, Generic, Self, TypeVar, Union, get_args, get_origin

from schema.errors import InvalidInput
from schema.records import Record

R = TypeVar("R", bound=Record)


class Listing(Generic[R]):
    """Records, read as they are asked for, once."""

    def __init__(self, kind: type[R], items: Iterator[R]) -> None:
        self._kind = kind
        self._items = items

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> R:
        return next(self._items)

    def to_pandas(self) -> Any:
        """Return what was not read yet as a pandas.DataFrame, a row each; columns are those of `columns_of`.

        Raises: InvalidInput if pandas is not installed.
        """
        return _load("pandas").DataFrame(self._rows(), columns=columns_of(self._kind))

    def to_polars(self) -> Any:
        """Return what was not read yet as a polars.DataFrame, as `to_pandas`. Raises InvalidInput without polars."""
        columns = columns_of(self._kind)
        return _load("polars").DataFrame(self._rows(), schema=columns, orient="row", infer_schema_length=None)

    def _rows(self) -> list[list[Any]]:
        return [_values(self._kind, item) for item in self]


def columns_of(kind: type[Record]) -> list[str]:
    """Return the columns of a record: its fields; in place of a record within it, that one's with its name before."""
    columns = []
    for name, field in kind.model_fields.items():
        inner = _record_of(field.annotation)
        columns += [name] if inner is None else [f"{name}_{column}" for column in columns_of(inner)]
    return columns


def _values(kind: type[Record], record: Record | None) -> list[Any]:
    """Return a record's values by column, all of them None where there is no record."""
    values: list[Any] = []
    for name, field in kind.model_fields.items():
        value, inner = getattr(record, name, None), _record_of(field.annotation)
        values += [_plain(value)] if inner is None else _values(inner, value)
    return values


def _record_of(annotation: Any) -> type[Record] | None:
    """Return the kind of record that a field holds, None if it holds anything else."""
    kinds = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Record)), None)


def _plain(value: Any) -> Any:
    """Return a value that tables know: ids and names as text, whatever has parts as JSON."""
    if isinstance(value, dict | list | tuple):
        return json.dumps(value, default=str)
    return value if value is None or isinstance(value, bool | int | float | datetime) else str(value)


def _load(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ImportError as exc:
        raise InvalidInput(f"{name} is not installed here; `pip install {name}`") from exc
