"""The readable schema, the migrations and what happens when they are applied twice."""

import uuid
from importlib.resources import files

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from schema.graph import JobKey, NewJob
from schema.labels import Label, Status
from schema.records import Amount
from schema.stages import Stage
from schema.store import calls, database, features, jobs, labels, run_features, runs, spending
from schema.store.calls import Call
from schema.store.database import Connection
from schema.store.run_features import RunFeature
from tests.conftest import pg_dump
from tests.schema.counting import counted, tallied


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


def test_runs_from_before_accounts_have_spent_what_their_ledger_says(connection: Connection, run_id: uuid.UUID) -> None:
    free = uuid.uuid4()
    connection.execute(
        "INSERT INTO run (id, tenant_id, dictionary_id, spec) SELECT %s, 1, dictionary_id, spec FROM run", (free,)
    )
    call = Call(None, "judge", "p", "m", "ok", 2, 100, 40, 20, 0.25, 1.0, False)
    for dollars in (0.25, 0.5):
        calls.put(connection, 1, run_id, call._replace(dollars=dollars))
    connection.execute("DROP TABLE spending")
    connection.execute("ALTER TABLE run DROP COLUMN llms")
    connection.execute((files("schema") / "migrations" / "0006.spending.sql").read_bytes())
    known = spending.summary(connection, run_id)
    assert known is not None
    assert (known.spent, known.n_settled, known.budget) == (Amount(dollars=0.75, tokens=240), 4, None)
    untouched = spending.summary(connection, free)
    assert untouched is not None
    assert untouched.spent == Amount(dollars=0, tokens=0)


def test_runs_from_before_have_their_own_labels_and_where_those_name_a_later_run_the_newest(
    connection: Connection, run_id: uuid.UUID
) -> None:
    (dictionary_id,) = connection.execute("SELECT dictionary_id FROM run").fetchall()[0]
    features.create(connection, dictionary_id, 3)
    later = uuid.uuid4()
    connection.execute(
        "INSERT INTO run (id, tenant_id, dictionary_id, spec, state)"
        " SELECT %s, 1, dictionary_id, spec, 'running' FROM run",
        (later,),
    )
    connection.execute("UPDATE run SET state = 'done' WHERE id = %s", (run_id,))
    connection.execute(
        "INSERT INTO run_feature (run_id, position, feature, selected, pooled)"
        " SELECT run.id, place, place, place < 2, false FROM run, generate_series(0, 2) AS places (place)"
    )
    for feature, run, text in ((0, run_id, "own"), (0, later, "later's"), (1, later, "of both")):
        label = Label(feature=feature, text=text, status=Status.OK, method="lexical", description_id=None)
        labels.publish(connection, dictionary_id, run, label, text)
    connection.execute("ALTER TABLE run_feature DROP COLUMN label_id")
    for index in ("feature_by_input_value", "feature_by_output_value", "feature_by_status", "call_by_time"):
        connection.execute(SQL("DROP INDEX {}").format(Identifier(index)))
    connection.execute((files("schema") / "migrations" / "0011.labels-of-runs.sql").read_bytes())
    for run, texts in ((run_id, ["own", "of both"]), (later, ["later's", "of both"])):
        assert [one.text for one in labels.of_run(connection, run)] == texts


def test_runs_from_before_tallies_stand_as_they_stood(connection: Connection, run_id: uuid.UUID) -> None:
    (dictionary_id,) = connection.execute("SELECT dictionary_id FROM run").fetchall()[0]
    features.create(connection, dictionary_id, 3)
    run_features.put(connection, run_id, [RunFeature(i, i, selected=i > 0, pooled=True) for i in range(3)])
    jobs.insert(connection, run_id, [NewJob(JobKey(Stage.DESCRIBE, block), 0, 3, 3) for block in range(4)])
    claimed = [jobs.claim(connection, list(Stage), owner="test", lease_s=60) for _ in range(3)]
    done, dead, under_way = (job for job in claimed if job is not None)
    jobs.finish(connection, done)
    jobs.fail(connection, dead, reason="it failed", final=True)
    jobs.heartbeat(connection, under_way, lease_s=60, progress=2)
    for feature, method in ((0, "lexical"), (1, "lexical"), (2, None)):
        label = Label(feature=feature, text="rivers", status=Status.OK, method=method, description_id=None)
        labels.publish(connection, dictionary_id, run_id, label, "r")
    labels.tally(connection, [run_id], [0, 1, 2])
    for purpose, dollars in (("judge", 0.25), ("judge", 0.5), ("write", None)):
        calls.put(connection, 1, run_id, Call(None, purpose, "p", "m", "ok", 2, 100, 40, 20, dollars, 1.5, False))
    connection.commit()
    before = [read(connection, run_id) for read in (runs.progress, runs.counts, calls.usage)]
    assert [(one.method, one.n) for one in runs.counts(connection, run_id)] == [("lexical", 1), (None, 1)]
    connection.execute("DROP TABLE stage_tally, label_tally, usage_tally")
    connection.execute("DROP FUNCTION tally_made_jobs, tally_ended_job CASCADE")
    connection.execute("DROP INDEX job_dead")
    connection.execute((files("schema") / "migrations" / "0017.progress.sql").read_bytes())
    assert [read(connection, run_id) for read in (runs.progress, runs.counts, calls.usage)] == before
    assert tallied(connection, run_id) == counted(connection, run_id)
