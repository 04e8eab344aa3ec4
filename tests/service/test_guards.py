"""What goes around every request: security headers, limits of bodies, the audit log, quotas."""

import json
from collections.abc import Iterator

import pytest

from schema.errors import QuotaExceeded
from schema.records import Dictionary, RunSpec
from schema.settings import Settings
from tests.service.conftest import Api, SpecMaker, bearer, make_key, safetensors, serving, weights

LIMIT = 2_000


@pytest.fixture
def narrow(settings: Settings) -> Iterator[Api]:
    """Yield an API that takes small bodies only."""
    with serving(settings.model_copy(update={"max_body_bytes": LIMIT})) as running:
        yield running


def test_every_answer_has_the_security_headers(api: Api) -> None:
    with api.with_key(None) as nobody:
        answers = [api.http.get(path) for path in ("/health", "/ready", "/v1/runs", "/nothing", "/openapi.json")]
        answers += [nobody.get("/v1/runs"), api.http.post("/v1/runs", json={})]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 404, 200, 401, 422]
    for answer in answers:
        assert answer.headers["content-security-policy"] == "default-src 'self'; frame-ancestors 'none'"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
    docs = api.http.get("/docs").headers
    assert docs["content-security-policy"].startswith("default-src 'none'; style-src 'sha256-")
    assert docs["x-content-type-options"] == "nosniff"


def test_an_error_of_ours_has_the_security_headers_too(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.runs.runs.page", lambda *_, **__: 1 / 0)
    answer = api.http.get("/v1/runs")
    assert answer.status_code == 500
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_body_of_10_mb_is_refused_with_the_limit(api: Api) -> None:
    body = json.dumps({"name": "x" * 10_000_000}).encode()
    for content in (body, iter([body[:6_000_000], body[6_000_000:]])):
        refused = api.http.post("/v1/dictionaries", content=content, headers={"Content-Type": "application/json"})
        assert "4,194,304 bytes" in api.problem(refused, 413, "TooLarge")


@pytest.mark.parametrize("depth", [50, 900, 100_000])
@pytest.mark.parametrize("form", ["[{}]", '{{"name":{}}}'])
def test_deep_nesting_is_refused(api: Api, depth: int, form: str) -> None:
    before, after = form.replace("{{", "{").replace("}}", "}").split("{}", 1)
    body = before * depth + "1" + after * depth
    refused = api.http.post("/v1/dictionaries", content=body, headers={"Content-Type": "application/json"})
    assert refused.status_code in (400, 422)
    assert len(refused.content) < 5_000
    assert api.http.get("/v1/dictionaries").status_code == 200


def test_uploads_have_a_limit_of_their_own(narrow: Api, spec_of: SpecMaker) -> None:
    made = narrow.client.submit_dictionary(spec_of(n_features=60))
    content = safetensors(weights(60))
    assert len(content) > LIMIT
    assert narrow.http.put(f"/v1/dictionaries/{made.id}/weights", content=content).status_code == 200
    refused = narrow.http.post("/v1/dictionaries", json={"name": "x" * LIMIT})
    assert "2,000 bytes" in narrow.problem(refused, 413, "TooLarge")


# --------------------------------------------------------------------------------------------------------------- audit


def test_changes_are_noted_whatever_came_of_them(api: Api, neurons: Dictionary) -> None:
    reader = bearer(make_key(api.settings.database_url, "read"))
    spec = neurons.spec.model_dump(mode="json")
    run = {"dictionary_id": str(neurons.id)}
    asked = [
        api.http.post("/v1/dictionaries", json=spec, headers=reader),
        api.http.post("/v1/dictionaries", json={}),
        api.http.post("/v1/runs/estimate", json=run),  # changes nothing
        api.http.get("/v1/keys"),
        api.http.delete(f"/v1/dictionaries/{neurons.id}?why=secret"),
    ]
    assert [answer.status_code for answer in asked] == [403, 422, 200, 200, 204]
    entries = list(api.client.audit())
    assert [(entry.key_name, entry.method, entry.path, entry.status) for entry in entries] == [
        ("admin of default", "DELETE", f"/v1/dictionaries/{neurons.id}", 204),
        ("admin of default", "POST", "/v1/dictionaries", 422),
        ("read of default", "POST", "/v1/dictionaries", 403),
        ("admin of default", "POST", "/v1/dictionaries", 201),
    ]
    assert [entry.id for entry in api.client.audit(entries[2].key_id)] == [entries[2].id]
    page = api.http.get("/v1/audit", params={"limit": 3}).json()
    rest = api.http.get("/v1/audit", params={"limit": 3, "cursor": page["next_cursor"]}).json()
    assert [item["id"] for item in page["items"] + rest["items"]] == [entry.id for entry in entries]


def test_a_failure_of_ours_is_noted(api: Api, neurons: Dictionary, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.runs.check_spec", lambda *_: 1 / 0)
    assert api.http.post("/v1/runs", json={"dictionary_id": str(neurons.id)}).status_code == 500
    latest = next(api.client.audit())
    assert (latest.path, latest.status) == ("/v1/runs", 500)


# -------------------------------------------------------------------------------------------------------------- quotas


def test_a_tenant_has_no_more_unfinished_runs_than_it_may(settings: Settings, spec_of: SpecMaker) -> None:
    with serving(settings.model_copy(update={"max_unfinished_runs": 2})) as api:
        neurons = api.client.submit_dictionary(
            spec_of(read_site="mlp_hidden.1", encoder={"kind": "neurons"}, n_features=16)
        )
        spec = RunSpec(dictionary_id=neurons.id, llm="none", methods=("lexical",), evaluations=("free",))
        runs = [api.client.submit_run(spec) for _ in range(2)]
        with pytest.raises(QuotaExceeded, match=r"1 more beside 2 unfinished runs; this tenant may have 2 "):
            api.client.submit_run(spec)
        assert api.http.post("/v1/runs", json=spec.model_dump(mode="json")).status_code == 409
        api.client.cancel(runs[0].id)
        api.client.submit_run(spec)


def test_a_tenant_stores_no_more_than_it_may(settings: Settings, spec_of: SpecMaker) -> None:
    content = safetensors(weights())
    with serving(settings.model_copy(update={"max_stored_bytes": 2 * len(content) - 1})) as api:
        made = [api.client.submit_dictionary(spec_of()) for _ in range(2)]
        paths = [f"/v1/dictionaries/{one.id}/weights" for one in made]
        assert api.http.put(paths[0], content=content).status_code == 200
        files = api.files()
        refused = api.http.put(paths[1], content=content)
        stored = f"{len(content):,} bytes do not fit: {len(content):,} of the {2 * len(content) - 1:,} bytes"
        assert stored in api.problem(refused, 409, "QuotaExceeded")
        corpus = b'{"text": "a"}\n' * (len(content) // 14 + 1)
        refused = api.http.put("/v1/corpora", params={"name": "c"}, content=corpus)
        api.problem(refused, 409, "QuotaExceeded")
        assert api.files() == files
        api.client.delete_dictionary(made[0].id)
        assert api.http.put(paths[1], content=content).status_code == 200
