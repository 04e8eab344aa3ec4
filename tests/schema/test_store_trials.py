"""Trials in the store: claimed once, over by their time, kept for a day."""

import time
import uuid
from collections.abc import Iterator

import psycopg
import pytest

from schema.errors import NotFound, Unavailable
from schema.store import sweeper, trials
from schema.store.database import Connection
from schema.trials import MOST_UNFINISHED, ActivationsSpec, FeatureActivation, TextActivations, TokenActivations, Trial
from tests.bare_run import store_bare_run

SPEC = ActivationsSpec(text="a river")
RESULT = TextActivations(
    tokens=(TokenActivations(token="a river", features=(FeatureActivation(index=1, activation=0.5),)),)
)
_SPEC_OF_DICTIONARY = (
    '{"name": "n", "subject": "s", "read_site": "resid_post.1", "encoder": {"kind": "relu"}, "n_features": 3}'
)


@pytest.fixture
def run_id(connection: Connection) -> uuid.UUID:
    run = store_bare_run(connection)
    connection.execute("UPDATE dictionary SET spec = %s, digest = repeat('0', 64)", (_SPEC_OF_DICTIONARY,))
    connection.execute("INSERT INTO feature (dictionary_id, index, label) SELECT id, 1, 'rivers' FROM dictionary")
    connection.commit()
    return run


def add(connection: Connection, timeout_s: float = 60) -> uuid.UUID:
    (dictionary,) = connection.execute("SELECT id FROM dictionary LIMIT 1").fetchone() or (None,)
    id_ = uuid.uuid4()
    trials.create(connection, 1, id_, dictionary, SPEC, timeout_s=timeout_s)
    connection.commit()
    return id_


def look(connection: Connection, id_: uuid.UUID) -> Trial:
    found = trials.get(connection, 1, id_)
    connection.commit()
    return found


@pytest.mark.usefixtures("run_id")
def test_a_trial_is_claimed_once_and_read_with_labels(connection: Connection) -> None:
    first, second = add(connection), add(connection)
    claimed = trials.claim(connection)
    assert claimed is not None
    assert (claimed.id, claimed.spec, claimed.feature) == (first, SPEC, None)
    following = trials.claim(connection)
    assert following is not None
    assert following.id == second
    assert trials.claim(connection) is None
    assert trials.finish(connection, first, RESULT)
    found = look(connection, first)
    assert found.state == "done"
    assert found.activations is not None
    assert found.activations.tokens == RESULT.tokens
    assert [summary.label for summary in found.activations.features] == ["rivers"]


@pytest.mark.usefixtures("run_id")
def test_one_that_is_not_over_by_its_time_is_expired_and_says_why(connection: Connection) -> None:
    id_ = add(connection, timeout_s=0.001)
    time.sleep(0.01)
    found = look(connection, id_)
    assert (found.state, found.over) == ("expired", True)
    assert found.reason is not None
    assert "no subject worker took it within 0.001 s" in found.reason
    assert trials.claim(connection) is None
    assert trials.ready_queues(connection) == []


@pytest.mark.usefixtures("run_id")
def test_a_worker_that_comes_too_late_changes_nothing(connection: Connection) -> None:
    id_ = add(connection)
    assert trials.claim(connection) is not None
    connection.execute("UPDATE trial SET expires_at = clock_timestamp()")
    assert trials.is_over(connection, id_)
    assert not trials.finish(connection, id_, RESULT)
    trials.fail(connection, id_, error="InvalidInput", reason="late")
    found = look(connection, id_)
    assert found.state == "expired"
    assert found.reason is not None
    assert "its worker did not finish" in found.reason


@pytest.mark.usefixtures("run_id")
def test_a_cancelled_one_stays_cancelled_and_one_that_is_done_stays_done(connection: Connection) -> None:
    id_ = add(connection)
    assert trials.claim(connection) is not None
    assert trials.cancel(connection, 1, id_).state == "cancelled"
    assert not trials.finish(connection, id_, RESULT)
    done = add(connection)
    assert trials.claim(connection) is not None
    assert trials.finish(connection, done, RESULT)
    assert trials.cancel(connection, 1, done).state == "done"


def test_beside_a_job_only_trials_of_its_subject_are_taken(connection: Connection, run_id: uuid.UUID) -> None:
    id_ = add(connection)
    other = store_bare_run(connection)
    connection.execute(
        "UPDATE dictionary SET spec = jsonb_set(%s, '{subject}', '\"another\"') "
        "WHERE id = (SELECT dictionary_id FROM run WHERE id = %s)",
        (_SPEC_OF_DICTIONARY, other),
    )
    connection.commit()
    assert trials.claim(connection, beside=other) is None
    claimed = trials.claim(connection, beside=run_id)
    assert claimed is not None
    assert claimed.id == id_


@pytest.mark.usefixtures("run_id")
def test_two_workers_at_once_take_two_trials(connection: Connection, database_url: str) -> None:
    first, second = add(connection), add(connection)
    with psycopg.connect(database_url) as other:
        mine, theirs = trials.claim(connection), trials.claim(other)
        assert mine is not None
        assert theirs is not None
        assert (mine.id, theirs.id) == (first, second)


@pytest.mark.usefixtures("run_id")
def test_no_more_than_so_many_wait_at_once(connection: Connection) -> None:
    for _ in range(MOST_UNFINISHED):
        add(connection)
    with pytest.raises(Unavailable, match=f"{MOST_UNFINISHED} trials are under way"):
        add(connection)


@pytest.mark.usefixtures("run_id")
def test_a_sweep_rings_for_what_waits_and_deletes_what_is_a_day_old(connection: Connection) -> None:
    old, new = add(connection), add(connection)
    connection.execute("UPDATE trial SET created_at = created_at - interval '25 h' WHERE id = %s", (old,))
    assert sweeper.sweep(connection) == ["subject"]
    assert look(connection, new).state == "waiting"
    with pytest.raises(NotFound, match="kept for a day"):
        look(connection, old)


@pytest.mark.usefixtures("run_id")
def test_the_trials_of_others_are_not_there(connection: Connection) -> None:
    id_ = add(connection)
    connection.execute("INSERT INTO tenant (id, name) VALUES (2, 'other')")
    for forbidden in (trials.get, trials.cancel):
        with pytest.raises(NotFound):
            forbidden(connection, 2, id_)
    assert look(connection, id_).state == "waiting"


@pytest.fixture
def notices(database_url: str) -> Iterator["psycopg.Connection[tuple[object, ...]]"]:
    """Yield a connection that listens for runs."""
    with psycopg.connect(database_url, autocommit=True) as listening:
        listening.execute("LISTEN glossarium_run")
        yield listening


def test_a_transaction_tells_of_a_run_once(
    connection: Connection, run_id: uuid.UUID, notices: "psycopg.Connection[tuple[object, ...]]"
) -> None:
    connection.execute(
        "INSERT INTO job (run_id, stage, queue, block, state) "
        "SELECT %s, 'publish', 'control', n, 'leased' FROM generate_series(1, 50) AS n",
        (run_id,),
    )
    connection.commit()
    connection.execute("UPDATE job SET state = 'done'")
    connection.execute("UPDATE run SET state = 'running'")
    connection.commit()
    connection.execute("UPDATE run SET state = state, note = note")
    connection.execute("UPDATE job SET lease_until = clock_timestamp()")
    connection.commit()
    heard = [notice.payload for notice in notices.notifies(timeout=1)]
    assert heard == [str(run_id)]
