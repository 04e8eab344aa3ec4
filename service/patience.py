"""Connections of the server, with an end to its patience: who asks, sends or reads too slowly is cut off.

uvicorn waits for ever for a request's next byte and for room to send the next one. What that would hold is bounded
here: time, by a look every few seconds at whether enough moves; memory, by what may wait to be sent in all; and
descriptors, by the connections that the process may have. `uvicorn --http service.patience:Patient`.
"""

import asyncio
import resource
import socket
import struct
import sys
from typing import Any, NamedTuple

import structlog
from uvicorn.protocols.http.h11_impl import H11Protocol

_log = structlog.get_logger(__name__)

LOOK_S = 10.0
"""Between two looks at a connection: who is as far at the second as at the first is cut off."""
LEAST_BYTES = 8 * 1024
"""That must move between two looks: less than a kilobyte a second is no reading."""
MOST_WAITING_BYTES = 64 * 2**20
"""Of answers, in memory, of all connections together; beyond, who has waited longest is cut off."""
_OTHER_DESCRIPTORS = 200
_BYTES_ACKED = 120  # where Linux has this number of 8 bytes in its struct tcp_info


class Awaited(NamedTuple):
    """What is awaited of a client: its next request, the rest of one, or that it reads; of which request; how far."""

    what: str
    request: object
    n_bytes: int


class Patient(H11Protocol):
    """A connection that is looked at now and then."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._n_received = 0
        self._awaited: Awaited | None = None
        self._next_look: asyncio.TimerHandle | None = None
        self._full_since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as the one above us
        """Begin, unless there are as many connections as may be."""
        super().connection_made(transport)
        if len(self.connections) > most_connections():
            self._cut_off("there are as many connections as may be")
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        if self._next_look is not None:
            self._next_look.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take in what the client sends."""
        self._n_received += len(data)
        super().data_received(data)

    def pause_writing(self) -> None:
        """Note that the client reads more slowly than it is sent to, and make room if too much waits for such ones."""
        self._full_since = self.loop.time()
        super().pause_writing()
        waiting = sorted(
            (one for one in self.connections if isinstance(one, Patient) and one.flow.write_paused),
            key=lambda one: one._full_since,
        )
        n_bytes = sum(one.transport.get_write_buffer_size() for one in waiting)
        for one in waiting:
            if n_bytes <= MOST_WAITING_BYTES:
                return
            n_bytes -= one.transport.get_write_buffer_size()
            one._cut_off("too much waits to be read")

    def _look(self) -> None:
        """Cut the client off if what is awaited has hardly moved since the last look."""
        before, now = self._awaited, self._await()
        if before and now and before[:2] == now[:2] and now.n_bytes - before.n_bytes < LEAST_BYTES:
            self._cut_off(f"{now.what} too slowly")
            return
        self._awaited = now
        self._next_look = self.loop.call_later(LOOK_S, self._look)

    def _await(self) -> Awaited | None:
        """Return what is awaited of the client; None while it is the service that takes its time."""
        cycle = self.cycle
        if self.transport.get_write_buffer_size() > 0:
            return Awaited("reads", cycle, _acknowledged(self.transport))
        if cycle is None or cycle.response_complete:
            return None if self.timeout_keep_alive_task is not None else Awaited("asks", cycle, 0)
        if cycle.more_body and not self.flow.read_paused and not cycle.waiting_for_100_continue:
            return Awaited("sends", cycle, self._n_received)
        return None

    def _cut_off(self, why: str) -> None:
        _log.info("a connection was cut off", client=self.client and self.client[0], why=why)
        self.transport.abort()


def most_connections() -> int:
    """Return how many connections leave descriptors enough for everything else."""
    return max(1, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _OTHER_DESCRIPTORS)


def _acknowledged(transport: asyncio.Transport) -> int:
    """Return how many bytes the client's side has taken; where that is not known, what is not waiting, below 0."""
    if sys.platform == "linux":
        raw = transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_ACKED + 8)
        if len(raw) == _BYTES_ACKED + 8:
            return int(struct.unpack_from("=Q", raw, _BYTES_ACKED)[0])
    return -transport.get_write_buffer_size()
