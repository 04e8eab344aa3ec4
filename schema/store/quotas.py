"""Quotas: how much of an installation one tenant may take."""

from schema.errors import QuotaExceeded
from schema.store.database import Connection
from schema.store.queries import load_queries

_queries = load_queries("quotas")


def check_bytes(connection: Connection, tenant_id: int, n_bytes: int, limit: int | None) -> None:
    """Refuse an upload that a tenant has no room for; those that come at the same time do not know of each other.

    Raises: QuotaExceeded.
    """
    if limit is None:
        return
    stored = int(_queries.stored_bytes(connection, tenant_id=tenant_id))
    if stored + n_bytes > limit:
        raise QuotaExceeded(
            f"{n_bytes:,} bytes do not fit: {stored:,} of the {limit:,} bytes that this tenant may keep are stored "
            "(the operator sets GLOSSARIUM_MAX_STORED_BYTES); delete a dictionary"
        )


def check_runs(connection: Connection, tenant_id: int, n_runs: int, limit: int | None) -> None:
    """Refuse runs beyond those that a tenant may have unfinished; to be called in the transaction that stores them.

    Raises: QuotaExceeded.
    """
    if limit is None:
        return
    _queries.hold_tenant(connection, tenant_id=tenant_id)
    unfinished = _queries.unfinished_runs(connection, tenant_id=tenant_id)
    if unfinished + n_runs > limit:
        raise QuotaExceeded(
            f"{n_runs} more beside {unfinished} unfinished runs; this tenant may have {limit} (the operator sets "
            "GLOSSARIUM_MAX_UNFINISHED_RUNS); wait for some, or cancel them"
        )
