"""Whose turn it is: claims among runs, on a real Postgres."""

import uuid
from collections import Counter
from itertools import islice

from psycopg.types.json import Jsonb

from schema.graph import JobKey, NewJob
from schema.stages import Stage
from schema.store import jobs
from schema.store.database import Connection


def make_run(connection: Connection, dictionary_of: uuid.UUID, n_blocks: int, **spec: object) -> uuid.UUID:
    """Store a run of as many ready blocks."""
    id_ = uuid.uuid4()
    connection.execute(
        "INSERT INTO run (id, tenant_id, dictionary_id, spec) SELECT %s, 1, dictionary_id, %s FROM run WHERE id = %s",
        (id_, Jsonb(spec), dictionary_of),
    )
    jobs.insert(connection, id_, [NewJob(JobKey(Stage.STEERING, block)) for block in range(n_blocks)])
    return id_


def turns(connection: Connection, n: int) -> list[uuid.UUID]:
    """Return whose jobs the next n claims are; fewer if there are no more."""
    found = (jobs.claim(connection, list(Stage), owner="test", lease_s=60) for _ in range(n))
    return [job.run_id for job in islice(iter(lambda: next(found, None), None), n)]


def test_a_small_run_is_not_stuck_behind_a_large_one(connection: Connection, run_id: uuid.UUID) -> None:
    large = make_run(connection, run_id, 1000)
    assert turns(connection, 50) == [large] * 50
    small = make_run(connection, run_id, 10)
    assert Counter(turns(connection, 20)) == {large: 10, small: 10}
    assert turns(connection, 5) == [large] * 5


def test_a_large_run_that_comes_later_does_not_hold_up_the_earlier_one(
    connection: Connection, run_id: uuid.UUID
) -> None:
    first = make_run(connection, run_id, 100)
    turns(connection, 50)
    second = make_run(connection, run_id, 1000)
    assert Counter(turns(connection, 60)) == {first: 30, second: 30}


def test_a_run_of_three_times_the_weight_gets_three_times_the_turns(connection: Connection, run_id: uuid.UUID) -> None:
    light, heavy = make_run(connection, run_id, 100), make_run(connection, run_id, 100, weight=3)
    counted = Counter(turns(connection, 40))
    assert abs(counted[heavy] - 30) <= 1
    assert abs(counted[light] - 10) <= 1


def test_a_higher_priority_goes_first(connection: Connection, run_id: uuid.UUID) -> None:
    low = make_run(connection, run_id, 5, priority=-1)
    high = make_run(connection, run_id, 5)
    assert turns(connection, 10) == [high] * 5 + [low] * 5


def test_a_paused_run_neither_gets_turns_nor_holds_up_the_clock(connection: Connection, run_id: uuid.UUID) -> None:
    paused = make_run(connection, run_id, 100)
    turns(connection, 1)
    other = make_run(connection, run_id, 100)
    connection.execute("UPDATE run SET state = 'paused' WHERE id = %s", (paused,))
    assert turns(connection, 50) == [other] * 50
    late = make_run(connection, run_id, 100)
    assert Counter(turns(connection, 20)) == {other: 10, late: 10}
    assert jobs.ready_queues(connection) == ["subject"]
