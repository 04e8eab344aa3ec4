"""Cursors: where the next page starts, opaque to the caller and bound to the query that it came from."""

import base64
import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Generic, NamedTuple, TypeVar
from uuid import UUID

from pydantic import TypeAdapter

from schema import recipes
from schema.errors import InvalidInput

Row = TypeVar("Row")
Position = TypeVar("Position")

Newest = tuple[datetime, UUID]
"""The position in a list that is newest first: when a row was made, and its id."""

_RESTART = "give `next_cursor` as it came, with the same query, or start again without a cursor"


class Slice(NamedTuple, Generic[Row]):
    """The rows of a page, and the cursor of the next one."""

    items: tuple[Row, ...]
    next_cursor: str | None


class Pager(Generic[Position]):
    """Reads and writes the cursors of one query."""

    def __init__(self, query: object, position: TypeAdapter[Position], cursor: str | None) -> None:
        """Bind to a query; `after` is then the position that the cursor stands for, None for the first page.

        Raises: InvalidInput for a cursor of another query, and for what is no cursor.
        """
        self._query = recipes.digest(query)[:16]
        self._adapter = position
        self.after = None if cursor is None else self._read(cursor)

    def cut(self, rows: Sequence[Row], limit: int, position_of: Callable[[Row], Position]) -> Slice[Row]:
        """Return a page of rows that were read with a limit of one more."""
        items = tuple(rows[:limit])
        return Slice(items, self._write(position_of(items[-1])) if len(rows) > limit else None)

    def _read(self, cursor: str) -> Position:
        try:
            content = json.loads(base64.b64decode(cursor.encode(), altchars=b"-_", validate=True))
            if content["q"] == self._query:
                return self._adapter.validate_python(content["p"])
        except (ValueError, KeyError, TypeError) as exc:
            raise InvalidInput(f"cursor={cursor[:40]!r} is not a cursor; {_RESTART}") from exc
        raise InvalidInput(f"cursor={cursor[:40]!r} belongs to another query; {_RESTART}")

    def _write(self, position: Position) -> str:
        content = {"q": self._query, "p": self._adapter.dump_python(position, mode="json")}
        return base64.urlsafe_b64encode(json.dumps(content, separators=(",", ":")).encode()).decode()


NEWEST = TypeAdapter[Newest](Newest)
