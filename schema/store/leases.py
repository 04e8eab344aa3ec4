"""Leases as a whole. What happens to the lease of one job is in `jobs`."""

from schema.store.database import Connection
from schema.store.queries import load_queries

_queries = load_queries("leases")


def release_all(connection: Connection) -> int:
    """Return every leased job to ready at no cost to it, and return how many there were.

    Only for a caller who knows that no worker is alive: a stack whose database is its own and that has just started.
    """
    released: int = _queries.release_all(connection)
    return released
