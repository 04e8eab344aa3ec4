"""Connections to Postgres, and the migrations. Knows nothing of what the tables mean."""

import select
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import ConnectionPool, PoolTimeout
from yoyo import get_backend, read_migrations

from schema.errors import DatabaseUnavailable, NewerSchema, StorageFull
from schema.release import release

Connection = psycopg.Connection[tuple[Any, ...]]

_IDLE_IN_TRANSACTION = "60s"  # of a process that was stopped in the middle: its locks must not outlive it for long
_GONE = (psycopg.OperationalError, psycopg.InterfaceError, psycopg.errors.IdleInTransactionSessionTimeout)
_OTHERWISE = (PoolTimeout, psycopg.errors.QueryCanceled)
"""What is an OperationalError and does not say that the connection is gone."""
_CONNECT_TIMEOUT_S = 5
_RECONNECT_S = 1.0
"""How often a pool without connections tries to get one. Its own pauses grow to the length of the outage."""
MIGRATION_LOCK = 0x610055  # an advisory lock key of our own; any constant does


def connect(url: str, *, statement_timeout_ms: int = 0, autocommit: bool = False) -> Connection:
    """Return a new connection.

    Raises: DatabaseUnavailable if the server does not answer within 5 s.
    """
    try:
        return psycopg.connect(
            url,
            autocommit=autocommit,
            connect_timeout=_CONNECT_TIMEOUT_S,
            options=_options(statement_timeout_ms),
            application_name="glossarium",
        )
    except psycopg.OperationalError as exc:
        raise DatabaseUnavailable(f"Postgres at {_where(url)} does not answer: {exc}") from exc


def open_pool(url: str, *, max_size: int = 10, statement_timeout_ms: int = 30_000) -> ConnectionPool[Connection]:
    """Return an open pool that checks a connection before it lends it, and that is back soon after its server is.

    What cuts a connection shows on its socket; only then the server is asked, as a round trip by every use is dear.
    """

    def check(connection: Connection) -> None:
        if not _has_something_to_say(connection):
            return
        try:
            ConnectionPool.check_connection(connection)
        except psycopg.Error:
            pool.check()  # what cut this one cut others: the pool would pause after each that it finds
            raise

    pool: ConnectionPool[Connection] = ConnectionPool(
        url,
        min_size=1,
        max_size=max_size,
        timeout=5.0,
        # It gives up and begins anew: the pauses between its attempts double until then.
        reconnect_timeout=_RECONNECT_S,
        reconnect_failed=ConnectionPool.check,
        kwargs={
            "options": _options(statement_timeout_ms),
            "application_name": "glossarium",
            "connect_timeout": _CONNECT_TIMEOUT_S,
        },
        check=check,
        open=True,
    )
    return pool


def _has_something_to_say(connection: Connection) -> bool:
    """Return whether something is there to be read of a connection that nobody uses: its end, most of all."""
    socket = select.poll()
    socket.register(connection.pgconn.socket, select.POLLIN)
    return bool(socket.poll(0))


@contextmanager
def lend(pool: ConnectionPool[Connection]) -> Iterator[Connection]:
    """Lend a connection for one transaction: commits at the end, rolls back on an exception.

    Raises: DatabaseUnavailable if Postgres does not answer or takes no changes, StorageFull if its disk is full.
    """
    try:
        with translated(), pool.connection() as connection:
            yield connection
    except PoolTimeout as exc:
        raise DatabaseUnavailable("Postgres does not answer; try again in a few seconds") from exc


@contextmanager
def translated() -> Iterator[None]:
    """Raise DatabaseUnavailable where a connection is gone or read-only, StorageFull where the disk is full."""
    try:
        yield
    except psycopg.errors.DiskFull as exc:
        raise StorageFull(f"the disk that holds the database is full; free some space and try again: {exc}") from exc
    except psycopg.errors.ReadOnlySqlTransaction as exc:  # a standby, before or after it takes over
        raise DatabaseUnavailable(f"Postgres is read-only: {exc}") from exc
    except _GONE as exc:
        if isinstance(exc, _OTHERWISE):
            raise
        raise DatabaseUnavailable(f"Postgres went away: {exc}") from exc


@contextmanager
def lend_autocommit(pool: ConnectionPool[Connection]) -> Iterator[Connection]:
    """Lend a connection on which every statement is a transaction: no lock waits for this process to say more.

    Raises: as `lend`.
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

    Raises: DatabaseUnavailable if the server does not answer or does not take them; NewerSchema if a later Glossarium
            was here.
    """
    with _asked(url), connect(url, autocommit=True) as guard:
        guard.execute("SELECT pg_advisory_lock(%s)", (MIGRATION_LOCK,))
        refuse_newer(guard)
        backend = get_backend(_yoyo_url(url))
        try:
            missing = backend.to_apply(read_migrations(str(files("schema") / "migrations")))
            names = [migration.id for migration in missing]
            backend.apply_migrations(missing)
        finally:
            backend.connection.close()
    return names


def prepare(url: str) -> list[str]:
    """Do what `migrate` does, and nothing but look where nothing is missing: for every process, when it starts.

    Raises: as `migrate`.
    """
    with _asked(url), connect(url, autocommit=True) as connection:
        refuse_newer(connection)
        missing = pending(connection)
    return migrate(url) if missing else []


def pending(connection: Connection) -> list[str]:
    """Return the names of migrations that the database lacks."""
    applied = applied_migrations(connection)
    return [name for name in known_migrations() if name not in applied]


def refuse_newer(connection: Connection) -> None:
    """Refuse a database that has migrations which this Glossarium does not know.

    Raises: NewerSchema naming them.
    """
    unknown = sorted(applied_migrations(connection) - set(known_migrations()))
    if unknown:
        raise NewerSchema(
            f"the database has {', '.join(unknown)}, which Glossarium {release()} does not know: a later one "
            "has changed it; install that one here too"
        )


def known_migrations() -> list[str]:
    """Return the names of this Glossarium's migrations, in order."""
    folder = files("schema") / "migrations"
    return sorted(path.name.removesuffix(".sql") for path in folder.iterdir() if path.name.endswith(".sql"))


def applied_migrations(connection: Connection) -> set[str]:
    """Return the names of the migrations that a database has."""
    if connection.execute("SELECT to_regclass('_yoyo_migration')").fetchone() == (None,):
        return set()
    return {row[0] for row in connection.execute("SELECT migration_id FROM _yoyo_migration").fetchall()}


@contextmanager
def _asked(url: str) -> Iterator[None]:
    """Raise DatabaseUnavailable where a server goes away, is read-only or refuses: whoever is there later does it."""
    try:
        with translated():
            yield
    except (psycopg.Error, StorageFull) as exc:
        raise DatabaseUnavailable(f"Postgres at {_where(url)} can't be migrated: {exc}") from exc


def _options(statement_timeout_ms: int) -> str:
    limits = {"statement_timeout": statement_timeout_ms, "idle_in_transaction_session_timeout": _IDLE_IN_TRANSACTION}
    return " ".join(f"-c {name}={value}" for name, value in {**limits, "timezone": "UTC"}.items())


def _yoyo_url(url: str) -> str:
    """Return the URL with the driver that yoyo knows psycopg 3 by."""
    scheme, rest = url.split("://", 1)
    return f"{scheme.split('+')[0]}+psycopg://{rest}"


def _where(url: str) -> str:
    facts = conninfo_to_dict(url)
    return f"{facts.get('host', 'local socket')}:{facts.get('port', 5432)}"
