"""Collections over HTTP: create, list, delete, and runs over all dictionaries at once."""

import uuid
from pathlib import Path

import pytest

from schema.collections import Collection, CollectionSpec
from schema.errors import BadBudget, BadSelection, Conflict, InvalidInput, NotFound
from schema.records import Budget, Dictionary, Encoder, RunTerms
from schema.stages import Stage
from schema.store import database, jobs
from tests.service.conftest import D_MLP, Api, SpecMaker, safetensors, weights


@pytest.fixture
def layers(api: Api, spec_of: SpecMaker) -> list[Dictionary]:
    """Return stored dictionaries that are ready: the neurons of three layers."""
    neurons = {"encoder": Encoder(kind="neurons"), "n_features": D_MLP}
    return [
        api.client.submit_dictionary(spec_of(name=f"layer {layer}", read_site=f"mlp_hidden.{layer}", **neurons))
        for layer in range(3)
    ]


@pytest.fixture
def whole(api: Api, layers: list[Dictionary]) -> Collection:
    """Return a collection of them."""
    return api.client.create_collection(CollectionSpec(name="all", dictionary_ids=tuple(one.id for one in layers)))


def passes_of(api: Api) -> list[int]:
    """Return how many runs share each corpus pass, and 1 for each that reads alone."""
    with database.connect(api.settings.database_url) as connection:
        rows = connection.execute("SELECT count(*) FROM run GROUP BY coalesce(corpus_pass, id) ORDER BY 1").fetchall()
    return [n for (n,) in rows]


def test_a_collection_is_made_listed_and_deleted(api: Api, layers: list[Dictionary], whole: Collection) -> None:
    assert (whole.name, list(whole.dictionaries)) == ("all", layers)
    one = api.client.create_collection(CollectionSpec(name="one", dictionary_ids=(layers[0].id,)))
    assert [found.id for found in api.client.collections()] == [one.id, whole.id]
    assert api.client.collection(whole.id) == whole
    api.client.delete_collection(whole.id)
    with pytest.raises(NotFound, match=f"no collection {whole.id}"):
        api.client.collection(whole.id)
    assert len(list(api.client.dictionaries())) == 3


def test_a_repeated_request_makes_one_collection(api: Api, layers: list[Dictionary]) -> None:
    spec = CollectionSpec(name="all", dictionary_ids=(layers[0].id,))
    first, second = (api.client.create_collection(spec, "key") for _ in range(2))
    assert first == second
    with pytest.raises(Conflict, match="another request"):
        api.client.create_collection(spec.model_copy(update={"name": "other"}), "key")


def test_what_makes_no_collection_is_refused_by_name(api: Api, layers: list[Dictionary], spec_of: SpecMaker) -> None:
    gone = uuid.uuid4()
    with pytest.raises(NotFound, match=f"no dictionary {gone}"):
        api.client.create_collection(CollectionSpec(name="x", dictionary_ids=(layers[0].id, gone)))
    double = api.client.submit_dictionary(spec_of(name="layer 0"))
    with pytest.raises(InvalidInput, match="names of dictionaries: layer 0 more than once"):
        api.client.create_collection(CollectionSpec(name="x", dictionary_ids=(layers[0].id, double.id)))
    empty = api.http.post("/v1/collections", json={"name": "x", "dictionary_ids": []})
    assert "body.dictionary_ids" in api.problem(empty, 422, "InvalidInput")
    assert list(api.client.collections()) == []


def test_a_run_is_one_of_each_dictionary_and_they_share_a_pass(api: Api, whole: Collection) -> None:
    made = api.client.submit_collection_run(whole.id, RunTerms(features="0-2", seed=5))
    assert [run.dictionary_id for run in made.runs] == [one.id for one in whole.dictionaries]
    assert {(run.state, run.n_features, run.spec.seed) for run in made.runs} == {("queued", 3, 5)}
    assert passes_of(api) == [3]
    assert api.client.collection_run(whole.id, made.id) == made
    assert list(api.client.collection_runs(whole.id)) == [made]
    api.client.cancel(made.runs[1].id)
    states = [run.state for run in api.client.collection_run(whole.id, made.id).runs]
    assert states == ["queued", "cancelled", "queued"]


def test_a_repeated_request_makes_one_run(api: Api, whole: Collection) -> None:
    first, second = (api.client.submit_collection_run(whole.id, RunTerms(), "key") for _ in range(2))
    assert first == second
    assert len(list(api.client.runs())) == 3


def test_a_collection_of_one_shares_nothing(api: Api, layers: list[Dictionary]) -> None:
    alone = api.client.create_collection(CollectionSpec(name="one", dictionary_ids=(layers[0].id,)))
    assert len(api.client.submit_collection_run(alone.id, RunTerms()).runs) == 1
    assert passes_of(api) == [1]


def test_dictionaries_of_another_revision_are_read_in_a_pass_of_their_own(
    api: Api, layers: list[Dictionary], spec_of: SpecMaker
) -> None:
    neurons = {"encoder": Encoder(kind="neurons"), "n_features": D_MLP, "read_site": "mlp_hidden.1"}
    others = [api.client.submit_dictionary(spec_of(name=name, revision="other", **neurons)) for name in ("a", "b")]
    ids = (layers[0].id, others[0].id, layers[1].id, others[1].id, layers[2].id)
    mixed = api.client.create_collection(CollectionSpec(name="mixed", dictionary_ids=ids))
    assert len(api.client.submit_collection_run(mixed.id, RunTerms()).runs) == 5
    assert passes_of(api) == [2, 3]


def test_a_budget_is_divided_by_features(api: Api, whole: Collection) -> None:
    made = api.client.submit_collection_run(whole.id, RunTerms(features="0-3", budget=Budget(tokens=1000)))
    assert made.spec.budget == Budget(tokens=1000)
    assert [run.spec.budget for run in made.runs] == [Budget(tokens=333)] * 3
    with pytest.raises(BadBudget, match="less than a token"):
        api.client.submit_collection_run(whole.id, RunTerms(budget=Budget(tokens=2)))
    with pytest.raises(BadBudget, match="has no prices"):
        api.client.submit_collection_run(whole.id, RunTerms(budget=Budget(dollars=2)))
    assert len(list(api.client.runs())) == 3


def test_where_one_dictionary_can_not_be_run_none_is_and_it_is_named(
    api: Api, layers: list[Dictionary], spec_of: SpecMaker, tmp_path: Path
) -> None:
    small = api.client.submit_dictionary(spec_of(name="small"))
    both = api.client.create_collection(CollectionSpec(name="x", dictionary_ids=(layers[0].id, small.id)))
    with pytest.raises(Conflict, match=f"small: dictionary {small.id} is awaiting_weights and not ready"):
        api.client.submit_collection_run(both.id, RunTerms())
    file = tmp_path / "weights.safetensors"
    file.write_bytes(safetensors(weights()))
    api.client.upload_weights(small.id, file)
    with pytest.raises(BadSelection, match=r"small: features='0-9'"):
        api.client.submit_collection_run(both.id, RunTerms(features="0-9"))
    assert list(api.client.runs()) == []
    assert list(api.client.collection_runs(both.id)) == []
    assert len(api.client.submit_collection_run(both.id, RunTerms(features="0-5")).runs) == 2


def test_a_deleted_dictionary_is_left_out_and_an_empty_collection_refused(
    api: Api, layers: list[Dictionary], whole: Collection
) -> None:
    api.client.delete_dictionary(layers[1].id)
    assert [one.id for one in api.client.collection(whole.id).dictionaries] == [layers[0].id, layers[2].id]
    assert len(api.client.submit_collection_run(whole.id, RunTerms(), "key").runs) == 2
    with pytest.raises(Conflict, match="is not finished; cancel it first"):
        api.client.delete_dictionary(layers[0].id)
    for run in api.client.runs():
        api.client.cancel(run.id)
    for one in (layers[0], layers[2]):
        api.client.delete_dictionary(one.id)
    with pytest.raises(Conflict, match="has no dictionary any more"):
        api.client.submit_collection_run(whole.id, RunTerms())


def test_a_run_is_found_under_its_own_collection_alone(api: Api, layers: list[Dictionary], whole: Collection) -> None:
    made = api.client.submit_collection_run(whole.id, RunTerms())
    other = api.client.create_collection(CollectionSpec(name="other", dictionary_ids=(layers[0].id,)))
    with pytest.raises(NotFound, match=f"no run {made.id} over collection {other.id}"):
        api.client.collection_run(other.id, made.id)
    with pytest.raises(NotFound, match="no collection"):
        list(api.client.collection_runs(uuid.uuid4()))


def test_the_runs_of_a_collection_go_on_to_their_end(api: Api, whole: Collection) -> None:
    made = api.client.submit_collection_run(whole.id, RunTerms())
    with database.connect(api.settings.database_url) as connection:
        while (job := jobs.claim(connection, list(Stage), owner="test", lease_s=60)) is not None:
            jobs.finish(connection, job)
            connection.commit()
    assert {run.state for run in api.client.collection_run(whole.id, made.id).runs} == {"done"}
