"""Pointers from a recipe to the blob that was made by it."""

from schema.store.database import Connection
from schema.store.queries import load_queries

_queries = load_queries("artifacts")


def get(connection: Connection, recipe: str) -> str | None:
    """Return the sha256 of the blob that a recipe made, or None."""
    sha256: str | None = _queries.get(connection, recipe=recipe)
    return sha256


def put(connection: Connection, recipe: str, sha256: str, n_bytes: int) -> None:
    """Point a recipe at a blob."""
    _queries.put(connection, recipe=recipe, sha256=sha256, n_bytes=n_bytes)
