"""What sends to webhooks, against receivers on loopback that misbehave, and a canary that must never be reached."""

import hashlib
import hmac
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence

import pytest
from psycopg_pool import ConnectionPool
from pydantic import SecretStr
from structlog.testing import capture_logs

from schema.settings import Settings
from schema.store import database, deliveries, webhooks
from schema.store.database import Connection
from schema.webhooks import Delivery, Notice, WebhookSpec, secret_of
from tests.bare_run import store_bare_run
from tests.hook_receiver import CERTIFICATE, HookReceiver, Mode
from workers import posting
from workers.courier import Courier

TIMEOUT_S = 1.0
PUBLIC = "93.184.216.34"
Answer = Callable[[str, int], Sequence[str]]


class Office:
    """Webhooks and their courier, on a real database."""

    def __init__(self, settings: Settings, pool: ConnectionPool[Connection]) -> None:
        self.settings = settings
        self.pool = pool

    def owe(self, url: str) -> uuid.UUID:
        """Store a webhook, whatever its URL, that is owed one notice."""
        id_ = uuid.uuid4()
        with database.lend(self.pool) as connection:
            webhooks.create(connection, 1, id_, WebhookSpec(url=url, events=("run.finished",)))
            connection.execute("INSERT INTO delivery (webhook_id, event) VALUES (%s, 'run.finished')", (id_,))
        return id_

    def send(self, resolve: Answer | None = None, **changes: object) -> int:
        """Send what is due until nothing is."""
        settings = self.settings.model_copy(update=changes)
        more = {} if resolve is None else {"resolve": resolve}
        courier, n = Courier(settings, self.pool, timeout_s=TIMEOUT_S, **more), 0
        while sent := courier.deliver():
            n += sent
        return n

    def only(self, webhook_id: uuid.UUID) -> Delivery:
        """Return the one delivery of a webhook."""
        with database.lend(self.pool) as connection:
            (delivery,) = deliveries.page(connection, webhook_id)
        return delivery

    def failure(self, webhook_id: uuid.UUID) -> str:
        """Return why the one delivery of a webhook, tried once, is still due."""
        delivery = self.only(webhook_id)
        assert (delivery.state, delivery.attempts) == ("due", 1)
        assert delivery.last_error is not None
        return delivery.last_error


@pytest.fixture
def office(database_url: str) -> Iterator[Office]:
    pool = database.open_pool(database_url)
    settings = Settings(database_url=database_url, secret=SecretStr("s3cret"), webhook_hosts=("127.0.0.1",))
    try:
        yield Office(settings, pool)
    finally:
        pool.close()


@pytest.fixture
def receiver() -> Iterator[HookReceiver]:
    with HookReceiver() as running:
        yield running


@pytest.fixture
def canary() -> Iterator[HookReceiver]:
    """Yield a listener that must never be reached; this is looked at when the test is over."""
    with HookReceiver() as running:
        yield running
        assert running.n_connections == 0


def test_a_run_is_told_of_signed_and_exactly_as_stored(office: Office, receiver: HookReceiver) -> None:
    id_ = uuid.uuid4()
    with database.lend(office.pool) as connection:
        run_id = store_bare_run(connection)
        webhooks.create(connection, 1, id_, WebhookSpec(url=f"http://127.0.0.1:{receiver.port}/in?a=b"))
        deliveries.tell_of_run(connection, run_id, "run.finished")
    before = int(time.time())
    assert office.send() == 1
    (request,) = receiver.received
    delivery = office.only(id_)
    assert delivery.state == "delivered"
    assert request.path == "/in?a=b"
    assert Notice.model_validate_json(request.body) == Notice(
        **{name: getattr(delivery, name) for name in Notice.model_fields}
    )
    headers = request.headers
    assert headers["Content-Type"] == "application/json"
    assert headers["Host"] == f"127.0.0.1:{receiver.port}"
    assert (headers["X-Glossarium-Delivery"], headers["X-Glossarium-Event"]) == (str(delivery.id), "run.finished")
    stamp, _, digest = headers["X-Glossarium-Signature"].partition(",v1=")
    key = secret_of(office.settings.secret, id_).encode()
    timestamp = stamp.removeprefix("t=")
    assert before <= int(timestamp) <= time.time()
    assert digest == hmac.new(key, timestamp.encode() + b"." + request.body, hashlib.sha256).hexdigest()


@pytest.mark.parametrize(
    ("mode", "why"),
    [
        ("error", "HTTP 500"),
        ("hang", "no answer within 1 s"),
        ("drip", "no answer within 1 s"),
        ("flood", "ProtocolError"),
        ("close", "ProtocolError"),
    ],
)
def test_a_target_that_misbehaves_is_tried_again_later(
    office: Office, receiver: HookReceiver, mode: Mode, why: str
) -> None:
    receiver.mode = mode
    id_ = office.owe(f"http://127.0.0.1:{receiver.port}/")
    began = time.monotonic()
    assert office.send() == 1
    assert time.monotonic() - began < 10 * TIMEOUT_S
    assert why in office.failure(id_)
    receiver.mode = "ok"
    with database.lend(office.pool) as connection:
        connection.execute("UPDATE delivery SET due_at = clock_timestamp()")
    assert office.send() == 1
    assert office.only(id_).state == "delivered"
    assert len({request.headers["X-Glossarium-Delivery"] for request in receiver.received}) == 1


def test_an_endless_answer_is_not_read(office: Office, receiver: HookReceiver) -> None:
    receiver.mode = "endless"
    id_ = office.owe(f"http://127.0.0.1:{receiver.port}/")
    began = time.monotonic()
    office.send()
    assert time.monotonic() - began < 10 * TIMEOUT_S
    assert office.only(id_).state == "delivered"


def test_a_redirect_is_not_followed(office: Office, receiver: HookReceiver, canary: HookReceiver) -> None:
    receiver.mode, receiver.elsewhere = "redirect", f"http://127.0.0.1:{canary.port}/"
    id_ = office.owe(f"http://127.0.0.1:{receiver.port}/")
    office.send()
    assert office.failure(id_).startswith("HTTP 302; redirects are not followed")


def test_a_target_that_hangs_keeps_no_other_waiting_for_long(office: Office, receiver: HookReceiver) -> None:
    with HookReceiver() as slow:
        slow.mode = "hang"
        hanging = office.owe(f"http://127.0.0.1:{slow.port}/")
        others = [office.owe(f"http://127.0.0.1:{receiver.port}/{n}") for n in range(3)]
        office.send()
    assert "no answer" in office.failure(hanging)
    assert [office.only(id_).state for id_ in others] == ["delivered"] * 3


def test_a_delivery_that_fails_unexpectedly_keeps_no_other_waiting(office: Office, receiver: HookReceiver) -> None:
    def resolve(host: str, port: int) -> Sequence[str]:
        if host == "hooks.example.com":
            raise RuntimeError("odd")
        return [host]

    odd = office.owe("https://hooks.example.com/")
    others = [office.owe(f"http://127.0.0.1:{receiver.port}/{n}") for n in range(2)]
    with capture_logs() as logs:
        assert office.send(resolve) == 3
    assert office.failure(odd) == "RuntimeError; the log of the control worker says more"
    assert [office.only(id_).state for id_ in others] == ["delivered"] * 2
    (told,) = (one for one in logs if one["log_level"] == "error")
    assert (told["delivery"], told["error"]) == (str(office.only(odd).id), "RuntimeError('odd')")


def test_a_proxy_of_the_environment_is_not_asked(
    office: Office, receiver: HookReceiver, canary: HookReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        for variable in (name, name.lower()):
            monkeypatch.setenv(variable, f"http://127.0.0.1:{canary.port}")
    id_ = office.owe(f"http://127.0.0.1:{receiver.port}/")
    office.send()
    assert office.only(id_).state == "delivered"


FORMS = (
    "https://127.0.0.1:{port}/",
    "http://127.0.0.1:{port}/",
    "https://127.1:{port}/",
    "https://2130706433:{port}/",
    "https://0x7f000001:{port}/",
    "https://0x7f.1:{port}/",
    "https://017700000001:{port}/",
    "https://0177.0.0.1:{port}/",
    "https://0:{port}/",
    "https://0.0.0.0:{port}/",
    "https://127.8.8.8:{port}/",
    "https://localhost:{port}/",
    "https://LOCALHOST.:{port}/",
    "https://[::1]:{port}/",
    "https://[::]:{port}/",
    "https://[::ffff:127.0.0.1]:{port}/",
    "https://[::ffff:7f00:1]:{port}/",
    "https://[::127.0.0.1]:{port}/",
    "https://[64:ff9b::7f00:1]:{port}/",
    "https://[2002:7f00:1::]:{port}/",
    "https://hooks.example.com@127.0.0.1:{port}/",
    "https://user:pass@127.0.0.1:{port}/",
    "https://hooks.example.com\\@127.0.0.1:{port}/",
    "https://127.0.0.1:{port}#@hooks.example.com/",
    "https://hooks.example.com#@127.0.0.1:{port}/",
    "https://①②⑦.⓪.⓪.①:{port}/",
    "https://127.0.0.1.nip.io:{port}/",
    "https://hooks.example.com:{port}/",
    "gopher://127.0.0.1:{port}/",
)


def test_no_form_of_a_private_address_is_ever_connected_to(office: Office, canary: HookReceiver) -> None:
    """The check when webhooks are made is left out here: what sends must not rely on it."""
    asked: list[str] = []

    def resolve(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) % 2 else [PUBLIC, "::1"]

    owed = [office.owe(form.format(port=canary.port)) for form in FORMS]
    assert office.send(resolve, webhook_hosts=()) == len(FORMS)
    for id_ in owed:
        assert "HTTP " not in office.failure(id_)
    assert {"localhost", "hooks.example.com"} <= set(asked)


def test_a_name_that_changes_its_address_is_looked_at_each_time(office: Office, canary: HookReceiver) -> None:
    """Between two attempts; within one the name is resolved once, and the connection goes where that led."""
    answers = iter([["::1"], ["127.0.0.1"]])
    id_ = office.owe(f"https://hooks.example.com:{canary.port}/")
    office.send(lambda host, port: next(answers), webhook_hosts=())
    assert "has the address ::1, which is not public" in office.failure(id_)
    with database.lend(office.pool) as connection:
        connection.execute("UPDATE delivery SET due_at = clock_timestamp(), attempts = 0")
    office.send(lambda host, port: next(answers), webhook_hosts=())
    assert "has the address 127.0.0.1, which is not public" in office.failure(id_)
    assert next(answers, None) is None


@pytest.fixture
def certified(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Trust the certificate of hooks.test."""
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    posting._context.cache_clear()
    yield
    posting._context.cache_clear()


@pytest.mark.usefixtures("certified")
def test_a_connection_is_pinned_to_the_address_and_keeps_the_name(office: Office) -> None:
    """The name resolves nowhere but in the function that is passed in: whoever asked again would not arrive."""
    asked: list[str] = []

    def resolve(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return ["127.0.0.2", "127.0.0.1"]  # nobody listens at the first

    with HookReceiver(tls=True) as receiver:
        id_ = office.owe(f"https://hooks.test:{receiver.port}/x")
        office.send(resolve, webhook_hosts=("hooks.test",))
        (request,) = receiver.received
        assert request.headers["Host"] == f"hooks.test:{receiver.port}"
        assert receiver.names == ["hooks.test"]
    assert office.only(id_).state == "delivered"
    assert asked == ["hooks.test"]


@pytest.mark.usefixtures("certified")
def test_a_certificate_of_another_name_is_refused(office: Office) -> None:
    with HookReceiver(tls=True) as receiver:
        id_ = office.owe(f"https://other.test:{receiver.port}/")
        office.send(lambda host, port: ["127.0.0.1"], webhook_hosts=("other.test",))
        assert receiver.received == []
    assert "CERTIFICATE_VERIFY_FAILED" in office.failure(id_)


def test_a_certificate_that_nobody_vouches_for_is_refused(office: Office) -> None:
    with HookReceiver(tls=True) as receiver:
        id_ = office.owe(f"https://hooks.test:{receiver.port}/")
        office.send(lambda host, port: ["127.0.0.1"], webhook_hosts=("hooks.test",))
        assert receiver.received == []
    assert "CERTIFICATE_VERIFY_FAILED" in office.failure(id_)


def test_without_a_secret_nothing_is_sent(office: Office, canary: HookReceiver) -> None:
    id_ = office.owe(f"http://127.0.0.1:{canary.port}/")
    office.send(secret=SecretStr(""))
    assert "GLOSSARIUM_SECRET" in office.failure(id_)


def test_a_target_that_never_recovers_ends_as_a_disabled_webhook(office: Office, receiver: HookReceiver) -> None:
    receiver.mode = "error"
    id_ = office.owe(f"http://127.0.0.1:{receiver.port}/")
    for _ in range(10):
        office.send()
        with database.lend(office.pool) as connection:
            connection.execute("UPDATE delivery SET due_at = clock_timestamp()")
    assert len(receiver.received) == 8
    assert len({json.loads(request.body)["id"] for request in receiver.received}) == 1
    with database.lend(office.pool) as connection:
        found = webhooks.get(connection, 1, id_)
    assert (found.state, found.last_error, found.n_due) == ("disabled", "HTTP 500", 1)


def test_a_control_worker_alone_ends_a_run_and_tells_of_it(
    office: Office, receiver: HookReceiver, redis_url: str
) -> None:
    """Nobody rings, and there is no beat: it sweeps, and sends, by itself."""
    with database.lend(office.pool) as connection:
        run_id = store_bare_run(connection)
        webhooks.create(connection, 1, uuid.uuid4(), WebhookSpec(url=f"http://127.0.0.1:{receiver.port}/"))
    environment = {
        **os.environ,
        "DATABASE_URL": office.settings.database_url,
        "REDIS_URL": redis_url,
        "GLOSSARIUM_SECRET": "s3cret",
        "GLOSSARIUM_WEBHOOK_HOSTS": f'["127.0.0.1:{receiver.port}"]',
        "GLOSSARIUM_SWEEP_S": "0.5",
        "GLOSSARIUM_WATCH_S": "0.2",
    }
    celery = [sys.executable, "-m", "celery", "-A", "workers.app", "worker", "-Q", "control", "--pool", "threads"]
    worker = subprocess.Popen(celery, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while not receiver.received:
            assert worker.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        worker.terminate()
        worker.wait(60)
    notice = Notice.model_validate_json(receiver.received[0].body)
    assert notice.data is not None
    assert (notice.event, notice.data.run_id, notice.data.state) == ("run.finished", run_id, "done")
