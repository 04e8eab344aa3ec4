"""Responses that are made while they are sent, by a generator: what it holds is let go of however they end."""

import json
from collections.abc import Generator, Mapping
from itertools import chain

import anyio
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send


class Streamed(StreamingResponse):
    """What a generator yields. Its first part is made beforehand, so that what can't begin is answered by a problem.

    A client that leaves ends the generator at its next part. An exception in the middle cuts the response off, which a
    client can tell from its end.
    """

    def __init__(self, parts: Generator[bytes, None, None], *, media_type: str, headers: Mapping[str, str]) -> None:
        self._parts = parts
        first = next(parts, b"")
        super().__init__(chain([first], parts), media_type=media_type, headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response, and close the generator."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            with anyio.CancelScope(shield=True):
                await run_in_threadpool(self._parts.close)


def attachment(filename: str) -> str:
    """Return the header that gives a download its name."""
    return f"attachment; filename={json.dumps(filename)}"
