"""What becomes of jobs whose worker was lost, on a real Postgres."""

import uuid

import pytest

from schema.errors import LeaseLost
from schema.graph import JobKey, NewJob
from schema.stages import Stage
from schema.store import database, jobs, run_features, runs, sweeper
from schema.store.database import Connection
from schema.store.jobs import Job
from schema.store.run_features import RunFeature
from schema.store.sweeper import MAX_LOSSES_OF_ALL, MAX_STARTS


def claim(connection: Connection, *stages: Stage, lease_s: float = 0, begin: bool = True) -> Job:
    job = jobs.claim(connection, stages or list(Stage), owner="test", lease_s=lease_s)
    assert job is not None
    if begin:
        jobs.begin(connection, job)
    connection.commit()
    return job


def lose(connection: Connection, *stages: Stage, begin: bool = True) -> Job:
    """Claim a job under a lease that is over at once, and sweep."""
    job = claim(connection, *stages, begin=begin)
    sweeper.sweep(connection)
    connection.commit()
    return job


def run_state(connection: Connection, run_id: uuid.UUID) -> str:
    (state,) = connection.execute("SELECT state FROM run WHERE id = %s", (run_id,)).fetchone() or ("gone",)
    return str(state)


def states(connection: Connection, stage: Stage) -> list[tuple[int, int, int, str, int]]:
    rows = connection.execute(
        "SELECT block, corpus_shard, feature_lo, state, lost FROM job WHERE stage = %s ORDER BY 1, 2", (stage,)
    )
    return rows.fetchall()


@pytest.fixture
def block(connection: Connection, run_id: uuid.UUID) -> uuid.UUID:
    """Return a run with one block of four features, 10 to 13; the last is not selected."""
    some = [RunFeature(position, 10 + position, position < 3, True) for position in range(4)]
    run_features.put(connection, run_id, some)
    steering, judge = JobKey(Stage.STEERING), JobKey(Stage.JUDGE)
    made = [
        NewJob(steering, 0, 4, 4),
        NewJob(JobKey(Stage.DESCRIBE), 0, 4, 4, (steering,)),
        NewJob(judge, 0, 4, 3),
        NewJob(JobKey(Stage.PUBLISH), 0, 4, 3, (judge,)),
    ]
    jobs.insert(connection, run_id, made)
    connection.commit()
    return run_id


def test_a_block_that_is_lost_twice_becomes_single_features(connection: Connection, block: uuid.UUID) -> None:
    lose(connection, Stage.STEERING)
    assert states(connection, Stage.STEERING) == [(0, 0, 0, "ready", 1)]
    stale = lose(connection, Stage.STEERING)
    assert states(connection, Stage.STEERING) == [(0, 1 + i, i, "ready", 1) for i in range(4)]
    with pytest.raises(LeaseLost):
        jobs.finish(connection, stale)
    connection.rollback()
    for _ in range(4):
        assert not connection.execute("SELECT 1 FROM job WHERE stage = 'describe' AND state = 'ready'").fetchone()
        part = claim(connection, Stage.STEERING)
        jobs.finish(connection, part, {"cosines": {str(part.feature_lo): [1.0]}})
    assert states(connection, Stage.DESCRIBE) == [(0, 0, 0, "ready", 0)]
    assert jobs.left(connection, block, Stage.STEERING, 0, "cosines") == {str(i): [1.0] for i in range(4)}


def test_parts_of_a_test_are_the_selected_features(connection: Connection, block: uuid.UUID) -> None:
    for _ in range(2):
        lose(connection, Stage.JUDGE)
    assert [row[2] for row in states(connection, Stage.JUDGE)] == [0, 1, 2]


def test_the_poisonous_feature_is_dead_and_named_and_its_neighbours_are_done(
    connection: Connection, block: uuid.UUID
) -> None:
    n_losses = 0
    while job := jobs.claim(connection, list(Stage), owner="test", lease_s=0):
        jobs.begin(connection, job)
        if job.stage == Stage.STEERING and job.feature_lo <= 2 < job.feature_hi:
            connection.commit()
            sweeper.sweep(connection)
            n_losses += 1
        else:
            jobs.finish(connection, job)
        connection.commit()
    assert n_losses == 4
    assert [row[3] for row in states(connection, Stage.STEERING)] == ["done", "done", "dead", "done"]
    (dead,) = runs.dead(connection, block)
    assert (dead.stage, dead.features) == ("steering", (12,))
    assert dead.reason == "lost 3 times: its worker died or hung each time"
    assert run_state(connection, block) == "done"


def test_a_loss_counts_once_work_has_begun_and_starts_end_all_the_same(
    connection: Connection, block: uuid.UUID
) -> None:
    for attempt in range(1, MAX_STARTS):
        assert lose(connection, Stage.STEERING, begin=False).attempt == attempt
        assert states(connection, Stage.STEERING) == [(0, 0, 0, "ready", 0)]
    lose(connection, Stage.STEERING, begin=False)
    assert states(connection, Stage.STEERING)[0][3] == "dead"


def test_what_all_of_a_run_waits_for_is_given_up_later(connection: Connection, run_id: uuid.UUID) -> None:
    jobs.insert(connection, run_id, [NewJob(JobKey(Stage.MERGE))])
    connection.commit()
    for _ in range(MAX_LOSSES_OF_ALL - 1):
        lose(connection, Stage.MERGE)
        assert [row[3] for row in states(connection, Stage.MERGE)] == ["ready"]
    lose(connection, Stage.MERGE)
    assert [row[3] for row in states(connection, Stage.MERGE)] == ["dead"]
    assert run_state(connection, run_id) == "failed"


@pytest.fixture
def corpus(connection: Connection, run_id: uuid.UUID) -> uuid.UUID:
    """Return a run with two corpus shards and their merge."""
    shards = [JobKey(Stage.EXEMPLARS, 0, shard) for shard in range(2)]
    jobs.insert(
        connection, run_id, [*(NewJob(key) for key in shards), NewJob(JobKey(Stage.MERGE), waits_for=tuple(shards))]
    )
    connection.commit()
    return run_id


def lose_at(connection: Connection, document: int | None) -> Job:
    job = claim(connection, Stage.EXEMPLARS)
    if document is not None:
        jobs.hold(connection, job, document)
        connection.commit()
    sweeper.sweep(connection)
    connection.commit()
    return job


def test_a_document_that_kills_is_read_alone_and_then_left_out_by_name(
    connection: Connection, corpus: uuid.UUID
) -> None:
    assert [lose_at(connection, document).shard for document in (None, 6)] == [0, 0]
    assert states(connection, Stage.EXEMPLARS) == [(0, 0, 0, "ready", 1), (0, 1, 0, "ready", 0), (7, 0, 0, "ready", 1)]
    assert jobs.set_apart(connection, corpus, 0) == {6: "ready"}
    again = claim(connection, Stage.EXEMPLARS, lease_s=60)
    assert (again.shard, again.document, again.attempt) == (0, None, 1)
    jobs.finish(connection, again)
    assert [lose_at(connection, None).document for _ in range(2)] == [6, 6]
    assert jobs.set_apart(connection, corpus, 0) == {6: "dead"}
    jobs.finish(connection, claim(connection, Stage.EXEMPLARS, lease_s=60))
    assert claim(connection).stage == Stage.MERGE
    assert run_state(connection, corpus) == "running"
    (dead,) = runs.dead(connection, corpus)
    assert (dead.stage, dead.document, dead.features) == ("exemplars", 6, ())


def test_a_shard_that_is_lost_before_any_document_fails_the_run(connection: Connection, corpus: uuid.UUID) -> None:
    for _ in range(3):
        connection.execute("UPDATE job SET state = 'blocked' WHERE stage = 'exemplars' AND corpus_shard = 1")
        lose_at(connection, None)
    assert run_state(connection, corpus) == "failed"


def test_a_sweeper_that_stops_half_way_does_not_keep_the_others_from_the_work(
    connection: Connection, database_url: str, block: uuid.UUID
) -> None:
    claim(connection, Stage.STEERING)
    with database.connect(database_url) as stopped, database.connect(database_url) as other:
        sweeper._queries.limit_idleness(stopped)
        assert sweeper._queries.try_lock(stopped)
        assert sweeper.sweep(other) == ["llm"]  # its own queues are rung for, whoever sweeps
        other.commit()
        assert states(connection, Stage.STEERING)[0][3] == "leased"
    with database.connect(database_url) as other:
        sweeper.sweep(other)
    connection.rollback()
    assert states(connection, Stage.STEERING)[0][3] == "ready"
