"""Trials in a worker: what it finds, what it refuses, and when it looks for them."""

import uuid
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from uuid import UUID

import pytest

from schema.stages import Stage
from schema.store import database, dictionaries, trials
from schema.trials import MOST_TOKENS, ActivationsSpec, SteeringSpec, Trial
from tests.llm_server import LLMServer
from tests.tiny import planted_features
from tests.workers.house import House, open_house
from workers import trials as room
from workers.engine import Engine

PLANTED = planted_features()


@pytest.fixture
def house(tmp_path: Path, database_url: str) -> Iterator[House]:
    with LLMServer() as server, open_house(tmp_path, database_url, server.base_url) as opened:
        yield opened


def ask(house: House, spec: ActivationsSpec | SteeringSpec, feature: int | None = None) -> UUID:
    """Store a trial and return its id."""
    id_ = uuid.uuid4()
    with database.lend(house.pool) as connection:
        trials.create(connection, 1, id_, house.dictionary_id, spec, feature=feature, timeout_s=60)
    return id_


def result(house: House, id_: UUID) -> Trial:
    with database.lend(house.pool) as connection:
        return trials.get(connection, 1, id_)


def done(house: House, spec: ActivationsSpec | SteeringSpec, feature: int | None = None) -> Trial:
    """Return a trial that a worker carried out."""
    id_ = ask(house, spec, feature)
    assert house.work() == 1
    return result(house, id_)


def test_the_planted_features_fire_on_their_words_alone(house: House) -> None:
    text = f"The {PLANTED[3].triggers[0]} was near the {PLANTED[17].triggers[1]}."
    found = done(house, ActivationsSpec(text=text)).activations
    assert found is not None
    assert "".join(token.token for token in found.tokens) == text
    fired = {token.token.strip(): [one.index for one in token.features] for token in found.tokens if token.features}
    assert fired == {PLANTED[3].triggers[0]: [3], PLANTED[17].triggers[1]: [17]}
    assert [summary.index for summary in found.features] == [3, 17]


def test_an_amplified_feature_writes_what_it_promotes(house: House) -> None:
    spec = SteeringSpec(prompt="The old", strengths=(3.0, -3.0), unit="r", n_tokens=8)
    found = done(house, spec, feature=5).steering
    assert found is not None
    amplified, suppressed = found.steered
    assert amplified.text is not None
    assert set(amplified.text.split()) & set(PLANTED[5].promoted)
    assert not set((suppressed.text or "").split()) & set(PLANTED[5].promoted)
    assert (amplified.r, suppressed.r) == (pytest.approx(3.0), pytest.approx(3.0))
    assert amplified.alpha == pytest.approx(-suppressed.alpha)
    assert found.feature is not None
    assert found.feature.index == 5


def test_texts_do_not_depend_on_the_other_strengths_nor_on_the_unit(house: House) -> None:
    several = done(house, SteeringSpec(prompt="The", strengths=(1.0, 2.0), n_tokens=6), feature=2).steering
    assert several is not None
    alpha = several.steered[1].alpha
    alone = done(house, SteeringSpec(prompt="The", strengths=(alpha,), unit="alpha", n_tokens=6), feature=2).steering
    assert alone is not None
    assert alone.unsteered == several.unsteered
    assert alone.steered[0].text == several.steered[1].text
    assert alone.steered[0].r == pytest.approx(2.0)


def test_strengths_in_nats_are_those_of_the_calibration(house: House) -> None:
    spec = SteeringSpec(prompt="The", strengths=(0.25, -0.25), unit="kl_nats", n_tokens=4)
    found = done(house, spec, feature=2).steering
    assert found is not None
    amplified, _ = found.steered
    assert amplified.reached
    assert amplified.achieved_kl_nats == pytest.approx(0.25, rel=0.11)
    for one in found.steered:
        assert (one.text is not None) == one.reached


@pytest.mark.parametrize(
    ("spec", "error", "said"),
    [
        (ActivationsSpec(text="x " * 600), "TooLarge", "tokens; at most 511 fit"),
        (SteeringSpec(prompt="x " * 240, strengths=(1.0,), n_tokens=100), "TooLarge", "at most 411 fit"),
        (SteeringSpec(prompt="The", strengths=(9e5,), unit="alpha"), "InvalidInput", "strength 900000 alpha: must be"),
    ],
)
def test_what_only_the_subject_can_refuse_fails_with_the_limit(
    house: House, spec: ActivationsSpec | SteeringSpec, error: str, said: str
) -> None:
    found = done(house, spec, feature=0)
    assert MOST_TOKENS > 512  # so that the subject's own context is what limits here
    assert (found.state, found.error) == ("failed", error)
    assert said in (found.reason or "")


def test_weights_that_are_gone_are_said_and_the_worker_goes_on(house: House) -> None:
    for path in (house.settings.data_dir / "blobs").rglob("*"):
        if path.is_file():
            path.unlink()
    found = done(house, ActivationsSpec(text="The river"))
    assert found.state == "failed"
    assert found.error != "GlossariumError"
    assert found.reason


def test_a_trial_goes_before_a_job_and_between_the_batches_of_one(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "LOOK_S", 1e6)
    run_id = house.submit(features="0-3", llm="none", methods=("lexical",))
    before = ask(house, ActivationsSpec(text="The river"))
    second = ask(house, ActivationsSpec(text="The river"))
    engine = house.engine()
    assert do_one(engine)
    ingest = house.run(run_id).stages[0]
    assert ingest.jobs_done == 1  # one trial, and then a job
    assert result(house, second).state == "waiting"
    assert finished_at(house, before) < ended_at(house, run_id, "ingest")
    monkeypatch.setattr(room, "LOOK_S", 0.0)
    between = ask_between(house, monkeypatch)
    assert do_one(engine)
    assert finished_at(house, second) < finished_at(house, between())
    assert finished_at(house, between()) < ended_at(house, run_id, "exemplars")


def finished_at(house: House, id_: UUID) -> datetime:
    found = result(house, id_)
    assert found.state == "done"
    assert found.finished_at is not None
    return found.finished_at


def ended_at(house: House, run_id: UUID, name: str) -> datetime:
    """Return when the last job of a stage ended that has."""
    (stage,) = [stage for stage in house.run(run_id).stages if stage.stage == name]
    assert stage.last_finished_at is not None
    return stage.last_finished_at


def do_one(engine: Engine) -> bool:
    """Have a worker do one thing, and return whether there was anything to do."""
    return engine.work(list(Stage), lambda queues: True)


def ask_between(house: House, monkeypatch: pytest.MonkeyPatch) -> Callable[[], UUID]:
    """Have somebody ask for a trial once the next job has begun; returns what tells its id."""
    asked: list[UUID] = []
    begin = Engine._begin

    def begin_and_ask(engine: Engine, job: object) -> None:
        begin(engine, job)  # type: ignore[arg-type]
        asked.append(ask(house, ActivationsSpec(text="The river")))

    monkeypatch.setattr(Engine, "_begin", begin_and_ask)
    return lambda: asked[0]


def test_a_dictionary_without_thresholds_is_tried_as_it_is(house: House) -> None:
    id_ = uuid.uuid4()
    with database.lend(house.pool) as connection:
        spec = dictionaries.get(connection, 1, house.dictionary_id).spec
        neurons = {"read_site": "mlp_hidden.1", "encoder": {"kind": "neurons"}, "n_features": 128, "name": "neurons"}
        dictionaries.create(connection, 1, id_, type(spec).model_validate({**spec.model_dump(), **neurons}))
    found = done(house._replace(dictionary_id=id_), ActivationsSpec(text="The river was near", k=3)).activations
    assert found is not None
    for token in found.tokens:
        activations = [one.activation for one in token.features]
        assert activations == sorted(activations, reverse=True)
        assert all(value > 0 for value in activations)
        assert len(activations) <= 3
