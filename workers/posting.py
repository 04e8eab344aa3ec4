"""One POST to a target that nobody here vouches for: pinned to addresses that were looked at, and over in a given time.

It follows no redirect, asks no proxy of the environment, and reads nothing of an answer but its status.
"""

import ssl
import time
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import certifi
import httpcore

from schema.errors import Unavailable
from schema.targets import Target

_FAILURES = (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError)
_SHOWN = 200


def post(target: Target, headers: Mapping[str, str], body: bytes, *, timeout_s: float) -> int:
    """Return the status that a target answers a POST with, whatever it is.

    Raises: Unavailable if there is none after `timeout_s`, the connection and its encryption included.
    """
    url = httpcore.URL(
        scheme=target.scheme.encode(), host=target.host.encode(), port=target.port, target=target.path.encode()
    )
    sent = {"Host": target.authority, **headers, "Content-Length": str(len(body)), "Connection": "close"}
    backend = _Pinned(target.addresses, time.monotonic() + timeout_s)
    pool = httpcore.ConnectionPool(ssl_context=_context(), network_backend=backend, max_connections=1)
    try:
        with pool, pool.stream("POST", url, headers=list(sent.items()), content=body) as response:
            return response.status
    except httpcore.TimeoutException as exc:
        raise Unavailable(f"no answer within {timeout_s:g} s") from exc
    except _FAILURES as exc:
        raise Unavailable(f"{type(exc).__name__}: {exc}"[:_SHOWN]) from exc


@cache
def _context() -> ssl.SSLContext:
    """Return what certificates are checked with: the usual authorities, and those of SSL_CERT_FILE if it is set."""
    context = ssl.create_default_context(cafile=certifi.where())
    context.set_default_verify_paths()
    return context


class _Pinned(httpcore.NetworkBackend):
    """Connects to given addresses whatever the name, and to no other; all of it until a deadline.

    The name itself stays: in the Host header, and as that of which a certificate is expected.
    """

    def __init__(self, addresses: tuple[str, ...], deadline: float) -> None:
        self._addresses = addresses
        self._deadline = deadline
        self._backend = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Return a connection to the first address that takes one."""
        failure: Exception | None = None
        for n_left, address in zip(range(len(self._addresses), 0, -1), self._addresses, strict=True):
            try:
                share_s = _left_s(self._deadline) / n_left
                return _Timed(self._backend.connect_tcp(address, port, timeout=share_s), self._deadline)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as exc:
                failure = exc
        raise failure or httpcore.ConnectError("no address")


class _Timed(httpcore.NetworkStream):
    """A connection on which everything together is over at a deadline, however slowly bytes come."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: float) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return what came."""
        return self._stream.read(max_bytes, _left_s(self._deadline))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send bytes."""
        self._stream.write(buffer, _left_s(self._deadline))

    def close(self) -> None:
        """End the connection."""
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        """Return the connection encrypted, once the certificate is that of the name."""
        stream = self._stream.start_tls(ssl_context, server_hostname, _left_s(self._deadline))
        return _Timed(stream, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        """Return what is known of the connection."""
        return self._stream.get_extra_info(info)


def _left_s(deadline: float) -> float:
    """Return the time that is left. Raises httpcore.ReadTimeout if there is none."""
    left_s = deadline - time.monotonic()
    if left_s <= 0:
        raise httpcore.ReadTimeout("the time is up")
    return left_s
