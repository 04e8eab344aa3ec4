"""The readable schema, the migrations and what happens when they are applied twice."""

from importlib.resources import files

import psycopg
import pytest

from schema.store import database
from tests.conftest import pg_dump


@pytest.fixture
def empty_url(postgres_url: str, database_url: str) -> str:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    return database_url


def test_schema_equals_all_migrations_applied(empty_url: str) -> None:
    with psycopg.connect(empty_url, autocommit=True) as connection:
        connection.execute((files("schema") / "schema.sql").read_text())
    readable = pg_dump(empty_url)
    with psycopg.connect(empty_url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    assert database.migrate(empty_url)
    assert pg_dump(empty_url) == readable
    assert "CREATE TABLE public.job" in readable


def test_a_second_migration_does_nothing(database_url: str) -> None:
    assert database.migrate(database_url) == []
    with database.connect(database_url) as connection:
        assert database.pending(connection) == []


def test_pending_names_what_an_empty_database_lacks(empty_url: str) -> None:
    with database.connect(empty_url) as connection:
        assert database.pending(connection)[0] == "0001.initial"
