"""Tenants know nothing of each other: every endpoint of the OpenAPI document, with ids of another tenant, is 404."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import httpx
import pytest

from schema.records import Dictionary, Encoder
from service.app import create_app
from service.client import Client
from tests.service.conftest import D_MLP, Api, SpecMaker, make_key
from tests.service.planting import Things, things_of

DOCUMENT: dict[str, Any] = create_app().openapi()
OPERATIONS = [
    (method, path, operation) for path, methods in DOCUMENT["paths"].items() for method, operation in methods.items()
]
ADDRESSED = [one for one in OPERATIONS if "_id}" in one[1]]
LISTS = [path for method, path, _ in OPERATIONS if method == "get" and path.startswith("/v1") and "{" not in path]
REQUIRED = {"origin": "others", "name": "c", "seen": "1", "against": str(UUID(int=0))}
"""Values of query parameters that can't be left out."""
NOT_YET = {"/v1/runs/{run_id}/report", "/v1/runs/{run_id}/diff", "/v1/dictionaries/{dictionary_id}/health"}
"""What their owner is answered by 404 as well: the run is not finished, is compared with one that nobody has, and
measured nothing."""


class Two(NamedTuple):
    """Two tenants of one installation."""

    api: Api
    ours: Things
    theirs: Things


@pytest.fixture
def two(api: Api, spec_of: SpecMaker) -> Iterator[Two]:
    """Yield two tenants who have one of everything each."""
    url, other = api.settings.database_url, make_key(api.settings.database_url, "admin", "other")
    fields = {"read_site": "mlp_hidden.1", "encoder": Encoder(kind="neurons"), "n_features": D_MLP}
    with Client(api.url, key=other) as client, api.with_key(other) as http:
        ours = things_of(api.client, api.http, url, spec_of(name="ours", **fields))
        yield Two(api, ours, things_of(client, http, url, spec_of(name="theirs", **fields)))


def params_of(operation: dict[str, Any]) -> dict[str, str]:
    """Return the query parameters that an operation can't do without."""
    queries = [item for item in operation.get("parameters", []) if item["in"] == "query"]
    return {item["name"]: REQUIRED.get(item["name"], "x") for item in queries if item.get("required")}


def send(http: httpx.Client, method: str, url: str, operation: dict[str, Any]) -> httpx.Response:
    """Return the answer to a request as the documentation shows it, at another URL."""
    params = params_of(operation)
    content = operation.get("requestBody", {}).get("content", {})
    if "application/json" in content:
        examples = list(content["application/json"].get("examples", {}).values())
        return http.request(method, url, params=params, json=examples[0]["value"] if examples else None)
    return http.request(method, url, params=params, content=b"{}" if content else None)


def test_there_is_an_endpoint_to_try_for_everything_a_tenant_has() -> None:
    assert len(ADDRESSED) >= 25
    assert len(LISTS) >= 7


def test_every_endpoint_answers_404_to_ids_of_another_tenant(two: Two) -> None:
    for method, path, operation in ADDRESSED:
        answer = send(two.ours.http, method, two.theirs.url(path), operation)
        detail = two.api.problem(answer, 404, "NotFound")
        assert "theirs" not in detail
        if path.count("_id}") > 1:
            mixed = two.ours.url(path, two.theirs)
            two.api.problem(send(two.ours.http, method, mixed, operation), 404, "NotFound")
    for method, path, operation in ADDRESSED:  # and nothing was changed: their owner finds all of it
        if method == "get" and path not in NOT_YET:
            with two.theirs.http.stream("GET", two.theirs.url(path), params=params_of(operation)) as found:
                assert found.status_code == 200, path


def test_an_unknown_id_looks_the_same_as_a_foreign_one(two: Two) -> None:
    for method, path, operation in ADDRESSED:
        foreign, unknown = two.theirs.url(path), two.theirs.url(path)
        for id_ in (*two.theirs.ids.values(), two.theirs.collection_run):
            unknown = unknown.replace(str(id_), str(uuid4()))
        answers = [send(two.ours.http, method, url, operation).json() for url in (foreign, unknown)]
        titles = [(answer["status"], answer["error"], answer["title"]) for answer in answers]
        assert titles[0] == titles[1], path


def test_lists_hold_nothing_of_another_tenant(two: Two) -> None:
    foreign = [str(id_) for id_ in (*two.theirs.ids.values(), two.theirs.collection_run)]
    for path in LISTS:
        whole = two.ours.http.get(path, params={"limit": 1000}).text
        assert not [id_ for id_ in foreign if id_ in whole], path
    assert "theirs" not in two.ours.http.get("/v1/dictionaries").text


def test_ids_of_another_tenant_in_bodies_and_queries_are_404(two: Two) -> None:
    own, foreign = two.ours.ids, {name: str(id_) for name, id_ in two.theirs.ids.items()}
    run = {"dictionary_id": str(own["dictionary_id"]), "llm": "none", "methods": ["lexical"], "evaluations": ["free"]}
    there = f"/v1/dictionaries/{own['dictionary_id']}"
    stolen = {**run, "dictionary_id": foreign["dictionary_id"]}
    dictionaries = [str(own["dictionary_id"]), foreign["dictionary_id"]]
    http = two.ours.http
    for answer in (
        http.post("/v1/runs", json=stolen),
        http.post("/v1/runs", json={**run, "corpus": foreign["corpus_id"]}),
        http.post("/v1/runs/estimate", json=stolen),
        http.post("/v1/schedules", json={"name": "n", "run": stolen, "cron": "0 3 * * *"}),
        http.post("/v1/collections", json={"name": "n", "dictionary_ids": dictionaries}),
        http.post(
            f"/v1/collections/{own['collection_id']}/runs",
            json={"llm": "none", "methods": ["lexical"], "evaluations": ["free"], "corpus": foreign["corpus_id"]},
        ),
        http.get(f"{there}/labels", params={"run_id": foreign["run_id"]}),
        http.get(f"{there}/features", params={"run_id": foreign["run_id"]}),
        http.get(f"{there}/features/0/prompts", params={"run_id": foreign["run_id"]}),
        http.get("/v1/search", params={"q": "x", "mode": "words", "dictionary_id": foreign["dictionary_id"]}),
        http.get("/v1/search/tokens", params={"token": "x", "dictionary_id": foreign["dictionary_id"]}),
    ):
        two.api.problem(answer, 404, "NotFound")
    for path, query in (("/v1/runs", "dictionary_id"), ("/v1/audit", "key_id")):
        assert http.get(path, params={query: foreign[query]}).json()["items"] == []


def test_an_idempotency_key_means_nothing_to_another_tenant(two: Two, neurons: Dictionary) -> None:
    body = json.loads(neurons.spec.model_dump_json())
    headers = {"Idempotency-Key": "same"}
    ours, theirs = (side.http.post("/v1/dictionaries", json=body, headers=headers).json() for side in two[1:])
    assert ours["id"] != theirs["id"]
