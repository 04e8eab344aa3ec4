"""Conditional answers: the same is not sent again, and what is long is sent packed."""

import gzip

import httpx
import pytest

from schema.labels import Label, Status
from schema.records import Dictionary
from schema.store import database, labels
from tests.service.conftest import Api


def publish(api: Api, dictionary: Dictionary, text: str) -> None:
    """Publish a label of feature 3."""
    with database.connect(api.settings.database_url) as connection:
        made = Label(feature=3, text=text, status=Status.OK, method=None, description_id=None)
        labels.publish(connection, dictionary.id, None, made, text)


@pytest.mark.parametrize("path", ["", "/features", "/features/3", "/labels", "/features/3/labels"])
def test_what_is_the_same_is_answered_without_a_body_until_it_changes(api: Api, neurons: Dictionary, path: str) -> None:
    url = f"/v1/dictionaries/{neurons.id}{path}"
    first = api.http.get(url)
    tag = first.headers["etag"]
    assert first.headers["cache-control"] == "private, no-cache"
    for known in (tag, f'"other", {tag}', tag.removeprefix("W/"), "*"):
        again = api.http.get(url, headers={"If-None-Match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        assert "content-length" not in again.headers
    assert api.http.get(url, headers={"If-None-Match": '"other"'}).json() == first.json()
    if path:
        publish(api, neurons, "rivers")
        changed = api.http.get(url, headers={"If-None-Match": tag})
        assert changed.status_code == 200
        assert changed.headers["etag"] != tag


def test_only_what_was_read_well_has_a_tag(api: Api, neurons: Dictionary) -> None:
    url = f"/v1/dictionaries/{neurons.id}"
    missing = api.http.get(f"{url}/features/99", headers={"If-None-Match": "*"})
    api.problem(missing, 404, "NotFound")
    assert "etag" not in missing.headers
    export = api.http.get(f"{url}/export", params={"format": "json"}, headers={"If-None-Match": "*"})
    assert (export.status_code, "etag" in export.headers) == (200, False)
    bulk = api.http.post("/v1/labels/bulk", json={"features": [[str(neurons.id), 3]]}, headers={"If-None-Match": "*"})
    assert (bulk.status_code, "etag" in bulk.headers) == (200, False)


def test_long_answers_are_packed_for_those_who_can_read_it(api: Api, neurons: Dictionary) -> None:
    url = f"/v1/dictionaries/{neurons.id}/features"
    packed, plain = (api.http.get(url, headers={"Accept-Encoding": name}) for name in ("gzip", "identity"))
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert packed.json() == plain.json()
    assert packed.headers["etag"] == plain.headers["etag"]
    assert "Accept-Encoding" in packed.headers["vary"]
    assert "content-encoding" not in api.http.get("/health").headers


def test_exports_are_packed_once(api: Api, neurons: Dictionary) -> None:
    url = f"/v1/dictionaries/{neurons.id}/export"

    def raw(format_: str) -> tuple[httpx.Headers, bytes]:
        with api.http.stream("GET", url, params={"format": format_}) as response:
            return response.headers, b"".join(response.iter_raw())

    headers, content = raw("csv")
    assert headers["content-encoding"] == "gzip"
    assert gzip.decompress(content).startswith(b"feature,") or b"feature" in gzip.decompress(content)
    for format_ in ("archive", "delphi", "parquet"):
        assert "content-encoding" not in raw(format_)[0]
