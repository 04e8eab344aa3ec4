"""The client's side of a stream of server-sent events: a run as it changes. Knows no endpoint but that of events."""

import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple
from uuid import UUID

from schema.errors import NotFound, Unavailable
from schema.records import RUN_OVER, Run
from service.transport import Transport

_SILENCE_S = 60.0  # the service says something every 15 s
_PATIENCE_S = 60.0
"""How long the API may be away, as while it is started again."""
_PAUSE_S = 2.0


class Event(NamedTuple):
    """A server-sent event."""

    kind: str
    data: str
    id: str | None


def follow(transport: Transport, run_id: UUID) -> Iterator[Run]:
    """Yield a run at once and whenever it changes, until it is over, over as many connections as that takes.

    Raises: NotFound if there is no such run, or it is deleted meanwhile; Unavailable if the API is away for a minute.
    """
    seen: str | None = None
    answered = time.monotonic()
    while True:
        headers = {"Accept": "text/event-stream"} | ({} if seen is None else {"Last-Event-ID": seen})
        try:
            with transport.streamed_lines(f"/v1/runs/{run_id}/events", headers, _SILENCE_S) as lines:
                for event in parse(lines):
                    answered = time.monotonic()
                    if event.kind == "gone":
                        raise NotFound(f"run {run_id} was deleted")
                    run = Run.model_validate_json(event.data)
                    seen = event.id
                    yield run
                    if run.state in RUN_OVER:
                        return
        except Unavailable:
            if time.monotonic() - answered > _PATIENCE_S:
                raise
        time.sleep(_PAUSE_S)


def parse(lines: Iterable[str]) -> Iterator[Event]:
    """Yield the events of a stream; comments and what breaks off before its end are none."""
    fields: dict[str, str] = {}
    for line in lines:
        if not line:
            if "data" in fields:
                yield Event(fields.get("event", "message"), fields["data"], fields.get("id"))
            fields = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            fields[name] = f"{fields[name]}\n{value}" if name == "data" and name in fields else value
