"""A worker and a database of another version: an older database is brought up to date, a later one is left alone."""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from schema.errors import DatabaseUnavailable, NewerSchema
from schema.settings import Settings
from schema.store import database
from tests.service.conftest import serving
from workers.guard import EXIT_CODE, prepare_database

WORKER = [
    sys.executable,
    "-m",
    "celery",
    "-A",
    "workers.app",
    "worker",
    "-Q",
    "control",
    "--pool",
    "threads",
    "-c",
    "1",
]
MISSING = "0009.collections"
CHILDREN = [*WORKER[:7], "subject", "--pool", "prefork", "-c", "1"]


@pytest.fixture
def environment(database_url: str, redis_url: str) -> dict[str, str]:
    return {**os.environ, "DATABASE_URL": database_url, "REDIS_URL": redis_url, "GLOSSARIUM_SWEEP_S": "0.5"}


def change_as_a_later_version(url: str) -> None:
    """Enter a migration that this Glossarium does not have."""
    with psycopg.connect(url) as connection:
        connection.execute(
            "INSERT INTO _yoyo_migration (migration_hash, migration_id, applied_at_utc) "
            "VALUES ('x', '9999.later', now())"
        )


@pytest.fixture
def older_url(database_url: str) -> str:
    """Return the URL of a database that lacks a migration: nothing of it is there."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("ALTER TABLE run DROP COLUMN collection_run_id, DROP COLUMN corpus_pass")
        connection.execute("DROP TABLE collection_run, collection_dictionary, collection")
        connection.execute("DELETE FROM _yoyo_migration WHERE migration_id = %s", (MISSING,))
    return database_url


def test_an_older_database_is_brought_up_to_date_by_whoever_comes(older_url: str) -> None:
    assert database.prepare(older_url) == [MISSING]
    assert database.prepare(older_url) == []
    with database.connect(older_url) as connection:
        assert connection.execute("SELECT count(*) FROM collection").fetchone() == (0,)


def test_many_at_once_apply_a_migration_once(older_url: str) -> None:
    code = f"from schema.store import database; print(len(database.prepare({older_url!r})))"
    processes = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    said = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, said
    assert sorted(out.strip() for out, _ in said) == ["0", "0", "0", "1"]


def test_a_later_database_is_refused_by_name_and_not_touched(database_url: str) -> None:
    change_as_a_later_version(database_url)
    for ask in (database.prepare, database.migrate):
        with pytest.raises(NewerSchema, match=r"the database has 9999\.later, which Glossarium"):
            ask(database_url)
    with database.connect(database_url) as connection:
        assert database.pending(connection) == []


def test_a_database_that_is_down_is_no_other_error() -> None:
    for ask in (database.prepare, database.migrate):
        with pytest.raises(DatabaseUnavailable, match=r"127\.0\.0\.1:1 does not answer"):
            ask("postgresql://postgres@127.0.0.1:1/postgres")


def test_a_database_that_goes_away_while_it_is_looked_at_is_no_other_error(older_url: str) -> None:
    waiting = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'advisory'"
    with psycopg.connect(older_url, autocommit=True) as holder, ThreadPoolExecutor(1) as thread:
        holder.execute("SELECT pg_advisory_lock(%s)", (database.MIGRATION_LOCK,))
        asked = thread.submit(database.prepare, older_url)
        deadline = time.monotonic() + 60
        while not asked.done() and holder.execute(waiting).rowcount == 0:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        with pytest.raises(DatabaseUnavailable, match="Postgres went away"):
            asked.result(timeout=60)


@pytest.fixture
def read_only_url(older_url: str) -> str:
    """Return the URL of a database that lacks a migration and takes none, as a standby does."""
    with psycopg.connect(older_url, autocommit=True) as connection:
        name = connection.info.dbname
        connection.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    return older_url


def test_an_older_database_that_is_read_only_is_left_for_later(
    read_only_url: str, redis_url: str, tmp_path: Path
) -> None:
    with pytest.raises(DatabaseUnavailable, match="Postgres is read-only"):
        database.prepare(read_only_url)
    settings = Settings(database_url=read_only_url, redis_url=redis_url, data_dir=tmp_path)
    prepare_database(settings)
    with serving(settings) as api:
        assert f"missing: {MISSING}" in str(api.client.ready().migrations.reason)


def test_a_read_only_database_that_lacks_nothing_is_fine(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {connection.info.dbname} SET default_transaction_read_only = on")
    assert database.prepare(database_url) == []


def test_a_worker_does_not_start_on_a_later_database(database_url: str, environment: dict[str, str]) -> None:
    change_as_a_later_version(database_url)
    done = subprocess.run(WORKER, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == EXIT_CODE, done.stderr
    assert "9999.later" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("argv", [WORKER, CHILDREN], ids=["threads", "prefork"])
def test_a_worker_that_runs_stops_when_a_later_version_comes(
    argv: list[str], database_url: str, environment: dict[str, str]
) -> None:
    with subprocess.Popen(
        [*argv, "--loglevel", "INFO"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as worker:
        try:
            _wait_until_connected(database_url, worker)
            change_as_a_later_version(database_url)
            said, _ = worker.communicate(timeout=120)
        finally:
            worker.kill()
    assert worker.returncode == EXIT_CODE, said
    assert "9999.later" in said


def _wait_until_connected(url: str, worker: subprocess.Popen[str]) -> None:
    """Wait until the worker sweeps: it holds a connection then."""
    deadline = time.monotonic() + 120
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    with psycopg.connect(url, autocommit=True) as connection:
        while connection.execute(query).fetchone() == (0,) or worker.poll() is not None:
            assert worker.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.2)
    time.sleep(2)


def test_an_api_does_not_start_on_a_later_database(database_url: str, environment: dict[str, str]) -> None:
    change_as_a_later_version(database_url)
    argv = [sys.executable, "-m", "uvicorn", "service.app:start", "--factory", "--port", "0"]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode != 0
    assert "9999.later" in done.stderr
