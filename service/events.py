"""Events of runs over HTTP: how a run stands, sent whenever that changes, for as long as the client stays.

The only endpoint that is asynchronous: it waits for minutes, and hundreds do so at once.
"""

from collections.abc import AsyncGenerator
from functools import partial
from typing import Annotated
from uuid import UUID

import anyio
from fastapi import APIRouter, Header, Request
from fastapi.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from schema.errors import NotFound
from service import event_examples, examples
from service.deps import Tenant
from service.following import Followed, Following

router = APIRouter(prefix="/v1/runs", tags=["runs"], responses=examples.PROBLEMS)

HEARTBEAT_S = 15.0
_RETRY_MS = 2000
LONGEST_S = 3600.0
"""After which a stream ends, and the client comes back by itself; one that reads nothing is cut off a little later."""


class Events(StreamingResponse):
    """The events of a run. Leaves the run however the response ends."""

    def __init__(self, following: Following, tenant_id: int, run_id: UUID, found: Followed, seen: str | None) -> None:
        """Begin after the state `seen`, with what differs from it."""
        self._leave = partial(following.leave, tenant_id, run_id, found)
        self._events = _events(found, seen)
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(self._events, media_type="text/event-stream", headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        try:
            with anyio.move_on_after(LONGEST_S + 60):
                await super().__call__(scope, receive, send)
        finally:
            self._leave()
            with anyio.CancelScope(shield=True):
                await self._events.aclose()


@router.get("/{run_id}/events", response_class=StreamingResponse, responses=event_examples.EVENTS)
async def follow_run(
    run_id: UUID,
    request: Request,
    tenant_id: Tenant,
    last_event_id: Annotated[
        str | None, Header(max_length=100, description="the last event's; it is sent again only if the run changed")
    ] = None,
) -> Response:
    """Follow a run: an event with its state, stages and counts at once, and whenever they change, until it is over.

    A stream of server-sent events; those in between are skipped for whoever reads slowly. 204 if the run is over and
    `Last-Event-ID` was its last event.
    """
    following: Following = request.app.state.following
    found = await following.enter(tenant_id, run_id)
    standing = found.standing
    if standing is not None and standing.over and standing.id == last_event_id:
        following.leave(tenant_id, run_id, found)
        return Response(status_code=204)
    return Events(following, tenant_id, run_id, found, last_event_id)


async def _events(found: Followed, seen: str | None) -> AsyncGenerator[bytes, None]:
    """Yield server-sent events: of each state that is not the one seen last, and a comment where nothing happens."""
    yield f"retry: {_RETRY_MS}\n\n".encode()
    ends_at = anyio.current_time() + LONGEST_S
    while anyio.current_time() < ends_at:
        try:
            standing = await found.news(seen, HEARTBEAT_S)
        except NotFound:
            yield b"event: gone\ndata: {}\n\n"
            return
        if standing is None:
            yield b": nothing new\n\n"
            continue
        seen = standing.id
        yield f"id: {seen}\nevent: run\ndata: {standing.data}\n\n".encode()
        if standing.over:
            return
