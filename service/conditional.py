"""Conditional answers: what was read before and is the same is not sent again, and what is long is sent packed.

A tag is the hash of the body: it knows nothing of what was asked, so that no endpoint has to. It is weak, as the same
body may be packed or not.
"""

import hashlib
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.gzip import DEFAULT_EXCLUDED_CONTENT_TYPES, GZipMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_LEVEL = 4  # of 9: JSON is a little larger than at best, for a third of the time
_LEAST = 1024  # bytes; less fits one packet anyway
_PACKED_ALREADY = ("application/x-tar", "application/vnd.apache.parquet")
_KEPT = frozenset(("cache-control", "content-location", "date", "etag", "expires", "vary"))


class Conditional:
    """Tags every answer to a GET that comes in one piece, and answers 304 where the caller names its tag."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an application."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "http" and scope["method"] == "GET":
            send = _Tagging(send, Headers(scope=scope).get("if-none-match", ""))
        await self._app(scope, receive, send)


class _Tagging:
    """Sends the messages of one answer; holds back the start of one that comes whole until its body is there."""

    def __init__(self, send: Send, known: str) -> None:
        self._send, self._known = send, known
        self._start: Message | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] == 200 and _comes_whole(message):
            self._start = message
            return
        start, self._start = self._start, None
        if start is not None:
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                start, message = _tagged(start, message, self._known)
            await self._send(start)
        await self._send(message)


def _comes_whole(start: Message) -> bool:
    """Return whether the body is there already: what is made while it is sent does not say how long it is."""
    return "content-length" in Headers(raw=start["headers"])


def _tagged(start: Message, body: Message, known: str) -> tuple[Message, Message]:
    """Return an answer with its tag; only its head if its tag is among those that are known."""
    headers = MutableHeaders(raw=list(start["headers"]))
    tag = headers.setdefault("etag", f'W/"{hashlib.sha256(body.get("body", b"")).hexdigest()[:32]}"')
    headers.setdefault("cache-control", "private, no-cache")  # kept, and asked for again each time
    if not _matches(tag, known):
        return {**start, "headers": headers.raw}, body
    kept = [(name, value) for name, value in headers.raw if name.decode("latin-1").lower() in _KEPT]
    return {**start, "status": 304, "headers": kept}, {**body, "body": b""}


def _matches(tag: str, known: str) -> bool:
    """Return whether a tag is among those of an If-None-Match, as weak ones are compared."""
    names = {name.strip().removeprefix("W/") for name in known.split(",")}
    return "*" in names or tag.removeprefix("W/") in names


def install(app: FastAPI) -> None:
    """Make an application tag its answers, and pack those that are long and not packed yet."""
    app.add_middleware(Conditional)
    app.add_middleware(
        GZipMiddleware,
        minimum_size=_LEAST,
        compresslevel=_LEVEL,
        exclude_content_types=(*DEFAULT_EXCLUDED_CONTENT_TYPES, *_PACKED_ALREADY),
    )
    app.openapi = _documenting(app.openapi)  # type: ignore[method-assign]  # as FastAPI wants it to be extended


def _documenting(make: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
    """Return what makes the API's document with the 304 of every operation that may answer so."""

    def documented() -> dict[str, Any]:
        document = make()
        for methods in document["paths"].values():
            answers = methods.get("get", {}).get("responses", {})
            if list(answers.get("200", {}).get("content", {})) == ["application/json"]:
                answers.setdefault("304", {"description": "It is what a tag in If-None-Match stands for."})
        return document

    return documented
