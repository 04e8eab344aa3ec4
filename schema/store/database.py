"""Connections to Postgres, and the migrations. Knows nothing of what the tables mean."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import ConnectionPool, PoolTimeout
from yoyo import get_backend, read_migrations

from schema.errors import DatabaseUnavailable

Connection = psycopg.Connection[tuple[Any, ...]]

_MIGRATION_LOCK = 0x610055  # an advisory lock key of our own; any constant does


def connect(url: str, *, statement_timeout_ms: int = 0, autocommit: bool = False) -> Connection:
    """Return a new connection.

    Raises: DatabaseUnavailable if the server does not answer within 5 s.
    """
    try:
        return psycopg.connect(
            url,
            autocommit=autocommit,
            connect_timeout=5,
            options=f"-c statement_timeout={statement_timeout_ms} -c timezone=UTC",
            application_name="glossarium",
        )
    except psycopg.OperationalError as exc:
        raise DatabaseUnavailable(f"Postgres at {_where(url)} does not answer: {exc}") from exc


def open_pool(url: str, *, max_size: int = 10, statement_timeout_ms: int = 30_000) -> ConnectionPool[Connection]:
    """Return an open pool whose connections are checked before they are lent."""
    return ConnectionPool(
        url,
        min_size=1,
        max_size=max_size,
        timeout=5.0,
        kwargs={
            "options": f"-c statement_timeout={statement_timeout_ms} -c timezone=UTC",
            "application_name": "glossarium",
        },
        check=ConnectionPool.check_connection,
        open=True,
    )


@contextmanager
def lend(pool: ConnectionPool[Connection]) -> Iterator[Connection]:
    """Lend a connection for one transaction: commits at the end, rolls back on an exception.

    Raises: DatabaseUnavailable if Postgres does not answer.
    """
    try:
        with pool.connection() as connection:
            yield connection
    except PoolTimeout as exc:
        raise DatabaseUnavailable("Postgres does not answer; try again in a few seconds") from exc
    except (psycopg.OperationalError, psycopg.InterfaceError) as exc:
        if isinstance(exc, psycopg.errors.QueryCanceled | psycopg.errors.DiskFull):
            raise
        raise DatabaseUnavailable(f"Postgres went away: {exc}") from exc


@contextmanager
def lend_autocommit(pool: ConnectionPool[Connection]) -> Iterator[Connection]:
    """Lend a connection on which every statement is a transaction: no lock waits for this process to say more.

    Raises: DatabaseUnavailable if Postgres does not answer.
    """
    with lend(pool) as connection:
        connection.autocommit = True
        try:
            yield connection
        finally:
            if not connection.closed:
                connection.autocommit = False


def migrate(url: str) -> list[str]:
    """Apply the migrations that are missing, under an advisory lock, and return their names.

    Raises: DatabaseUnavailable if the server does not answer.
    """
    with connect(url, autocommit=True) as guard:
        guard.execute("SELECT pg_advisory_lock(%s)", (_MIGRATION_LOCK,))
        backend = get_backend(_yoyo_url(url))
        try:
            missing = backend.to_apply(read_migrations(str(files("schema") / "migrations")))
            names = [migration.id for migration in missing]
            backend.apply_migrations(missing)
        finally:
            backend.connection.close()
    return names


def pending(connection: Connection) -> list[str]:
    """Return the names of migrations that the database lacks."""
    known = sorted(
        path.name[: -len(".sql")] for path in (files("schema") / "migrations").iterdir() if path.name.endswith(".sql")
    )
    if connection.execute("SELECT to_regclass('_yoyo_migration')").fetchone() == (None,):
        return known
    applied = {row[0] for row in connection.execute("SELECT migration_id FROM _yoyo_migration").fetchall()}
    return [name for name in known if name not in applied]


def _yoyo_url(url: str) -> str:
    """Return the URL with the driver that yoyo knows psycopg 3 by."""
    scheme, rest = url.split("://", 1)
    return f"{scheme.split('+')[0]}+psycopg://{rest}"


def _where(url: str) -> str:
    facts = conninfo_to_dict(url)
    return f"{facts.get('host', 'local socket')}:{facts.get('port', 5432)}"
