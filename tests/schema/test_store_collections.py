"""Collections in a real Postgres: what is in them, and whose turn it is to read for all."""

import uuid
from collections.abc import Sequence
from uuid import UUID

import pytest

from schema.collections import Collection, CollectionRun, CollectionSpec, spec_for
from schema.errors import InvalidInput, NotFound
from schema.records import DictionarySpec, Encoder, RunTerms
from schema.stages import Stage
from schema.store import collections, dictionaries, jobs, runs
from schema.store.database import Connection
from schema.store.jobs import Job

N_SHARDS = 2


def make_dictionary(connection: Connection, name: str, tenant: int = 1) -> UUID:
    spec = DictionarySpec(
        name=name, subject="s", read_site="mlp_hidden.1", n_features=4, encoder=Encoder(kind="neurons")
    )
    return dictionaries.create(connection, tenant, uuid.uuid4(), spec).id


def make_collection(connection: Connection, ids: Sequence[UUID], tenant: int = 1) -> Collection:
    return collections.create(connection, tenant, uuid.uuid4(), CollectionSpec(name="c", dictionary_ids=tuple(ids)))


@pytest.fixture
def whole(connection: Connection) -> Collection:
    """Return a collection of three dictionaries."""
    return make_collection(connection, [make_dictionary(connection, name) for name in ("x", "y", "z")])


def submit(connection: Connection, whole: Collection, terms: RunTerms | None = None) -> CollectionRun:
    """Store a run whose dictionaries share a corpus pass; its runs come in the order of their turns."""
    terms, shared = terms or RunTerms(), uuid.uuid4()
    parts = [
        collections.Part(spec_for(terms, dictionary.id, None), 4, N_SHARDS, shared) for dictionary in whole.dictionaries
    ]
    made = collections.submit_run(connection, 1, uuid.uuid4(), whole.id, terms, parts, {}).run
    return made.model_copy(update={"runs": tuple(sorted(made.runs, key=lambda run: run.id))})


def claim(connection: Connection) -> Job | None:
    return jobs.claim(connection, list(Stage), owner="test", lease_s=60)


def claimed(connection: Connection) -> Job:
    job = claim(connection)
    assert job is not None
    return job


def ingest(connection: Connection, n: int) -> None:
    for _ in range(n):
        job = claimed(connection)
        assert job.stage == Stage.INGEST
        jobs.finish(connection, job)


def test_a_collection_has_its_dictionaries_in_their_order(connection: Connection, whole: Collection) -> None:
    assert [one.spec.name for one in whole.dictionaries] == ["x", "y", "z"]
    turned = make_collection(connection, [one.id for one in reversed(whole.dictionaries)])
    assert [one.spec.name for one in turned.dictionaries] == ["z", "y", "x"]
    assert collections.get(connection, 1, turned.id) == turned
    assert {one.id for one in collections.page(connection, 1)} == {whole.id, turned.id}


def test_pages_of_collections_miss_none(connection: Connection) -> None:
    one = make_dictionary(connection, "x")
    made = {make_collection(connection, [one]).id for _ in range(5)}
    seen: list[UUID] = []
    after = None
    while page := collections.page(connection, 1, after=after, limit=2):
        seen += [found.id for found in page]
        after = (page[-1].created_at, page[-1].id)
    assert (len(seen), set(seen)) == (5, made)


def test_what_can_not_be_collected_is_named(connection: Connection) -> None:
    one, other = make_dictionary(connection, "same"), make_dictionary(connection, "same")
    gone = uuid.uuid4()
    with pytest.raises(NotFound, match=f"no dictionary {gone}"):
        make_collection(connection, [one, gone])
    with pytest.raises(InvalidInput, match=f"dictionary_ids: {one} more than once"):
        make_collection(connection, [one, one])
    with pytest.raises(InvalidInput, match="names of dictionaries: same more than once"):
        make_collection(connection, [one, other])
    assert collections.page(connection, 1) == []


def test_anothers_dictionaries_and_collections_are_not_there(connection: Connection, whole: Collection) -> None:
    connection.execute("INSERT INTO tenant (id, name) VALUES (2, 'other')")
    theirs = make_dictionary(connection, "theirs", tenant=2)
    with pytest.raises(NotFound, match=f"no dictionary {theirs}"):
        make_collection(connection, [whole.dictionaries[0].id, theirs])
    with pytest.raises(NotFound):
        collections.get(connection, 2, whole.id)
    with pytest.raises(NotFound):
        collections.delete(connection, 2, whole.id)
    run = submit(connection, whole)
    with pytest.raises(NotFound):
        collections.get_run(connection, 2, run.id, whole.id)


def test_a_deleted_dictionary_leaves_its_collections_and_their_runs(connection: Connection, whole: Collection) -> None:
    run = submit(connection, whole)
    (first,) = [one for one in run.runs if one.dictionary_id == whole.dictionaries[0].id]
    runs.set_state(connection, 1, first.id, "cancelled")
    dictionaries.delete(connection, 1, first.dictionary_id)
    assert [one.spec.name for one in collections.get(connection, 1, whole.id).dictionaries] == ["y", "z"]
    left = collections.get_run(connection, 1, run.id, whole.id).runs
    assert [one.dictionary_id for one in left] == [one.id for one in whole.dictionaries[1:]]


def test_a_deleted_collection_leaves_dictionaries_and_runs_that_still_share(
    connection: Connection, whole: Collection
) -> None:
    run = submit(connection, whole)
    collections.delete(connection, 1, whole.id)
    with pytest.raises(NotFound):
        collections.get_run(connection, 1, run.id, whole.id)
    assert len(dictionaries.page(connection, 1)) == 3
    assert set(collections.companions(connection, run.runs[0].id)) == {one.id for one in run.runs[1:]}


def test_a_run_of_each_dictionary_is_listed_in_their_order(connection: Connection, whole: Collection) -> None:
    older, newer = submit(connection, whole), submit(connection, whole, RunTerms(seed=3))
    connection.execute("UPDATE collection_run SET created_at = created_at - interval '1 s' WHERE id = %s", (older.id,))
    found = collections.page_of_runs(connection, 1, whole.id)
    assert [one.id for one in found] == [newer.id, older.id]
    assert found[0].spec.seed == 3
    assert [one.dictionary_id for one in found[0].runs] == [one.id for one in whole.dictionaries]
    assert {one.spec.seed for one in found[0].runs} == {3}


def test_nothing_is_read_before_every_dictionary_is_ingested(connection: Connection, whole: Collection) -> None:
    submit(connection, whole)
    first, second, third = (claimed(connection) for _ in range(3))
    assert {job.stage for job in (first, second, third)} == {Stage.INGEST}
    jobs.finish(connection, first)
    jobs.finish(connection, second)
    assert claim(connection) is None
    jobs.finish(connection, third)
    assert claimed(connection).stage == Stage.EXEMPLARS


def test_one_run_reads_a_shard_at_a_time_and_the_turn_goes_on(connection: Connection, whole: Collection) -> None:
    run = submit(connection, whole)
    ingest(connection, 3)
    reading = [claimed(connection) for _ in range(N_SHARDS)]
    assert [(job.run_id, job.shard) for job in reading] == [(run.runs[0].id, 0), (run.runs[0].id, 1)]
    assert claim(connection) is None
    jobs.finish(connection, reading[1])
    following = claimed(connection)
    assert (following.run_id, following.stage, following.shard) == (run.runs[1].id, Stage.EXEMPLARS, 1)


@pytest.mark.parametrize("state", ["cancelled", "paused"])
def test_who_leaves_the_pass_holds_up_nobody(connection: Connection, whole: Collection, state: str) -> None:
    run = submit(connection, whole)
    claimed(connection)  # somebody's ingest is under way
    ingest(connection, 2)
    assert claim(connection) is None
    (waiting,) = connection.execute("SELECT run_id FROM job WHERE state = 'leased'").fetchall()
    runs.set_state(connection, 1, waiting[0], state)  # type: ignore[arg-type]
    others = [one.id for one in run.runs if one.id != waiting[0]]
    reading = claimed(connection)
    assert (reading.stage, reading.run_id) == (Stage.EXEMPLARS, others[0])
    runs.set_state(connection, 1, others[0], state)  # type: ignore[arg-type]
    taken_over = claimed(connection)
    assert (taken_over.run_id, taken_over.shard) == (others[1], reading.shard)


def test_a_resumed_run_is_a_companion_as_a_paused_one_was(connection: Connection, whole: Collection) -> None:
    first, second, third = (one.id for one in submit(connection, whole).runs)
    runs.set_state(connection, 1, second, "paused")
    runs.set_state(connection, 1, third, "cancelled")
    assert collections.companions(connection, first) == [second]


def test_runs_that_share_no_pass_wait_for_nobody(connection: Connection, whole: Collection) -> None:
    terms = RunTerms()
    parts = [collections.Part(spec_for(terms, one.id, None), 4, N_SHARDS, None) for one in whole.dictionaries]
    collections.submit_run(connection, 1, uuid.uuid4(), whole.id, terms, parts, {})
    jobs.finish(connection, claimed(connection))
    stages = [claimed(connection).stage for _ in range(4)]
    assert stages.count(Stage.EXEMPLARS) == 2
