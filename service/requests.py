"""What every request is given: an id, a place in the timings, and one line in the log that says how it went.

The id is the caller's own `X-Request-ID` where it is a plain one, and comes back in the answer. It is bound as
`request`, so that every line of the log that a request leads to in this process has it.
"""

import re
import time
from typing import Any
from uuid import uuid4

import structlog
from prometheus_client import Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = "X-Request-ID"
_PLAIN = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_QUIET = frozenset({"/health", "/ready", "/metrics"})
_log = structlog.get_logger(__name__)


class Requests:
    """Middleware in front of the whole application."""

    def __init__(self, app: ASGIApp, timings: Histogram) -> None:
        """Observe seconds in `timings`, whose labels are method, route and status."""
        self._app = app
        self._timings = timings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        id_ = _id_of(scope)
        scope.setdefault("state", {})["request_id"] = id_
        status, started = 500, time.perf_counter()

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message.get("headers", ()), _header(id_)]}
            await send(message)

        with structlog.contextvars.bound_contextvars(request=id_):
            try:
                await self._app(scope, receive, send_on)
            finally:
                self._note(scope, status, time.perf_counter() - started)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        method, path, route = scope["method"], scope["path"], _route_of(scope)
        self._timings.labels(method, route, str(status)).observe(seconds)
        if path not in _QUIET or status >= 500:
            _log.info("answered", method=method, path=path, status=status, seconds=round(seconds, 4))


def request_id(state: Any) -> str:
    """Return the id of a request by its state."""
    found: str = getattr(state, "request_id", "")
    return found


def _id_of(scope: Scope) -> str:
    given = next((value for name, value in scope["headers"] if name == HEADER.lower().encode()), b"")
    return given.decode("ascii") if _PLAIN.fullmatch(given) else uuid4().hex


def _header(id_: str) -> tuple[bytes, bytes]:
    return HEADER.lower().encode(), id_.encode("ascii")


def _route_of(scope: Scope) -> str:
    """Return the template of the path, so that there are as many timings as there are endpoints."""
    return str(getattr(scope.get("route"), "path", "none"))
