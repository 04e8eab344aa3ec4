"""Uploads: request bodies streamed to a staged file, with their size and checksum seen to."""

import base64
import binascii
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import anyio.from_thread
from fastapi import Request
from starlette.requests import ClientDisconnect

from schema.blobs import Staged
from schema.errors import InvalidInput, TooLarge, Unavailable
from schema.store import quotas
from service.deps import Services

MOST_UPLOADS = 16
"""Of a process at once, each in a thread of some forty for as long as its sender takes; more are refused."""
_places = threading.BoundedSemaphore(MOST_UPLOADS)

OPENAPI_HEADERS = [
    {
        "name": "X-Content-SHA256",
        "in": "header",
        "required": False,
        "description": "sha256 of the body in hex; `Content-Digest: sha-256=:BASE64:` (RFC 9530) does as well",
        "schema": {"type": "string", "pattern": "^[0-9a-fA-F]{64}$"},
    }
]


def body(description: str, media_type: str = "application/octet-stream") -> dict[str, Any]:
    """Return the documentation of an operation that takes a file as its body."""
    content = {media_type: {"schema": {"type": "string", "format": "binary"}}}
    return {
        "parameters": OPENAPI_HEADERS,
        "requestBody": {"required": True, "description": description, "content": content},
    }


@contextmanager
def received(request: Request, held: Services) -> Iterator[Staged]:
    """Lend the body of a request as a whole, checked file; it is gone afterwards unless it was kept.

    Raises: TooLarge over the operator's limit; InvalidInput where it was cut off or its checksum is wrong; Unavailable
            while as many others are received as may be at once.
    """
    request.state.uploading = True
    limit = held.settings.max_upload_bytes
    length = _length(request)
    promised = _promised(request)
    if length is not None and length > limit:
        raise TooLarge(f"the upload has {length:,} bytes; {_limit(limit)}")
    with _place(), _named_limit(limit), held.blobs.staged(_chunks(request), limit) as staged:
        if length is not None and staged.n_bytes != length:
            raise InvalidInput(f"the upload ended after {staged.n_bytes:,} of {length:,} bytes; send it again")
        if promised is not None and staged.sha256 != promised:
            raise InvalidInput(f"the upload has sha256 {staged.sha256} and not {promised}; send it again")
        yield staged


@contextmanager
def _place() -> Iterator[None]:
    if not _places.acquire(blocking=False):
        raise Unavailable(f"{MOST_UPLOADS} uploads are under way, and no more go at once; try again later")
    try:
        yield
    finally:
        _places.release()


def check_room(held: Services, tenant_id: int, staged: Staged) -> None:
    """Refuse a file that the tenant has no room for. Raises QuotaExceeded."""
    limit = held.settings.max_stored_bytes
    held.database.run(lambda connection: quotas.check_bytes(connection, tenant_id, staged.n_bytes, limit))


def _limit(limit: int) -> str:
    return f"the limit is {limit:,} bytes (the operator sets GLOSSARIUM_MAX_UPLOAD_BYTES)"


@contextmanager
def _named_limit(limit: int) -> Iterator[None]:
    try:
        yield
    except TooLarge as exc:
        raise TooLarge(f"{str(exc).partition(';')[0]}; {_limit(limit)}") from exc


def _chunks(request: Request) -> Iterator[bytes]:
    """Yield the body as it comes; to be used in a worker thread of the server."""
    stream = aiter(request.stream())
    n_bytes = 0
    while True:
        try:
            chunk = anyio.from_thread.run(_next, stream)
        except ClientDisconnect as exc:
            raise InvalidInput(f"the upload was cut off after {n_bytes:,} bytes; send it again") from exc
        if chunk is None:
            return
        n_bytes += len(chunk)
        yield chunk


async def _next(stream: AsyncIterator[bytes]) -> bytes | None:
    return await anext(stream, None)


def _length(request: Request) -> int | None:
    text = request.headers.get("content-length")
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal()) or len(text) > 20:
        raise InvalidInput(f"Content-Length={text[:40]!r} is not a number of bytes")
    return int(text)


def _promised(request: Request) -> str | None:
    """Return the sha256 (hex) that the sender gave, from any of the headers that may carry it."""
    plain = request.headers.get("x-content-sha256")
    if plain is not None:
        return _hex(plain.strip().lower(), plain)
    for header in ("content-digest", "digest"):
        for part in request.headers.get(header, "").split(","):
            name, _, value = part.strip().partition("=")
            if name.lower() == "sha-256":
                return _hex(_unbase64(value.strip(":")), part)
    return None


def _unbase64(text: str) -> str:
    try:
        return base64.b64decode(text, validate=True).hex()
    except (binascii.Error, ValueError):
        return ""


def _hex(digest: str, given: str) -> str:
    if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
        raise InvalidInput(f"checksum={given[:120]!r} is not a sha256: 64 characters 0-9a-f, or base64 of 32 bytes")
    return digest
