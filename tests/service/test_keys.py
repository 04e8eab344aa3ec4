"""API keys over HTTP and on the command line: who gets in, how far, and that no secret is kept."""

import json
import re
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from schema.errors import Forbidden, Unauthorized
from schema.keys import KeySpec, make_credentials
from schema.records import Dictionary, RunSpec
from schema.settings import load_settings
from schema.store import database, keys
from schema.store.keys import StoredKey
from service.app import create_app
from service.auth import Gate
from service.cli import app
from service.client import Client
from service.credentials import find_key
from service.folder import DataFolder, StackState
from service.rates import Rates
from service.servers import postgres_binaries
from tests.service.conftest import Api, make_key

DOCUMENT: dict[str, Any] = create_app().openapi()
OPERATIONS = [(method, path) for path, methods in DOCUMENT["paths"].items() for method in methods]
OPEN = {"/health", "/ready"}
READING = {"/v1/runs/estimate", "/v1/labels/bulk"}
"""What is sent by POST and only reads."""
ADMIN = {"/v1/keys", "/v1/keys/{key_id}", "/v1/audit"}


def url_of(path: str) -> str:
    """Return a path with something in the place of each parameter."""
    unknown = re.sub(r"\{\w+_id\}", str(uuid.UUID(int=1)), path)
    return re.sub(r"\{\w+\}", "0", unknown)


@pytest.mark.parametrize("text", [None, "nonsense", make_credentials(uuid.uuid4()).text])
def test_nobody_gets_in_without_a_known_key(api: Api, text: str | None) -> None:
    with api.with_key(text) as stranger:
        for method, path in OPERATIONS:
            answer = stranger.request(method, url_of(path))
            if path in OPEN:
                assert answer.status_code == 200
            else:
                api.problem(answer, 401, "Unauthorized")
                assert answer.headers["www-authenticate"] == "Bearer"
        assert stranger.get("/docs").status_code == 200
        assert stranger.get("/openapi.json").status_code == 200


def test_keys_come_in_the_header_only_and_whole(api: Api) -> None:
    with api.with_key(None) as stranger:
        for headers in ({"Authorization": api.key}, {"Authorization": f"Basic {api.key}"}, {"X-API-Key": api.key}):
            assert stranger.get("/v1/runs", headers=headers).status_code == 401
        for query in ("key", "api_key", "token", "access_token"):
            assert stranger.get("/v1/runs", params={query: api.key}).status_code == 401
        changed = api.key[:-2] + ("AA" if not api.key.endswith("AA") else "BB")
        for wrong in (changed, api.key[:-1], api.key + "x", api.key.upper()):
            assert stranger.get("/v1/runs", headers={"Authorization": f"Bearer {wrong}"}).status_code == 401
        assert stranger.get("/v1/runs", headers={"Authorization": f"bearer {api.key}"}).status_code == 200


@pytest.mark.parametrize("scope", ["read", "submit"])
def test_a_scope_suffices_for_what_it_says_and_no_more(api: Api, scope: str) -> None:
    with api.with_key(make_key(api.settings.database_url, scope)) as caller:  # type: ignore[arg-type]
        for method, path in OPERATIONS:
            answer = caller.request(method, url_of(path))
            changes = method != "get" and path not in READING
            if path in ADMIN or (changes and scope == "read"):
                needed = "admin" if path in ADMIN else "submit"
                assert f"has the scope {scope}, and this needs {needed}" in api.problem(answer, 403, "Forbidden")
            else:
                assert answer.status_code not in (401, 403), (method, path, answer.text)


def test_every_operation_says_that_it_needs_a_key() -> None:
    for path, methods in DOCUMENT["paths"].items():
        for operation in methods.values():
            assert operation.get("security") == (None if path in OPEN else [{"api_key": []}])
            if path not in OPEN:
                assert {"401", "403", "429"} <= operation["responses"].keys()
    assert DOCUMENT["components"]["securitySchemes"]["api_key"]["scheme"] == "bearer"


# --------------------------------------------------------------------------------------------------- making and ending


def test_a_key_is_shown_once_works_and_is_revoked(api: Api) -> None:
    made = api.client.create_key(KeySpec(name="ada", scope="submit"), "once")
    again = api.client.create_key(KeySpec(name="ada", scope="submit"), "once")
    assert made.text is not None
    assert (again.id, again.text) == (made.id, None)
    with Client(api.url, key=made.text) as ada:
        assert list(ada.runs()) == []
        with pytest.raises(Forbidden, match="has the scope submit, and this needs admin"):
            list(ada.api_keys())
        listed = list(api.client.api_keys())
        assert [(key.name, key.scope, key.used_at is None) for key in listed] == [
            ("ada", "submit", False),
            ("admin of default", "admin", False),
        ]
        assert made.text not in api.http.get("/v1/keys").text
        api.client.revoke_key(made.id)
        with pytest.raises(Unauthorized, match=rf"key {made.id} was revoked at "):
            list(ada.runs())
    assert api.http.get("/v1/keys").json()["items"][0]["revoked_at"] is not None
    answer = api.http.post("/v1/keys", json={"name": "grace"})
    assert answer.headers["cache-control"] == "no-store"


def test_a_key_expires_even_while_it_is_known(api: Api) -> None:
    expires_at = datetime.now(UTC) + timedelta(seconds=4)
    text = make_key(api.settings.database_url, "read", expires_at=expires_at)
    with api.with_key(text) as caller:
        assert caller.get("/v1/runs").status_code == 200
        while datetime.now(UTC) <= expires_at:
            time.sleep(0.1)
        assert "expired at" in api.problem(caller.get("/v1/runs"), 401, "Unauthorized")


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"name": ""}, "name"),
        ({"name": "x", "scope": "root"}, "scope"),
        ({"name": "x", "expires_at": "2020-01-01T00:00:00Z"}, "expires_at=2020-01-01T00:00:00+00:00 is over"),
        ({"name": "x", "expires_at": "2120-01-01T00:00:00"}, "timezone"),
        ({"name": "x", "tenant": "other"}, "tenant"),
        ({"name": "a\0b"}, "body.name: holds the control character"),
    ],
)
def test_keys_that_make_no_sense_are_refused(api: Api, spec: dict[str, object], said: str) -> None:
    assert said in api.problem(api.http.post("/v1/keys", json=spec), 422, "InvalidInput")


def test_a_known_key_is_looked_up_once_in_a_while() -> None:
    credentials, asked = make_credentials(uuid.uuid4()), []
    spec = KeySpec(name="n").model_dump()
    key = keys.Key(id=credentials.id, created_at=datetime.now(UTC), revoked_at=None, used_at=None, **spec)

    def find(id_: uuid.UUID) -> StoredKey | None:
        asked.append(id_)
        return StoredKey(key, 1, credentials.digest) if id_ == key.id else None

    gate = Gate(find, Rates("redis://127.0.0.1:1/0", {}))
    for _ in range(3):
        assert gate.identify(credentials.text, "GET", None).key_id == key.id
    assert asked == [key.id]
    with pytest.raises(Unauthorized, match="not known here"):
        gate.identify(make_credentials(key.id).text, "GET", None)  # the right id, another secret
    stranger = make_credentials(uuid.uuid4())
    for _ in range(2):
        with pytest.raises(Unauthorized, match="not known here"):
            gate.identify(stranger.text, "GET", None)
    assert asked == [key.id, stranger.id, stranger.id]
    gate.forget(key.id)
    gate.identify(credentials.text, "GET", None)
    assert asked[-1] == key.id


# ------------------------------------------------------------------------------------------------ where keys are found


def test_the_client_finds_a_key_by_option_then_environment_then_stack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GLOSSARIUM_API_KEY", raising=False)
    folder = DataFolder(tmp_path)
    folder.logs.mkdir()
    url = "http://127.0.0.1:7"
    folder.write_state(
        StackState(
            pid=1, api_url=url, database_url="d", redis_url="r", llm_base_url="l", embeddings_base_url="e",
            started_at=datetime.now(UTC),
        )
    )  # fmt: skip
    assert find_key(url, data=tmp_path) is None
    folder.keep_key("glk_own")
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert find_key(url, data=tmp_path) == "glk_own"
    assert find_key("http://localhost:7", data=tmp_path) == "glk_own"
    assert find_key("http://127.0.0.1:8", data=tmp_path) is None
    assert find_key("http://example.org:7", data=tmp_path) is None
    monkeypatch.setenv("GLOSSARIUM_API_KEY", "glk_environment")
    assert find_key("http://example.org:7", data=tmp_path) == "glk_environment"
    assert find_key(url, "glk_given", tmp_path) == "glk_given"
    with pytest.raises(Unauthorized, match="characters that no key has"):
        find_key(url, "glk_…", tmp_path)


Glossarium = Callable[..., Result]


@pytest.fixture
def glossarium(api: Api, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Glossarium]:
    """Return a caller of the command whose API and database are the test's."""
    monkeypatch.setenv("GLOSSARIUM_API_URL", api.url)
    monkeypatch.setenv("GLOSSARIUM_DATA_DIR", str(tmp_path / "nothing"))
    monkeypatch.setenv("DATABASE_URL", api.settings.database_url)
    monkeypatch.setenv("COLUMNS", "200")
    load_settings.cache_clear()
    yield lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])
    load_settings.cache_clear()


def test_the_command_makes_lists_and_revokes_keys(glossarium: Glossarium) -> None:
    text = glossarium("keys", "add", "ada's notebook", "--scope", "submit", "--days", "30").stdout.strip()
    assert glossarium("--key", text, "runs").exit_code == 0
    refused = glossarium("--key", text, "keys", "list")
    assert refused.exit_code == 1
    assert "has the scope submit, and this needs admin" in refused.stderr
    listed = glossarium("keys", "list").stdout
    assert "ada's notebook" in listed
    assert "valid until" in listed
    assert text not in listed
    assert "is revoked" in glossarium("keys", "revoke", "ada's notebook").stdout
    assert "was revoked" in glossarium("--key", text, "runs").stderr
    assert "no valid key" in glossarium("keys", "revoke", "ada's notebook").stderr
    done = json.loads(glossarium("keys", "audit", "--json").stdout)
    assert [(entry["method"], entry["status"]) for entry in done] == [("DELETE", 204), ("POST", 201)]
    assert "DELETE /v1/keys/" in glossarium("keys", "audit").stdout
    assert glossarium("keys", "audit", "--by", "ada's notebook", "--json").stdout == "[]\n"


def test_names_and_paths_in_tables_are_no_markup(glossarium: Glossarium, api: Api) -> None:
    text = make_key(api.settings.database_url, "submit", name="[/] [x]")
    with api.with_key(text) as http:
        assert http.delete("/v1/schedules/[x]").status_code == 422
    assert "[/] [x]" in glossarium("keys", "list").stdout
    shown = glossarium("keys", "audit").stdout
    assert "[/] [x]" in shown
    assert "DELETE /v1/schedules/[x]" in shown


def test_an_operator_makes_the_first_key_of_a_tenant_without_the_api(glossarium: Glossarium, api: Api) -> None:
    made = json.loads(glossarium("keys", "bootstrap", "--tenant", "physics", "--json").stdout)
    with Client(api.url, key=made["text"]) as physics:
        assert [key.name for key in physics.api_keys()] == ["first key"]
    assert len(list(api.client.api_keys())) == 1


# ------------------------------------------------------------------------------------------------------------- secrets


def test_no_secret_is_in_the_database_or_in_what_is_logged(
    api: Api,
    neurons: Dictionary,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    wrong = make_credentials(uuid.uuid4()).text
    texts = [api.key, wrong, str(api.client.create_key(KeySpec(name="n")).text)]
    texts.append(make_key(api.settings.database_url, "submit"))
    for text in texts:
        with api.with_key(text) as caller:
            caller.get("/v1/runs", params={"key": "x"})
            caller.post("/v1/runs", json=RunSpec(dictionary_id=neurons.id).model_dump(mode="json"))
            caller.post("/v1/dictionaries", json={"name": text[-5:]})
    with database.connect(api.settings.database_url) as connection:
        connection.execute("ALTER TABLE run RENAME TO gone")
    assert api.http.get("/v1/runs").status_code == 500  # and is logged with its trace
    with database.connect(api.settings.database_url) as connection:
        connection.execute("ALTER TABLE gone RENAME TO run")
    command = [postgres_binaries() / "pg_dump", "--dbname", api.settings.database_url]
    dump = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    logged = "".join(capfd.readouterr()) + caplog.text
    assert "COPY public.api_key" in dump
    assert "database error" in logged
    for text in texts:
        secret = text[-43:]
        assert secret not in dump
        assert secret not in logged
