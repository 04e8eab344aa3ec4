"""Clients that do not read, and clients that send a byte at a time: others are answered, and the slow are cut off."""

import resource
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
from fastapi import Response

from schema.records import Dictionary, RunSpec
from schema.settings import Settings
from service import patience, uploads
from tests.service.conftest import D_MLP, Api, SpecMaker, serving
from tests.service.test_exports import in_transaction

LOOK_S = 4.0
SMALL = 4096  # bytes of a socket's buffer, so that an answer of some hundred kilobytes fills both ends
ANSWERED_S = 2.0
TERMS = {"llm": "none", "methods": ["lexical"], "evaluations": ["free"], "features": "0"}
N_FOLLOWERS = 50
"""Who follow a run that does not change: there is nothing that they would have to read."""
ENDLESS = 10_000  # bytes that come one at a time
BIG = b"x" * 300_000


@pytest.fixture
def tight(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    """Yield an API whose patience is short and whose sockets hold little, in a process that may have many of them."""
    monkeypatch.setattr(patience, "LOOK_S", LOOK_S)
    monkeypatch.setattr(patience, "MOST_WAITING_BYTES", 16 * 2**20)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)
        listener.bind(("127.0.0.1", 0))
        listener.listen(1024)
        with serving(settings, listener) as running:
            running.app.add_api_route("/big", lambda: Response(BIG))
            yield running
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Slow:
    """A client that asks for something and reads nothing of the answer."""

    def __init__(self, api: Api, asked: str, *headers: str, sends: bytes = b"", head_ends: bool = True) -> None:
        """Send the head of a request; `sends` is what more it sends, a byte at a time."""
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
        self.socket.connect(("127.0.0.1", urlsplit(api.url).port))
        lines = [f"{asked} HTTP/1.1", "Host: x", f"Authorization: Bearer {api.key}", *headers, ""]
        self.socket.sendall("\r\n".join([*lines, ""] if head_ends else lines).encode())
        self.socket.setblocking(False)
        self._sends = iter(sends)

    def send_one(self) -> None:
        """Send the next byte, if there is one and somebody takes it."""
        byte = next(self._sends, None)
        if byte is not None:
            with suppress(OSError):
                self.socket.send(bytes([byte]))

    def __enter__(self) -> socket.socket:
        """Lend the socket, for somebody who does not take that long."""
        self.socket.setblocking(True)
        return self.socket

    def __exit__(self, *_: object) -> None:
        """Leave."""
        self.socket.close()


@contextmanager
def dripping(slow: list[Slow]) -> Iterator[None]:
    """Let clients send a byte each, five times a second."""
    stop = threading.Event()

    def drip() -> None:
        while not stop.wait(0.2):
            for one in slow:
                one.send_one()

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        for one in slow:
            one.socket.close()


def crowd(api: Api, dictionary: Dictionary, run_id: object) -> list[Slow]:
    """Return 500 slow clients, of every kind."""
    there, json_, text = f"/v1/dictionaries/{dictionary.id}", "Content-Type: application/json", b" " * ENDLESS
    length, part = f"Content-Length: {ENDLESS}", f"GET {there}/features"
    kinds = [
        (180, lambda: Slow(api, "GET /big")),
        (10, lambda: Slow(api, f"GET {there}/export")),
        (N_FOLLOWERS, lambda: Slow(api, f"GET /v1/runs/{run_id}/events")),
        (100, lambda: Slow(api, part, sends=b"X-Slow: " + b"x" * ENDLESS, head_ends=False)),
        (120, lambda: Slow(api, "POST /v1/runs", json_, length, sends=text)),
        (40, lambda: Slow(api, "PUT /v1/corpora?name=c", length, sends=text)),
    ]
    return [make() for n, make in kinds for _ in range(n)]


def slowest_answer(api: Api, dictionary: Dictionary, run_id: object, *, for_s: float) -> float:
    """Return how long the slowest of some ordinary requests took, in seconds."""
    worst, until = 0.0, time.monotonic() + for_s
    while True:
        for method, path, body in (
            ("GET", f"/v1/runs/{run_id}", None),
            ("GET", f"/v1/dictionaries/{dictionary.id}/features", None),
            ("POST", "/v1/runs", {"dictionary_id": str(dictionary.id), **TERMS}),
        ):
            began = time.monotonic()
            assert api.http.request(method, path, json=body).status_code < 300
            worst = max(worst, time.monotonic() - began)
        if time.monotonic() > until:
            return worst
        time.sleep(0.2)


def n_connections(api: Api) -> int:
    """Return how many connections the service has."""
    port = urlsplit(api.url).port
    found = psutil.Process().net_connections("tcp")
    return sum(1 for one in found if one.laddr.port == port and one.status == psutil.CONN_ESTABLISHED)


def endless(*_: object) -> Any:
    while True:
        yield b"x" * 100_000


def test_500_slow_clients_hold_up_nobody_and_are_cut_off(
    tight: Api, spec_of: SpecMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.interchange.tables.write_csv", endless)
    dictionary = tight.client.submit_dictionary(
        spec_of(read_site="mlp_hidden.1", encoder={"kind": "neurons"}, n_features=D_MLP)
    )
    run_id = tight.client.submit_run(RunSpec.model_validate({"dictionary_id": dictionary.id, **TERMS})).id
    slowest_answer(tight, dictionary, run_id, for_s=1)
    process = psutil.Process()
    rss, n_threads = process.memory_info().rss, process.num_threads()
    slow = crowd(tight, dictionary, run_id)
    assert len(slow) == 500
    with dripping(slow):
        while slowest_answer(tight, dictionary, run_id, for_s=0) > ANSWERED_S:
            assert n_connections(tight) > 100  # 500 requests at once take a busy machine some seconds
        assert slowest_answer(tight, dictionary, run_id, for_s=LOOK_S / 2) < ANSWERED_S
        assert n_connections(tight) > 200  # the others were too many at once, or too much to keep for
        assert process.num_threads() - n_threads <= 40  # those that endpoints share
        assert process.memory_info().rss - rss < 150 * 2**20
        deadline = time.monotonic() + 60
        while n_connections(tight) > N_FOLLOWERS + 2 and time.monotonic() < deadline:  # and the two of this test
            time.sleep(0.2)
        assert n_connections(tight) in range(N_FOLLOWERS, N_FOLLOWERS + 3)
        assert in_transaction(tight.settings.database_url) == 0
        assert uploads._places.acquire(blocking=False)
        uploads._places.release()


def test_who_reads_slowly_but_steadily_gets_all(tight: Api) -> None:
    content = b""
    with Slow(tight, "GET /big", "Connection: close") as taking:
        while some := taking.recv(SMALL):
            content += some
            time.sleep(3 * LOOK_S * SMALL / len(BIG))
    assert content.partition(b"\r\n\r\n")[2] == BIG


def test_who_sends_slowly_but_steadily_is_heard(tight: Api) -> None:
    line = b'{"text": "' + b"a" * 4_000 + b'"}\n'
    with Slow(tight, "PUT /v1/corpora?name=c", f"Content-Length: {20 * len(line)}", "Connection: close") as giving:
        for _ in range(20):
            giving.sendall(line)
            time.sleep(LOOK_S / 8)
        assert giving.recv(SMALL).startswith(b"HTTP/1.1 201")


def test_who_says_nothing_is_cut_off(tight: Api) -> None:
    with socket.create_connection(("127.0.0.1", urlsplit(tight.url).port or 0), timeout=5 * LOOK_S) as silent:
        assert silent.recv(1) == b""


def test_no_more_connections_are_taken_than_may_be(tight: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "most_connections", lambda: 10)
    address = ("127.0.0.1", urlsplit(tight.url).port or 0)
    with ExitStack() as opened:
        sockets = [opened.enter_context(socket.create_connection(address, timeout=10)) for _ in range(20)]
        refused = [one for one in sockets if _ends(one)]
        assert 10 <= len(refused) < 20


def _ends(one: socket.socket) -> bool:
    """Return whether the other side ends a connection at once."""
    one.settimeout(LOOK_S / 8)
    try:
        return one.recv(1) == b""
    except ConnectionError:
        return True
    except TimeoutError:
        return False


def test_no_more_uploads_are_received_at_once_than_leave_threads_for_others(api: Api) -> None:
    with ExitStack() as held:
        for _ in range(uploads.MOST_UPLOADS):
            held.enter_context(uploads._place())
        refused = api.http.put("/v1/corpora", params={"name": "c"}, content=b'{"text": "a"}')
        assert "16 uploads are under way" in api.problem(refused, 503, "Unavailable")
    assert api.http.put("/v1/corpora", params={"name": "c"}, content=b'{"text": "a"}').status_code == 201
