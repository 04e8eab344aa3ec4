"""A run that something is done to, how much of it, and what came of it."""

import os
import time
from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from schema.records import Run
from tests.chaos.arena import SWEEP_S, Arena, Recovery, furnish
from tests.chaos.oracle import Books, balance, check

TWO_SWEEPS_S = 2 * SWEEP_S


class Size(NamedTuple):
    """How much of each fault: the short form is for the ordinary suite."""

    features: int
    kills: int
    many: int
    long_s: float


SHORT = Size(features=16, kills=3, many=24, long_s=6.0)
FULL = Size(features=120, kills=30, many=2000, long_s=60.0)


class Outcome(NamedTuple):
    """What came of a fault, at worst.

    recovered_s:  until a job that was begun afterwards, or that its worker lost, was done.
    added_s:      of that, what the fault cost: without the time of the job, or of a lease that had to end.
    allowed_s:    the most of it.
    load:         of the machine, by core, in the last minute.
    """

    fault: str
    injected: int
    lost: int
    doubled: int
    recovered_s: float | None
    added_s: float | None
    allowed_s: float | None
    seconds: float
    detail: str
    load: float = 0.0


def load_by_core() -> float:
    """Return how many processes wanted each core in the last minute."""
    return round(os.getloadavg()[0] / (os.cpu_count() or 1), 1)


def worst(recoveries: Sequence[Recovery]) -> Recovery:
    """Return the longest times."""
    return Recovery(max(one.seconds for one in recoveries), max(one.added_s for one in recoveries))


class Trial:
    """A run that a fault is injected into."""

    def __init__(self, arena: Arena, n_features: int, **changes: object) -> None:
        self.arena = arena
        self.started = time.monotonic()
        self.served = len(arena.llm.chats)
        dictionary, corpus = furnish(arena, n_features)
        self.run: Run = arena.submit(dictionary, corpus, **changes)

    @property
    def id(self) -> UUID:
        return self.run.id

    def under_way(self, stage: str) -> None:
        """Wait until a job of a stage is in hand or done."""
        sql = "SELECT 1 FROM job WHERE run_id = %s AND stage = %s AND state IN ('leased', 'done')"
        self.arena.until(lambda: self.arena.query(sql, self.id, stage), 180, 0.05)

    @property
    def is_over(self) -> bool:
        return self.arena.run(self.id).state in ("done", "failed", "cancelled")

    def end(self, *, unresolved: int = 0, dead: int = 0) -> Books:
        """Wait for the end of the run, and hold it against the oracle."""
        return settled(self.arena, self.id, self.served, unresolved=unresolved, dead=dead)

    def outcome(self, name: str, injected: int, books: Books, recovery: Recovery | None, detail: str) -> Outcome:
        """Return what came of a fault that was injected so often; where work has to go on, within two sweeps."""
        assert injected > 0, f"{name} was not injected"
        times = (None, None, None) if recovery is None else (*(round(s, 2) for s in recovery), TWO_SWEEPS_S)
        seconds = round(time.monotonic() - self.started, 1)
        return Outcome(name, injected, books.missing, books.doubled, *times, seconds, detail, load_by_core())


def settled(arena: Arena, run_id: UUID, before: int, *, unresolved: int = 0, dead: int = 0) -> Books:
    """Wait for the end of a run, and hold it against the oracle.

    before: chats that the LLM server had been asked when the run was submitted.
    """
    run = arena.wait(run_id, 1500)
    assert run.state == "done", (run.state, run.note)
    books = balance(arena, run_id, len(arena.llm.chats) - before)
    check(books, unresolved=unresolved, dead=dead)
    return books
