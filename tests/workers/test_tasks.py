"""What a worker does by itself at a sweep, on a real Postgres and without a broker."""

import time
from collections.abc import Iterator

import pytest

from schema.graph import JobKey, NewJob
from schema.settings import load_settings
from schema.stages import Stage
from schema.store import jobs
from schema.store.database import Connection
from tests.bare_run import store_bare_run
from workers import tasks

N_JOBS = 4


@pytest.fixture
def waiting(connection: Connection, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have jobs wait that nobody rings for. Each is over at once: what it is about is not there."""
    run = store_bare_run(connection)
    jobs.insert(connection, run, [NewJob(JobKey(Stage.REPORT, block)) for block in range(N_JOBS)])
    connection.commit()
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    processwide = (load_settings, tasks.connections, tasks.engine, tasks.bell)
    for made_once in processwide:
        made_once.cache_clear()
    yield
    tasks.connections().close()
    for made_once in processwide:
        made_once.cache_clear()


def n_tried(connection: Connection) -> int:
    (n,) = connection.execute("SELECT count(*) FROM job WHERE attempt > 0").fetchone() or (0,)
    connection.commit()
    return int(n)


@pytest.mark.usefixtures("waiting")
def test_after_one_sweep_all_ready_work_is_carried_out(connection: Connection) -> None:
    tasks.sweep_and_work("control", time.monotonic() + 60)
    assert n_tried(connection) == N_JOBS


@pytest.mark.usefixtures("waiting")
def test_work_goes_on_no_longer_than_until_the_next_sweep(connection: Connection) -> None:
    for n in range(1, N_JOBS + 1):
        tasks.sweep_and_work("control", time.monotonic())
        assert n_tried(connection) == n


@pytest.mark.usefixtures("waiting")
def test_a_worker_leaves_alone_what_it_does_not_serve(connection: Connection) -> None:
    tasks.sweep_and_work("llm", time.monotonic() + 60)
    assert n_tried(connection) == 0
