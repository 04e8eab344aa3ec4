"""A pool of connections whose server goes away and comes back."""

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import ConnectionPool

from schema.store import database
from schema.store.database import Connection

Pool = ConnectionPool[Connection]
N_CONNECTIONS = 4


@pytest.fixture
def pool(database_url: str) -> Iterator[Pool]:
    """Yield a pool with idle connections."""
    opened = database.open_pool(database_url)
    with ExitStack() as lent:
        for _ in range(N_CONNECTIONS):
            lent.enter_context(database.lend(opened))
    yield opened
    opened.close()


@contextmanager
def refused(postgres_url: str, database_url: str) -> Iterator[None]:
    """Cut all connections to a database, and let it take none."""
    allow = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
    name = sql.Identifier(str(conninfo_to_dict(database_url)["dbname"]))
    with psycopg.connect(postgres_url, autocommit=True) as server:
        server.execute(allow.format(name, False))
        cut(server, database_url)
        yield
        server.execute(allow.format(name, True))


def cut(server: Connection, database_url: str) -> None:
    name = conninfo_to_dict(database_url)["dbname"]
    terminate = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s"
    ended = server.execute(terminate, (name,)).fetchall()
    assert len(ended) >= N_CONNECTIONS


def ask(pool: Pool) -> None:
    with database.lend(pool) as connection:
        connection.execute("SELECT 1")


def test_a_pool_is_back_at_once_when_all_its_connections_were_cut(
    pool: Pool, postgres_url: str, database_url: str
) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as server:
        cut(server, database_url)
    began = time.monotonic()
    ask(pool)
    assert time.monotonic() - began < 0.9  # it would pause for a second after the second that it finds


def test_a_pool_is_back_soon_after_its_server_however_long_that_was_away(
    pool: Pool, postgres_url: str, database_url: str
) -> None:
    with ThreadPoolExecutor(1) as thread:
        with refused(postgres_url, database_url):
            asked = thread.submit(ask, pool)
            time.sleep(4)  # in the pause of a pool that doubles them, from 3 to 7 s
            assert not asked.done()
        asked.result(2)


def test_a_server_that_takes_a_connection_and_says_nothing_is_asked_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(10)
        pool = database.open_pool(f"postgresql://postgres@127.0.0.1:{silent.getsockname()[1]}/postgres")
        with silent.accept()[0], silent.accept()[0]:
            pass
        silent.close()
        pool.close()
