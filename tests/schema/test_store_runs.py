"""Runs in a real Postgres: submit, states, progress."""

import uuid

import pytest

from schema.errors import Conflict, NotFound
from schema.records import DictionarySpec, Encoder, Run, RunSpec
from schema.stages import Stage
from schema.store import dictionaries, jobs, runs
from schema.store.database import Connection


@pytest.fixture
def spec(connection: Connection) -> RunSpec:
    neurons = DictionarySpec(
        name="d", subject="s", read_site="mlp_hidden.1", n_features=4, encoder=Encoder(kind="neurons")
    )
    return RunSpec(dictionary_id=dictionaries.create(connection, 1, uuid.uuid4(), neurons).id, features="0-2", seed=7)


def submit(connection: Connection, spec: RunSpec, tenant: int = 1) -> runs.Submitted:
    return runs.submit(connection, tenant, uuid.uuid4(), spec, n_features=3, n_shards=2)


def work_one(connection: Connection) -> Stage | None:
    job = jobs.claim(connection, list(Stage), owner="test", lease_s=60)
    if job is None:
        return None
    jobs.finish(connection, job)
    connection.commit()
    return job.stage


def state(connection: Connection, run: Run) -> str:
    return runs.get(connection, 1, run.id).state


def test_a_submitted_run_has_its_jobs_and_says_whom_to_ring(connection: Connection, spec: RunSpec) -> None:
    run, queues = submit(connection, spec)
    assert queues == ["subject"]
    assert run == runs.get(connection, 1, run.id)
    assert (run.state, run.spec, run.n_features, run.started_at) == ("queued", spec, 3, None)
    stages = runs.progress(connection, run.id)
    assert [(stage.stage, stage.jobs, stage.jobs_done) for stage in stages] == [
        ("ingest", 1, 0),
        ("exemplars", 2, 0),
        ("merge", 1, 0),
    ]


def test_progress_counts_what_is_done_with_its_seconds(connection: Connection, spec: RunSpec) -> None:
    run = submit(connection, spec).run
    assert [work_one(connection), work_one(connection)] == [Stage.INGEST, Stage.EXEMPLARS]
    report = runs.report(connection, 1, run.id)
    assert report.state == "running"
    assert [(count.method, count.status, count.n) for count in report.counts] == [(None, "unlabelled", 3)]
    ingest, exemplars, merge = report.stages
    assert (exemplars.units, exemplars.units_done, exemplars.jobs_done, exemplars.dead) == (2, 1, 1, 0)
    assert exemplars.seconds > 0
    assert ingest.first_started_at is not None
    assert ingest.last_finished_at is not None
    assert ingest.first_started_at <= ingest.last_finished_at
    assert (merge.units_done, merge.seconds, merge.first_started_at, merge.last_finished_at) == (0, 0.0, None, None)


def test_a_buried_job_is_counted_dead(connection: Connection, spec: RunSpec) -> None:
    run = submit(connection, spec).run
    work_one(connection)
    connection.execute("UPDATE job SET state = 'dead' WHERE stage = 'exemplars' AND corpus_shard = 1")
    connection.commit()
    (_, exemplars, _) = runs.progress(connection, run.id)
    assert (exemplars.dead, exemplars.jobs_done) == (1, 0)


def test_a_cancelled_run_has_no_work_left(connection: Connection, spec: RunSpec) -> None:
    run = submit(connection, spec).run
    work_one(connection)
    cancelled = runs.set_state(connection, 1, run.id, "cancelled")
    assert (cancelled.state, cancelled.finished_at is not None) == ("cancelled", True)
    assert work_one(connection) is None
    assert runs.set_state(connection, 1, run.id, "cancelled") == cancelled
    assert runs.ready_queues(connection, run.id) == []


def test_a_paused_run_rests_until_it_is_resumed(connection: Connection, spec: RunSpec) -> None:
    run = submit(connection, spec).run
    assert runs.set_state(connection, 1, run.id, "running").state == "queued"
    assert runs.set_state(connection, 1, run.id, "paused").state == "paused"
    assert work_one(connection) is None
    assert runs.set_state(connection, 1, run.id, "running").state == "queued"
    assert runs.ready_queues(connection, run.id) == ["subject"]
    assert work_one(connection) is Stage.INGEST
    runs.set_state(connection, 1, run.id, "paused")
    assert runs.set_state(connection, 1, run.id, "running").state == "running"
    runs.set_state(connection, 1, run.id, "paused")
    assert runs.set_state(connection, 1, run.id, "cancelled").state == "cancelled"


def test_a_run_that_is_over_changes_no_more(connection: Connection, spec: RunSpec) -> None:
    run = submit(connection, spec).run
    while work_one(connection) is not None:
        pass
    assert state(connection, run) == "done"
    with pytest.raises(Conflict, match=f"run {run.id} is done: only a queued, running or paused run can be cancelled"):
        runs.set_state(connection, 1, run.id, "cancelled")
    with pytest.raises(Conflict, match="is done: only a queued or running run can be paused"):
        runs.set_state(connection, 1, run.id, "paused")
    with pytest.raises(Conflict, match="is done: only a paused run can be resumed; submit a new run"):
        runs.set_state(connection, 1, run.id, "running")
    assert state(connection, run) == "done"


def test_a_foreign_run_is_not_found(connection: Connection, spec: RunSpec) -> None:
    connection.execute("INSERT INTO tenant (id, name) VALUES (2, 'other')")
    run = submit(connection, spec, tenant=2).run
    for look in (runs.get, runs.report):
        with pytest.raises(NotFound, match=f"no run {run.id}"):
            look(connection, 1, run.id)
    with pytest.raises(NotFound):
        runs.set_state(connection, 1, run.id, "cancelled")
    assert runs.get(connection, 2, run.id).state == "queued"


def test_pages_of_runs_are_newest_first_and_by_dictionary(connection: Connection, spec: RunSpec) -> None:
    made = []
    for _ in range(3):
        made.append(submit(connection, spec).run)
        connection.commit()
    first = runs.page(connection, 1, limit=2)
    rest = runs.page(connection, 1, after=(first[-1].created_at, first[-1].id), limit=2)
    assert [run.id for run in first + rest] == [run.id for run in reversed(made)]
    assert len(runs.page(connection, 1, dictionary_id=spec.dictionary_id)) == 3
    assert runs.page(connection, 1, dictionary_id=uuid.uuid4()) == []


def test_how_many_features_a_run_has_may_be_learned_later(connection: Connection, spec: RunSpec) -> None:
    run = runs.submit(connection, 1, uuid.uuid4(), spec, n_features=None, n_shards=1).run
    assert run.n_features is None
    runs.set_n_features(connection, run.id, 2)
    assert runs.get(connection, 1, run.id).n_features == 2
