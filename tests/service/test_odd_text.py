"""Text in any script is kept as it was written, wherever it is; what is no text is refused, and what it is named."""

import json
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from schema.records import Dictionary
from tests.service.conftest import Api

WRITTEN = [
    "\N{SHIP}\u200d\N{WATER WAVE} \N{ROCKET}",
    "שלום עולם",
    "نهر ١٢",
    "a\u0301\u0321 z\u034e\u0308algo",
    "<script>alert(1)</script>",
    "'; DROP TABLE label; --",
    "a \\u0000 that is none",
    "x" * 200,
]
NONE = {
    "a NUL": r'"a\u0000b"',
    "half a character": r'"\ud83d"',
    "the other half": r'"a\udea2"',
    "halves the wrong way round": r'"\udea2\ud83d"',
}
MARKS = "\u202e\u2066\ufeff"
IN_QUERIES = ["%00", "%ED%A0%BD", "%FF%FE", "%C0%80", *(quote(text) for text in WRITTEN), quote(MARKS)]


def bodies(dictionary: Dictionary, text: str) -> dict[str, tuple[str, str, str]]:
    """Return requests that store a text, given as JSON: method, path and body of each."""
    there = f"/v1/dictionaries/{dictionary.id}"
    spec = json.dumps({**dictionary.spec.model_dump(mode="json"), "name": "NAME"})
    run = json.dumps({"dictionary_id": str(dictionary.id), "llm": "none", "methods": ["lexical"]})
    return {
        "dictionary": ("POST", "/v1/dictionaries", spec.replace('"NAME"', text)),
        "collection": ("POST", "/v1/collections", f'{{"name": {text}, "dictionary_ids": ["{dictionary.id}"]}}'),
        "schedule": ("POST", "/v1/schedules", f'{{"name": {text}, "run": {run}}}'),
        "key": ("POST", "/v1/keys", f'{{"name": {text}}}'),
        "label": ("PUT", f"{there}/features/1/label", f'{{"text": {text}, "author": "ada", "seen": null}}'),
        "author": ("PUT", f"{there}/features/2/label", f'{{"text": "a", "author": {text}, "seen": null}}'),
        "tried": ("POST", f"{there}/activations?wait=0", f'{{"text": {text}}}'),
    }


def send(api: Api, method: str, path: str, body: str) -> httpx.Response:
    """Return the answer to a request with a body of JSON."""
    return api.http.request(method, path, content=body, headers={"Content-Type": "application/json"})


def texts_of(value: Any) -> list[str]:
    """Return every text in an answer."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [text for item in value for text in texts_of(item)]
    return [value] if isinstance(value, str) else []


@pytest.mark.parametrize("text", WRITTEN, ids=range(len(WRITTEN)))
def test_what_people_write_is_kept_as_it_is(api: Api, neurons: Dictionary, text: str) -> None:
    for place, request in bodies(neurons, json.dumps(text)).items():
        answer = send(api, *request)
        assert answer.status_code in (200, 201, 202), (place, answer.text)
        assert text in texts_of(answer.json()), place
    assert api.http.get(f"/v1/dictionaries/{neurons.id}/features/1").json()["label"]["text"] == text
    found = api.http.get(f"/v1/dictionaries/{neurons.id}/features", params={"q": text[:100]}).json()["items"]
    assert [item["index"] for item in found] == [1]


@pytest.mark.parametrize("text", NONE.values(), ids=NONE)
def test_what_is_no_text_is_refused_everywhere(api: Api, neurons: Dictionary, text: str) -> None:
    for place, request in bodies(neurons, text).items():
        assert "body" in api.problem(send(api, *request), 422, "InvalidInput"), place


def test_odd_text_in_a_query_finds_nothing_or_is_refused(api: Api, neurons: Dictionary) -> None:
    there = f"/v1/dictionaries/{neurons.id}"
    for text in IN_QUERIES:
        for path in (
            f"/v1/search?mode=words&q={text}",
            f"/v1/search/tokens?token={text}",
            f"{there}/features?q={text}",
            f"{there}/labels?cursor={text}",
            f"{there}/export?format=neuronpedia&source={text}&model={text}",
            f"/v1/dictionaries/{text}",
            f"/v1/runs?dictionary_id={text}",
        ):
            answer = api.http.get(path)
            assert answer.status_code in (200, 404, 422), (path, answer.text)
            if "/features?" in path and answer.status_code == 200:
                assert answer.json()["items"] == []
    for text in ("%00", "a%00b"):
        refused = api.http.put(f"/v1/corpora?name={text}", content=b'{"text": "a"}')
        assert refused.status_code == 422
