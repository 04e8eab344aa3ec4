"""Runs over a collection: dictionaries of one subject share a pass over the corpus, and nothing else."""

import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from uuid import UUID

import pytest

from schema.collections import CollectionSpec, spec_for
from schema.labels import Status
from schema.records import Dictionary, RunTerms
from schema.stages import Stage
from schema.store import artifacts, collections, database, dictionaries, jobs, run_features, runs, sweeper
from tests.llm_server import LLMServer
from tests.tiny import planted_features
from tests.workers.house import SMALL, House, open_house
from workers import recipes
from workers.corpus import Shard

N_SHARDS = 2
UNTIL_MERGED = (Stage.INGEST, Stage.EXEMPLARS, Stage.MERGE)
OPTIONS = SMALL.model_copy(update={"pool_size": 4})


@pytest.fixture
def house(tmp_path: Path, database_url: str) -> Iterator[House]:
    with LLMServer() as server, open_house(tmp_path, database_url, server.base_url) as opened:
        yield opened


def planted_at(house: House, site: str) -> Dictionary:
    """Submit the planted dictionary as one of another site."""
    id_ = uuid.uuid4()
    with database.lend(house.pool) as connection:
        first = dictionaries.get(connection, 1, house.dictionary_id)
        assert first.weights_sha256 is not None
        dictionaries.create(connection, 1, id_, first.spec.model_copy(update={"name": site, "read_site": site}))
        return dictionaries.set_weights(connection, 1, id_, first.weights_sha256)


def submit(house: House, ids: Sequence[UUID], *, shared: bool = True) -> list[UUID]:
    """Store a run over a collection, and return its runs in the order in which they read the corpus."""
    terms = RunTerms(
        features="0-3",
        methods=("lexical",),
        evaluations=("free",),
        llm="none",
        corpus=str(house.corpus_id),
        options=OPTIONS,
    )
    corpus_pass = uuid.uuid4() if shared else None
    parts = [collections.Part(spec_for(terms, id_, None), 4, N_SHARDS, corpus_pass) for id_ in ids]
    with database.lend(house.pool) as connection:
        spec = CollectionSpec(name="planted", dictionary_ids=tuple(ids))
        whole = collections.create(connection, 1, uuid.uuid4(), spec)
        made = collections.submit_run(connection, 1, uuid.uuid4(), whole.id, terms, parts, {"none": None}).run
    return sorted(run.id for run in made.runs)


def readers(house: House) -> list[UUID]:
    """Return whose corpus jobs read the corpus, by shard."""
    rows = house.query(
        "SELECT run_id FROM job WHERE stage = 'exemplars' AND result ? 'seconds' ORDER BY corpus_shard, run_id"
    )
    return [UUID(str(run_id)) for (run_id,) in rows]


def partials(house: House, run_id: UUID) -> list[str]:
    """Return the blobs of a run's corpus shards."""
    with database.lend(house.pool) as connection:
        brief = run_features.brief(connection, run_id)
        (ingested,) = jobs.results(connection, run_id, Stage.INGEST)
        assert ingested.result is not None
        shards = [Shard(index, N_SHARDS) for index in range(N_SHARDS)]
        found = [artifacts.get(connection, recipes.partial(brief, ingested.result["corpus"], one)) for one in shards]
    return [sha256 for sha256 in found if sha256 is not None]


def states(house: House, run_ids: Sequence[UUID]) -> list[str]:
    return [house.run(run_id).state for run_id in run_ids]


def test_one_run_reads_the_corpus_for_all_and_each_finds_what_it_finds_alone(house: House) -> None:
    ids = [house.dictionary_id, *(planted_at(house, site).id for site in ("resid_post.0", "resid_post.2"))]
    together = submit(house, ids)
    house.work(UNTIL_MERGED)
    assert readers(house) == [together[0]] * N_SHARDS
    found = {run_id: partials(house, run_id) for run_id in together}
    assert {len(blobs) for blobs in found.values()} == {N_SHARDS}
    house.query("DELETE FROM artifact RETURNING 1")
    by_dictionary = {house.run(run_id).dictionary_id: blobs for run_id, blobs in found.items()}
    alone = submit(house, ids, shared=False)
    house.work(UNTIL_MERGED)
    assert {house.run(run_id).dictionary_id: partials(house, run_id) for run_id in alone} == by_dictionary


def test_each_dictionary_has_its_own_labels_and_report(house: House) -> None:
    run_ids = submit(house, [house.dictionary_id, planted_at(house, "resid_post.2").id])
    house.work()
    assert states(house, run_ids) == ["done", "done"]
    for run_id in run_ids:
        labels = house.labels(run_id)
        assert sorted(labels) == list(range(4))
        assert house.query("SELECT count(*) FROM run_report WHERE run_id = %s", run_id) == [(1,)]
    first = [run_id for run_id in run_ids if house.run(run_id).dictionary_id == house.dictionary_id]
    label = house.labels(first[0])[0]
    assert label.status == Status.UNREPORTED
    assert any(trigger in str(label.text) for trigger in planted_features()[0].triggers)


def test_equal_dictionaries_are_read_once(house: House) -> None:
    run_ids = submit(house, [house.dictionary_id, planted_at(house, "resid_post.1").id])
    house.work(UNTIL_MERGED)
    assert len(readers(house)) == N_SHARDS
    assert partials(house, run_ids[0]) == partials(house, run_ids[1])


def test_what_is_known_of_a_dictionary_is_not_read_again(house: House) -> None:
    known = house.submit(features="0-3", methods=("lexical",), evaluations=("free",), llm="none", options=OPTIONS)
    house.work(UNTIL_MERGED)
    other = planted_at(house, "resid_post.2")
    run_ids = submit(house, [house.dictionary_id, other.id])
    house.work(UNTIL_MERGED)
    own = [run_id for run_id in run_ids if house.run(run_id).dictionary_id == other.id]
    assert sorted(readers(house)) == sorted([known, *own] * N_SHARDS)


def test_a_dictionary_that_does_not_fit_fails_alone(house: House) -> None:
    bad = planted_at(house, "resid_post.2")
    spoil = "UPDATE dictionary SET spec = jsonb_set(spec, '{read_site}', '\"mlp_hidden.1\"') WHERE id = %s RETURNING 1"
    house.query(spoil, bad.id)
    run_ids = submit(house, [bad.id, house.dictionary_id, planted_at(house, "resid_post.0").id])
    house.work()
    by_dictionary = {run.dictionary_id: run for run in map(house.run, run_ids)}
    assert by_dictionary[bad.id].state == "failed"
    assert str(by_dictionary[bad.id].note).startswith("ingest: ")
    good = [run for run in by_dictionary.values() if run.dictionary_id != bad.id]
    assert [run.state for run in good] == ["done", "done"]
    assert readers(house) == [min(run.id for run in good)] * N_SHARDS


def test_a_dictionary_whose_weights_are_gone_harms_no_other(house: House) -> None:
    run_ids = submit(house, [house.dictionary_id, planted_at(house, "resid_post.2").id])
    house.work((Stage.INGEST,))
    lost = house.run(run_ids[1]).dictionary_id
    lose = "UPDATE dictionary SET weights_sha256 = NULL, digest = %s WHERE id = %s RETURNING 1"
    house.query(lose, "f" * 64, lost)
    house.work((Stage.EXEMPLARS,))
    assert readers(house) == [run_ids[0]] * N_SHARDS
    done = "SELECT count(*) FROM job WHERE run_id = %s AND stage = 'exemplars' AND state = 'done'"
    assert [house.query(done, run_id) for run_id in run_ids] == [[(N_SHARDS,)], [(0,)]]


def test_a_job_that_was_lost_reads_for_its_own_run_and_the_next_for_the_others(house: House) -> None:
    ids = [house.dictionary_id, *(planted_at(house, site).id for site in ("resid_post.0", "resid_post.2"))]
    run_ids = submit(house, ids)
    house.work((Stage.INGEST,))
    with database.lend(house.pool) as connection:
        died = jobs.claim(connection, [Stage.EXEMPLARS], owner="dies", lease_s=0)
        assert died is not None
        assert (died.run_id, died.shard) == (run_ids[0], 0)
        jobs.begin(connection, died)
    with database.lend(house.pool) as connection:
        sweeper.sweep(connection)
    house.work()
    assert states(house, run_ids) == ["done"] * 3
    assert sorted(readers(house)) == sorted([run_ids[0]] * N_SHARDS + [run_ids[1]])  # shard 0 was read twice


def test_a_cancelled_reader_leaves_the_rest_to_the_next(house: House) -> None:
    run_ids = submit(house, [house.dictionary_id, planted_at(house, "resid_post.2").id])
    house.work((Stage.INGEST,))
    house.engine().work((Stage.EXEMPLARS,), lambda queues: True)
    with database.lend(house.pool) as connection:
        runs.set_state(connection, 1, run_ids[0], "cancelled")
    house.work()
    assert states(house, run_ids) == ["cancelled", "done"]
    assert readers(house) == run_ids
