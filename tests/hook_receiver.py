"""A receiver of webhooks on loopback, which can misbehave; and a canary, where nothing may ever arrive.

with HookReceiver() as receiver:
    receiver.mode = "redirect"
"""

import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import socket
from typing import Any, Literal, NamedTuple, Self

Mode = Literal[
    "ok",
    "error",  # 500
    "redirect",  # 302 to `elsewhere`
    "hang",  # accepts, reads, and says nothing
    "drip",  # a header that never ends, byte by byte
    "endless",  # 200 and a body that never ends
    "flood",  # a status line that never ends
    "close",  # hangs up without an answer
]

CERTIFICATE = Path(__file__).parent / "hooks.test.pem"
"""Of the name `hooks.test`, signed by itself, with its key: it protects nothing."""


class Received(NamedTuple):
    """A request."""

    path: str
    headers: dict[str, str]
    body: bytes


class HookReceiver:
    """An HTTP server that remembers who connected and what was sent."""

    def __init__(self, *, tls: bool = False) -> None:
        self.mode: Mode = "ok"
        self.elsewhere = ""
        self.received: list[Received] = []
        self.names: list[str | None] = []  # that were asked for in TLS
        self.n_connections = 0
        self.over = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _handler_of(self))
        self._server.receiver = self
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(CERTIFICATE)
            context.sni_callback = lambda _socket, name, _context: self.names.append(name)
            self._server.tls = context
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    receiver: HookReceiver
    tls: ssl.SSLContext | None = None

    def get_request(self) -> tuple[socket, Any]:
        connection, address = super().get_request()
        self.receiver.n_connections += 1
        return connection, address

    def finish_request(self, request: Any, client_address: Any) -> None:
        if self.tls is None:
            super().finish_request(request, client_address)
            return
        with self.tls.wrap_socket(request, server_side=True) as encrypted:
            super().finish_request(encrypted, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: that the other side hangs up is what many tests are about."""


def _handler_of(receiver: HookReceiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            receiver.received.append(Received(self.path, dict(self.headers), body))
            getattr(self, f"_{receiver.mode}")()

        def _ok(self) -> None:
            self._answer(204)

        def _error(self) -> None:
            self._answer(500)

        def _redirect(self) -> None:
            self._answer(302, ("Location", receiver.elsewhere))

        def _hang(self) -> None:
            receiver.over.wait(60)

        def _close(self) -> None:
            self.close_connection = True

        def _drip(self) -> None:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            while not receiver.over.is_set():
                self.wfile.write(b"a")
                time.sleep(0.05)

        def _endless(self) -> None:
            self.send_response(200)
            self.end_headers()
            self._pour()

        def _flood(self) -> None:
            self.wfile.write(b"HTTP/1.1 200 ")
            self._pour()

        def _pour(self) -> None:
            while not receiver.over.is_set():
                self.wfile.write(b"a" * 65536)

        def _answer(self, status: int, *headers: tuple[str, str]) -> None:
            self.send_response(status)
            for name, value in (*headers, ("Content-Length", "0")):
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    return Handler
