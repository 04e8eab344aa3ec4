"""Trials over HTTP: with a worker, without one, and everything that is refused."""

import json
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from schema.errors import Conflict, NotFound, Unavailable
from schema.records import Dictionary
from schema.stages import Stage
from schema.store import database, trials
from schema.trials import MOST_CHARACTERS, MOST_UNFINISHED, SteeringSpec
from service.cli import app
from service.trials import MOST_WAITING
from tests.llm_server import LLMServer
from tests.service.conftest import Api, SpecMaker, serving
from tests.tiny import planted_features
from tests.workers.house import House, open_house

PLANTED = planted_features()


@contextmanager
def working(house: House) -> Iterator[None]:
    """Have a subject worker look for work for a while."""
    over = threading.Event()

    def work() -> None:
        engine = house.engine()
        while not over.is_set():
            if not engine.work([Stage.INGEST], lambda queues: True):
                time.sleep(0.02)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(60)


@pytest.fixture
def house(tmp_path: Path, database_url: str, redis_url: str) -> Iterator[House]:
    with LLMServer() as server, open_house(tmp_path, database_url, server.base_url) as opened:
        yield opened._replace(settings=opened.settings.model_copy(update={"redis_url": redis_url}))


def test_a_text_and_a_feature_are_tried_with_a_worker(house: House) -> None:
    word = PLANTED[3].triggers[0]
    with serving(house.settings) as api, working(house):
        found = api.client.activations(house.dictionary_id, f"The {word} was near")
        (fired,) = [token for token in found.tokens if token.features]
        assert (fired.token, fired.features[0].index) == (f" {word}", 3)
        spec = SteeringSpec(prompt="The old", strengths=(3.0,), n_tokens=6)
        steered = api.client.steer(house.dictionary_id, 5, spec)
        assert set((steered.steered[0].text or "").split()) & set(PLANTED[5].promoted)
        assert steered == api.client.steer(house.dictionary_id, 5, spec)
        for text in ("🙂 שלום\r\n\tworld", " ", "<s></s>"):
            assert "".join(token.token for token in api.client.activations(house.dictionary_id, text).tokens) == text
        path = f"/v1/dictionaries/{house.dictionary_id}/activations"
        response = api.http.post(path, json={"text": "x " * 600}, params={"wait": 20})
        assert "text has 1200 tokens; at most 511 fit" in api.problem(response, 413, "TooLarge")
        response = api.http.post(path, json={"text": "The"}, params={"wait": 20}, headers={"Idempotency-Key": "a"})
        assert response.status_code == 200
        again = api.http.post(path, json={"text": "The"}, params={"wait": 20}, headers={"Idempotency-Key": "a"})
        assert again.json() == response.json()
        assert again.headers["location"] == f"/v1/trials/{response.json()['id']}"


def test_the_command_shows_tokens_with_labels_and_texts_by_strength(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    word = PLANTED[3].triggers[0]
    with database.lend(house.pool) as connection:
        connection.execute("UPDATE feature SET label = 'soldiers', status = 'ok', max_activation = 1 WHERE index = 3")
    with serving(house.settings) as api, working(house):
        monkeypatch.setenv("GLOSSARIUM_API_URL", api.url)
        monkeypatch.setenv("COLUMNS", "200")
        name = str(house.dictionary_id)[:8]
        shown = CliRunner().invoke(app, ["activations", name, f"The {word} was near"])
        assert shown.exit_code == 0, shown.output
        (line,) = [line for line in shown.stdout.splitlines() if word in line]
        assert "│ 3 " in line
        assert "soldiers" in line
        strengths = ["--strength", "3", "--strength", "-3"]
        shown = CliRunner().invoke(app, ["steer", name, "3", *strengths, "--prompt", "The old", "--tokens", "6"])
        assert shown.exit_code == 0, shown.output
        assert shown.stdout.startswith("feature 3: soldiers\n")
        assert "+3" in shown.stdout
        printed = CliRunner().invoke(app, ["steer", name, "3", *strengths, "--prompt", "The old", "--json"])
        assert [one["strength"] for one in json.loads(printed.stdout)["steered"]] == [3.0, -3.0]


def test_without_a_worker_the_answer_is_202_and_then_expired_with_the_reason(
    api: Api, neurons: Dictionary, spec_of: SpecMaker
) -> None:
    path = f"/v1/dictionaries/{neurons.id}/activations"
    started = time.monotonic()
    response = api.http.post(path, json={"text": "a"}, params={"wait": 0.3})
    assert response.status_code == 202
    assert 0.3 <= time.monotonic() - started < 5
    assert response.json()["state"] == "waiting"
    hasty = api.settings.model_copy(update={"trial_s": 0.5})
    with serving(hasty) as other:
        with pytest.raises(Unavailable, match=r"no subject worker took it within 0\.5 s"):
            other.client.activations(neurons.id, "a")
        late = other.http.post(path, json={"text": "a"}, params={"wait": 5})
        assert (late.status_code, late.json()["state"]) == (200, "expired")


def test_a_trial_is_cancelled(api: Api, neurons: Dictionary) -> None:
    path = f"/v1/dictionaries/{neurons.id}/features/3/steer"
    made = api.http.post(path, json={"prompt": "a", "strengths": [1]}, params={"wait": 0}).json()
    assert api.client.cancel_trial(made["id"]).state == "cancelled"
    assert api.client.cancel_trial(made["id"]).state == "cancelled"
    started = time.monotonic()
    assert api.client.trial(made["id"], wait_s=20).state == "cancelled"
    assert time.monotonic() - started < 10
    for forbidden in (api.client.trial, api.client.cancel_trial):
        with pytest.raises(NotFound):
            forbidden(uuid.uuid4())


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('{"text": ""}', "at least 1 character"),
        ('{"text": "%s"}' % ("a" * (MOST_CHARACTERS + 1)), f"at most {MOST_CHARACTERS} characters"),
        ('{"text": "a\\u0000b"}', "control character U+0000 at 1"),
        ('{"text": "a\\u001b[2J"}', "control character U+001B at 1"),
        ('{"text": "a", "k": 51}', "less than or equal to 50"),
        ('{"text": "a\\ud800"}', "valid string"),
        ('{"text": 7}', "valid string"),
        ("{}", "Field required"),
    ],
)
def test_a_text_that_can_not_be_tried_is_refused_with_the_limit(
    api: Api, neurons: Dictionary, body: str, said: str
) -> None:
    response = api.http.post(
        f"/v1/dictionaries/{neurons.id}/activations", content=body, headers={"Content-Type": "application/json"}
    )
    assert said in api.problem(response, 422, "InvalidInput")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ('"strengths": [1e9]', "strength 1e+09 r: must be in -20..20"),
        ('"strengths": [11], "unit": "kl_nats"', "strength 11 kl_nats: must be in -10..10"),
        ('"strengths": [-2e6], "unit": "alpha"', "must be in -1e+06..1e+06"),
        ('"strengths": [0]', "not 0"),
        ('"strengths": [NaN]', "finite number"),
        ('"strengths": [Infinity]', "finite number"),
        ('"strengths": []', "at least 1 item"),
        ('"strengths": [1,1,1,1,1,1,1,1,1]', "at most 8 items"),
        ('"strengths": [1], "n_tokens": 101', "less than or equal to 100"),
        ('"strengths": [1], "temperature": 0', "greater than or equal to 0.05"),
        ('"strengths": [1], "seed": -1', "greater than or equal to 0"),
    ],
)
def test_a_strength_that_can_not_be_tried_is_refused_with_the_limit(
    api: Api, neurons: Dictionary, asked: str, said: str
) -> None:
    body, headers = f'{{"prompt": "a", {asked}}}', {"Content-Type": "application/json"}
    response = api.http.post(f"/v1/dictionaries/{neurons.id}/features/0/steer", content=body, headers=headers)
    assert said in api.problem(response, 422, "InvalidInput")


def test_what_is_not_there_can_not_be_tried(api: Api, neurons: Dictionary, spec_of: SpecMaker) -> None:
    spec = SteeringSpec(prompt="a", strengths=(1.0,))
    with pytest.raises(NotFound, match=r"feature 16 of dictionary .*; must be 0\.\.15"):
        api.client.steer(neurons.id, 16, spec)
    with pytest.raises(NotFound):
        api.client.activations(uuid.uuid4(), "a")
    empty = api.client.submit_dictionary(spec_of())
    with pytest.raises(Conflict, match="awaiting_weights and not ready"):
        api.client.activations(empty.id, "a")


def test_those_who_wait_hold_neither_the_pool_nor_the_threads(api: Api, neurons: Dictionary) -> None:
    path = f"/v1/dictionaries/{neurons.id}/activations"
    waiting = api.http.post(path, json={"text": "a"}, params={"wait": 0}).json()["id"]
    with ThreadPoolExecutor(60) as pool:
        started = time.monotonic()
        looks = [pool.submit(api.http.get, f"/v1/trials/{waiting}", params={"wait": 3}) for _ in range(60)]
        time.sleep(0.5)
        asked = time.monotonic()
        assert api.client.dictionary(neurons.id) == neurons
        assert time.monotonic() - asked < 2
        answers = [look.result() for look in looks]
    assert {answer.status_code for answer in answers} == {200}
    assert time.monotonic() - started < 20
    assert MOST_WAITING < 40


def test_too_many_at_once_are_told_to_come_back(api: Api, neurons: Dictionary) -> None:
    with database.connect(api.settings.database_url) as connection:
        for _ in range(MOST_UNFINISHED):
            spec = SteeringSpec(prompt="a", strengths=(1.0,))
            trials.create(connection, 1, uuid.uuid4(), neurons.id, spec, feature=0, timeout_s=60)
    response = api.http.post(f"/v1/dictionaries/{neurons.id}/activations", json={"text": "a"})
    assert "trials are under way" in api.problem(response, 503, "Unavailable")
    assert response.headers["retry-after"]
