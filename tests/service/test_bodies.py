"""Bodies and times are taken by the word: what merely could be meant is refused, and the field is named."""

import json

import pytest

from schema.records import Dictionary
from tests.service.conftest import Api

OPTIONS = [
    ({"seed": "5"}, "body.seed: Input should be a valid integer"),
    ({"seed": 5.0}, "body.seed: Input should be a valid integer"),
    ({"seed": True}, "body.seed: Input should be a valid integer"),
    ({"weight": "0.5"}, "body.weight: Input should be a valid number"),
    ({"options": {"k_tokens": "5"}}, "body.options.k_tokens: Input should be a valid integer"),
    ({"llm": 5}, "body.llm: Input should be a valid string"),
    ({"llm": "\ud800"}, "body.llm: Input should be a valid string"),
    ({"options": {"prompts": "\0"}}, "body.options.prompts: Input should be 'own' or 'paper'"),
    ({"corpus": "a\0"}, "body.corpus: holds the control character U+0000"),
]


@pytest.mark.parametrize(("wrong", "message"), OPTIONS, ids=[str(wrong).encode() for wrong, _ in OPTIONS])
def test_a_field_is_of_its_type(api: Api, neurons: Dictionary, wrong: dict[str, object], message: str) -> None:
    body = json.dumps({"dictionary_id": str(neurons.id), **wrong})
    refused = api.http.post("/v1/runs", content=body, headers={"Content-Type": "application/json"})
    assert message in api.problem(refused, 422, "InvalidInput")


def test_a_flag_is_no_number(api: Api) -> None:
    refused = api.http.patch("/v1/webhooks/0b6f5a58-3d5c-4b0b-9a37-0d4f2f6f3c11", json={"paused": 0})
    assert "body.paused: Input should be a valid boolean" in api.problem(refused, 422, "InvalidInput")


def test_what_json_says_in_another_way_is_taken(api: Api, neurons: Dictionary) -> None:
    run = {"dictionary_id": str(neurons.id), "features": "0", "llm": "none", "methods": ["lexical"], "weight": 2}
    made = api.http.post("/v1/runs", json={**run, "evaluations": ["free"]})
    assert (made.status_code, made.json()["spec"]["weight"]) == (201, 2.0)


def test_a_body_that_is_not_said_to_be_json_is_refused(api: Api) -> None:
    refused = api.http.post("/v1/runs", content="{}", headers={"Content-Type": "text/plain"})
    assert "must be a JSON object, sent with Content-Type" in api.problem(refused, 422, "InvalidInput")


@pytest.mark.parametrize("time", ["0.5", "1700000000", "-1", 0.5])
def test_a_number_is_no_time(api: Api, time: str | float) -> None:
    refused = api.http.get("/v1/usage", params={"since": time})
    assert "query.since: Value error, must be a date and a time" in api.problem(refused, 422, "InvalidInput")
    refused = api.http.post("/v1/keys", json={"name": "n", "expires_at": time})
    assert "body.expires_at: Value error, must be a date and a time" in api.problem(refused, 422, "InvalidInput")
    assert api.http.get("/v1/usage", params={"since": "2026-02-03T10:15:00+01:00"}).status_code == 200
