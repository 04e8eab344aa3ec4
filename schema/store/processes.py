"""Processes: a row of each, which it renews itself. A row that is not renewed is a process that is gone, or hangs."""

import time

from schema.processes import Presence, Seen
from schema.store.database import Connection
from schema.store.queries import load_queries

_queries = load_queries("processes")


def tell(connection: Connection, presence: Presence, *, fresh: bool = False) -> None:
    """Say that a process is there; `fresh` where it has just started. Those of yesterday are forgotten."""
    _queries.tell(connection, fresh=fresh, **presence.model_dump())
    _queries.forget(connection)


def seen(connection: Connection) -> list[Seen]:
    """Return every process that was there within a day, with how long ago it last said so."""
    return [Seen(**dict(zip(Seen.model_fields, row, strict=True))) for row in _queries.seen(connection)]


def skew_s(connection: Connection) -> float:
    """Return by how much the database's clock is ahead of this machine's, to about half a round trip."""
    before = time.time()
    there = float(_queries.clock(connection))
    return there - (before + time.time()) / 2
