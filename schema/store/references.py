"""Who refers to which blob."""

from schema.store.database import Connection
from schema.store.queries import load_queries

_queries = load_queries("references")


def all_blobs(connection: Connection) -> list[str]:
    """Return the sha256 of every blob that a row refers to, in order."""
    return [sha256 for (sha256,) in _queries.all_blobs(connection)]
