"""Tallies of jobs in a real Postgres: what several transactions end at once, divide, cancel and delete."""

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations

import pytest

from schema.graph import JobKey, NewJob
from schema.stages import Stage
from schema.store import database, jobs, runs
from schema.store.database import Connection
from schema.store.jobs import Held, Job
from tests.bare_run import store_bare_run
from tests.schema.counting import counted, tallied

N_SLOTS = 8
N_SHARDS = 6


@pytest.fixture
def run_id(connection: Connection) -> uuid.UUID:
    """Return a stored run of six ready corpus jobs, and a merge that waits for them."""
    run = store_bare_run(connection)
    shards = [JobKey(Stage.EXEMPLARS, 0, shard) for shard in range(N_SHARDS)]
    merge = NewJob(JobKey(Stage.MERGE), waits_for=tuple(shards))
    jobs.insert(connection, run, [*(NewJob(shard) for shard in shards), merge])
    connection.commit()
    return run


@pytest.fixture
def pair(database_url: str) -> Iterator[tuple[Connection, Connection]]:
    """Yield two connections whose sessions count in the same rows, and which wait for a lock for 5 s at most."""
    opened = [database.connect(database_url) for _ in range(N_SLOTS + 1)]
    pids = {one: one.info.backend_pid % N_SLOTS for one in opened}
    first, second = next(pair for pair in combinations(opened, 2) if pids[pair[0]] == pids[pair[1]])
    for one in (first, second):
        one.execute("SET lock_timeout = '5s'")
        one.commit()
    yield first, second
    for one in opened:
        one.close()


def claim(connection: Connection) -> Job:
    job = jobs.claim(connection, list(Stage), owner="test", lease_s=60)
    assert job is not None
    connection.commit()
    return job


def done(connection: Connection, run_id: uuid.UUID) -> int:
    connection.rollback()
    return runs.progress(connection, run_id)[0].jobs_done


def test_who_ends_a_job_waits_for_nobody_who_ends_another(
    connection: Connection, run_id: uuid.UUID, pair: tuple[Connection, Connection]
) -> None:
    one, other = pair
    first, second = claim(one), claim(other)
    one.execute("UPDATE job SET state = 'done', finished_at = now() WHERE id = %s", (first.id,))
    other.execute("UPDATE job SET state = 'done', finished_at = now() WHERE id = %s", (second.id,))
    assert done(connection, run_id) == 0
    other.commit()
    assert done(connection, run_id) == 1
    one.commit()
    assert done(connection, run_id) == 2
    assert tallied(connection, run_id) == counted(connection, run_id)


def test_a_run_that_fails_while_its_jobs_end_is_no_deadlock(
    connection: Connection, run_id: uuid.UUID, pair: tuple[Connection, Connection]
) -> None:
    one, other = pair
    first, second = claim(one), claim(other)
    one.execute("UPDATE job SET state = 'dead' WHERE id = %s", (first.id,))
    jobs.finish(other, second)
    with ThreadPoolExecutor(1) as thread:
        cancelled = thread.submit(jobs.cancel, one, run_id)
        other.commit()
        cancelled.result(10)
    one.commit()
    assert [(stage.jobs_done, stage.dead) for stage in runs.progress(connection, run_id)] == [(1, 1), (0, 0)]
    assert tallied(connection, run_id) == counted(connection, run_id)


def test_what_is_rolled_back_is_not_counted(connection: Connection, run_id: uuid.UUID) -> None:
    job = claim(connection)
    jobs.finish(connection, job)
    assert done(connection, run_id) == 0
    jobs.finish(connection, job)
    connection.commit()
    assert done(connection, run_id) == 1


def test_a_deleted_run_leaves_no_tally_and_those_of_others_as_they_were(
    connection: Connection, run_id: uuid.UUID
) -> None:
    jobs.finish(connection, claim(connection))
    jobs.bury(connection, Held(*claim(connection)[:4], fence=1), "it failed")
    other = store_bare_run(connection)
    jobs.insert(connection, other, [NewJob(JobKey(Stage.INGEST))])
    claim(connection)
    before = tallied(connection, other)
    connection.execute("DELETE FROM run WHERE id = %s", (run_id,))
    connection.commit()
    assert connection.execute("SELECT DISTINCT run_id FROM stage_tally").fetchall() == [(other,)]
    assert tallied(connection, other) == before == counted(connection, other)
    assert runs.progress(connection, run_id) == ()


def test_a_job_that_is_taken_up_again_is_no_longer_counted_as_done(connection: Connection, run_id: uuid.UUID) -> None:
    job = claim(connection)
    jobs.finish(connection, job)
    connection.commit()
    assert done(connection, run_id) == 1
    connection.execute("UPDATE job SET state = 'ready' WHERE id = %s", (job.id,))
    connection.commit()
    assert done(connection, run_id) == 0


def test_deleting_some_jobs_of_a_run_uncounts_them(connection: Connection, run_id: uuid.UUID) -> None:
    connection.execute("DELETE FROM job WHERE stage = 'merge'")
    connection.execute("DELETE FROM job WHERE corpus_shard = 0")
    (exemplars,) = runs.progress(connection, run_id)
    assert (exemplars.jobs, exemplars.units) == (N_SHARDS - 1, N_SHARDS - 1)


def test_progress_of_several_runs_is_that_of_each(connection: Connection, run_id: uuid.UUID) -> None:
    other = store_bare_run(connection)
    jobs.insert(connection, other, [NewJob(JobKey(Stage.INGEST))])
    found = runs.progress_of(connection, [run_id, other, uuid.uuid4()])
    assert found == {id_: runs.progress(connection, id_) for id_ in (run_id, other)}
