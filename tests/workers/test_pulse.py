"""What keeps leases and sees that a run was paused, on a real Postgres."""

import time
from collections.abc import Callable

import psycopg
import pytest
from structlog.testing import capture_logs

from schema.errors import JobStopped, LeaseLost
from schema.graph import JobKey, NewJob
from schema.settings import Settings
from schema.stages import Stage
from schema.store import database, jobs
from schema.store.database import Connection
from schema.store.jobs import Job
from tests.bare_run import store_bare_run
from workers.pulse import Progress, Pulse

CUT = """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE '%AS held%'"""

REFUSE = """CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full';
END $$;
CREATE TRIGGER refuse BEFORE UPDATE OF progress ON job EXECUTE FUNCTION refuse()"""


@pytest.fixture
def settings(database_url: str) -> Settings:
    return Settings(database_url=database_url, watch_s=0.1, heartbeat_s=0.3)


@pytest.fixture
def job(connection: Connection) -> Job:
    run = store_bare_run(connection)
    jobs.insert(connection, run, [NewJob(JobKey(Stage.DESCRIBE))])
    claimed = jobs.claim(connection, list(Stage), owner="test", lease_s=60)
    assert claimed is not None
    connection.commit()
    return claimed


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def left_s(connection: Connection, job: Job) -> float:
    row = connection.execute(
        "SELECT extract(epoch FROM lease_until - clock_timestamp()) FROM job WHERE id = %s", (job.id,)
    )
    (seconds,) = row.fetchone() or (0,)
    connection.commit()
    return float(seconds)


def test_work_that_goes_on_keeps_its_lease_and_work_that_stands_still_does_not(
    settings: Settings, connection: Connection, job: Job
) -> None:
    progress = Progress()
    with Pulse(settings).holding(job, progress, lease_s=1000):
        until(lambda: left_s(connection, job) > 900)
        connection.execute("UPDATE job SET lease_until = now() WHERE id = %s", (job.id,))
        connection.commit()
        time.sleep(1)
        assert left_s(connection, job) < 0
        progress.advance()
        until(lambda: left_s(connection, job) > 900)


def test_a_pause_and_a_takeover_are_raised_where_work_says_that_it_goes_on(
    settings: Settings, connection: Connection, job: Job
) -> None:
    progress, pulse = Progress(), Pulse(settings)
    with pulse.holding(job, progress, lease_s=60):
        connection.execute("UPDATE run SET state = 'paused' WHERE id = %s", (job.run_id,))
        connection.commit()
        until(lambda: progress.stopped)
        with pytest.raises(JobStopped, match="paused"):
            progress.advance()
    progress = Progress()
    with pulse.holding(job, progress, lease_s=60):
        connection.execute("UPDATE run SET state = 'running' WHERE id = %s", (job.run_id,))
        connection.execute("UPDATE job SET fence = fence + 1 WHERE id = %s", (job.id,))
        connection.commit()
        until(lambda: progress.stopped)
        with pytest.raises(LeaseLost):
            progress.advance()


def test_a_connection_that_is_cut_is_made_anew(settings: Settings, connection: Connection, job: Job) -> None:
    progress = Progress()
    with Pulse(settings).holding(job, progress, lease_s=1000):
        until(lambda: left_s(connection, job) > 900)
        with psycopg.connect(settings.database_url, autocommit=True) as operator:
            until(lambda: operator.execute(CUT).fetchall())
        connection.execute("UPDATE run SET state = 'cancelled' WHERE id = %s", (job.run_id,))
        connection.commit()
        until(lambda: progress.stopped)


def test_a_heartbeat_that_a_full_disk_refuses_is_tried_again(
    settings: Settings, connection: Connection, job: Job
) -> None:
    connection.execute(REFUSE)
    connection.commit()
    with capture_logs() as logs, Pulse(settings).holding(job, Progress(), lease_s=1000):
        until(lambda: any("disk that holds the database is full" in line.get("error", "") for line in logs))
        connection.execute("DROP FUNCTION refuse() CASCADE")
        connection.commit()
        until(lambda: left_s(connection, job) > 900)


def test_work_begins_once_with_its_first_move(database_url: str, connection: Connection, job: Job) -> None:
    def begin() -> None:
        with database.connect(database_url) as own:
            jobs.begin(own, job)

    progress = Progress(begin)
    assert connection.execute("SELECT begun FROM job WHERE id = %s", (job.id,)).fetchone() == (False,)
    connection.commit()
    progress.advance(2)
    progress.advance(3)
    assert progress.done == 5
    assert connection.execute("SELECT begun FROM job WHERE id = %s", (job.id,)).fetchone() == (True,)
