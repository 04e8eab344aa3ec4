"""The job state machine on a real Postgres."""

import uuid

import pytest

from schema import graph
from schema.errors import LeaseLost
from schema.graph import JobKey, NewJob
from schema.stages import Stage
from schema.store import database, jobs, sweeper
from schema.store.database import Connection

ANY = list(Stage)


def state_of(connection: Connection, job: jobs.Job) -> tuple[str, int, int, int]:
    row = connection.execute("SELECT state, attempt, lost, deps_left FROM job WHERE id = %s", (job.id,)).fetchone()
    assert row is not None
    return row


def run_state(connection: Connection, run_id: uuid.UUID) -> tuple[str, str | None]:
    row = connection.execute("SELECT state, note FROM run WHERE id = %s", (run_id,)).fetchone()
    assert row is not None
    return row


def claim(connection: Connection, lease_s: float = 60) -> jobs.Job | None:
    return jobs.claim(connection, ANY, owner="test", lease_s=lease_s)


def test_jobs_become_ready_only_after_everything_they_wait_for(connection: Connection, run_id: uuid.UUID) -> None:
    assert jobs.insert(connection, run_id, graph.initial_jobs(2)) == ["subject"]
    order = []
    while (job := claim(connection)) is not None:
        order.append((job.stage, job.shard))
        jobs.finish(connection, job)
    assert order == [(Stage.INGEST, 0), (Stage.EXEMPLARS, 0), (Stage.EXEMPLARS, 1), (Stage.MERGE, 0)]
    assert run_state(connection, run_id) == ("done", None)


def test_a_whole_run_with_blocks_ends_done(connection: Connection, run_id: uuid.UUID) -> None:
    jobs.insert(connection, run_id, graph.initial_jobs(1))
    blocks = graph.blocks_of([True] * 3 + [False] * 2 + [True] * 4, [True] * 5 + [False] * 4, size=2)
    seen: list[Stage] = []
    while (job := claim(connection)) is not None:
        seen.append(job.stage)
        jobs.finish(connection, job, more=graph.block_jobs(blocks) if job.stage == Stage.MERGE else ())
    assert run_state(connection, run_id)[0] == "done"
    assert seen.count(Stage.STEERING) == 5
    assert seen.count(Stage.PUBLISH) == 4
    last_pool_write = max(i for i, stage in enumerate(seen) if stage == Stage.WRITE)
    assert last_pool_write > seen.index(Stage.WRITE)


def test_a_stale_worker_can_not_finish(connection: Connection, run_id: uuid.UUID) -> None:
    jobs.insert(connection, run_id, [NewJob(JobKey(Stage.INGEST))])
    stale = claim(connection, lease_s=0)
    assert stale is not None
    jobs.begin(connection, stale)
    connection.commit()
    sweeper.sweep(connection)
    fresh = claim(connection)
    assert fresh is not None
    assert fresh.fence == stale.fence + 1
    assert state_of(connection, fresh)[2] == 1
    with pytest.raises(LeaseLost):
        jobs.finish(connection, stale)
    with pytest.raises(LeaseLost):
        jobs.heartbeat(connection, stale, lease_s=1, progress=0)
    jobs.finish(connection, fresh)
    assert state_of(connection, fresh)[0] == "done"


def test_a_job_lost_three_times_is_dead_and_its_dependants_go_on(connection: Connection, run_id: uuid.UUID) -> None:
    describe = JobKey(Stage.DESCRIBE)
    jobs.insert(connection, run_id, [NewJob(describe), NewJob(JobKey(Stage.WRITE), waits_for=(describe,))])
    for _ in range(3):
        job = jobs.claim(connection, [Stage.DESCRIBE], owner="test", lease_s=0)
        assert job is not None
        jobs.begin(connection, job)
        connection.commit()
        sweeper.sweep(connection)
        connection.commit()
    assert state_of(connection, job)[0] == "dead"
    after = claim(connection)
    assert after is not None
    assert after.stage == Stage.WRITE


def test_a_run_without_its_merge_has_failed(connection: Connection, run_id: uuid.UUID) -> None:
    jobs.insert(connection, run_id, graph.initial_jobs(1))
    job = claim(connection)
    assert job is not None
    jobs.fail(connection, job, reason="d_model is 64; the weights have 32", final=True)
    assert run_state(connection, run_id) == ("failed", "ingest: d_model is 64; the weights have 32")
    assert claim(connection) is None


def test_a_job_that_is_given_back_costs_no_attempt_and_the_run_says_why(
    connection: Connection, run_id: uuid.UUID
) -> None:
    jobs.insert(connection, run_id, [NewJob(JobKey(Stage.DESCRIBE))])
    job = claim(connection)
    assert job is not None
    jobs.give_back(connection, job, reason="the LLM does not answer", delay_s=0)
    assert state_of(connection, job)[:2] == ("ready", 0)
    assert run_state(connection, run_id) == ("running", "the LLM does not answer")


def test_a_failing_job_is_retried_five_times(connection: Connection, run_id: uuid.UUID) -> None:
    jobs.insert(connection, run_id, [NewJob(JobKey(Stage.DESCRIBE))])
    for attempt in range(1, 6):
        connection.execute("UPDATE job SET run_at = now()")
        job = claim(connection)
        assert job is not None
        assert job.attempt == attempt
        jobs.fail(connection, job, reason="boom", final=False)
    assert state_of(connection, job)[0] == "dead"


def test_jobs_of_a_paused_run_are_not_claimed(connection: Connection, run_id: uuid.UUID) -> None:
    jobs.insert(connection, run_id, [NewJob(JobKey(Stage.DESCRIBE))])
    connection.execute("UPDATE run SET state = 'paused'")
    assert claim(connection) is None


def test_two_workers_never_claim_the_same_job(connection: Connection, database_url: str, run_id: uuid.UUID) -> None:
    jobs.insert(connection, run_id, [NewJob(JobKey(Stage.DESCRIBE, 0)), NewJob(JobKey(Stage.DESCRIBE, 1))])
    connection.commit()
    with database.connect(database_url) as other:
        first = claim(connection)
        connection.commit()
        second = claim(other)
    assert first is not None
    assert second is not None
    assert first.id != second.id
