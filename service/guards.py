"""What goes around every request: headers that browsers obey, a limit on bodies, and the audit log of changes."""

from collections.abc import Mapping

import structlog
from fastapi.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from schema.errors import GlossariumError
from schema.store import audit
from service.auth import Caller
from service.deps import Services

_log = structlog.get_logger(__name__)

SECURITY_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
"""For every answer that does not say otherwise itself."""
CALLER = "caller"
UPLOADING = "uploading"
"""Where the state of a request says who asks, and that its body is streamed to a file, which has a limit of its own."""

_MOST_DISCARDED = 64 * 2**20


class Headers:
    """Adds the security headers to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, answer if scope["type"] == "http" else send)


class BodyLimit:
    """Refuses bodies that are no uploads and too large, before they are read as a whole."""

    def __init__(self, app: ASGIApp, most_bytes: int) -> None:
        self._app = app
        self._most = most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        n_bytes = 0

        async def counted() -> Message:
            nonlocal n_bytes
            message = await receive()
            n_bytes += len(message.get("body", b""))
            if n_bytes > self._most and not scope["state"].get(UPLOADING):
                await _discard(message, receive)
                raise HTTPException(
                    413,
                    f"the body has more than {self._most:,} bytes, the limit of what is no upload (the operator sets "
                    "GLOSSARIUM_MAX_BODY_BYTES)",
                )
            return message

        if scope["type"] == "http":
            scope.setdefault("state", {})
            await self._app(scope, counted, send)
        else:
            await self._app(scope, receive, send)


async def _discard(message: Message, receive: Receive) -> None:
    """Let the rest of a body go by: who still sends when the connection is closed does not hear the answer."""
    n_bytes = 0
    while message.get("more_body") and n_bytes < _MOST_DISCARDED:
        message = await receive()
        n_bytes += len(message.get("body", b""))


class Audit:
    """Notes every change that somebody asked for, done or refused, before the answer is sent."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        noted = False

        async def note(status: int) -> None:
            nonlocal noted
            caller: Caller | None = scope["state"].get(CALLER)
            if caller is not None and caller.is_change and not noted:
                noted = True
                await run_in_threadpool(_note, scope["app"].state.services, caller, scope, status)

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                await note(message["status"])
            await send(message)

        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope.setdefault("state", {})
        try:
            await self._app(scope, receive, answer)
        except Exception:
            await note(500)  # answered outside of us
            raise


def _note(held: Services, caller: Caller, scope: Scope, status: int) -> None:
    method, path = scope["method"], scope["path"]
    try:
        held.database.run(
            lambda connection: audit.put(connection, caller.tenant_id, caller.key_id, method, path, status)
        )
    except GlossariumError as exc:
        key_id = str(caller.key_id)
        _log.error("not in the audit log", key_id=key_id, method=method, path=path, status=status, reason=str(exc))
