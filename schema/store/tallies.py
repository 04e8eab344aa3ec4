"""Tallies: what an operator watches, of all runs together, for the same few milliseconds however much there is.

LLM calls are tallied where they are entered, losses are rows of their own. Ready jobs are counted up to 100,000.
Features are counted by status in 16 MB of their table, about 100,000 of them, and what is found is scaled to the whole.
"""

from typing import NamedTuple

from schema.processes import Seen
from schema.store import processes
from schema.store.database import Connection
from schema.store.queries import load_queries

_queries = load_queries("tallies")

MOST_JOBS = 100_000
MOST_FEATURE_BYTES = 16 * 2**20


class Waiting(NamedTuple):
    """Ready jobs of a stage, of runs that go on, and for how many seconds the first of them has waited."""

    n_jobs: int
    oldest_s: float


class CallTally(NamedTuple):
    """What calls of one kind came to: of a profile, a purpose, a status and a bucket of latencies (see `calls`).

    dollars:   of those whose price was known; `unpriced` is the number of the others.
    """

    profile: str
    purpose: str
    status: str
    from_cache: bool
    bucket: int
    calls: int
    attempts: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    dollars: float
    unpriced: int
    seconds: float


class Tallies(NamedTuple):
    """Everything that is tallied, at one moment.

    lost, dead:        leases that ran out and jobs that were given up, by stage, ever.
    reserved_dollars:  what LLM calls in flight may cost.
    features:          by status, an estimate where the table is large.
    """

    ready: dict[str, Waiting]
    leased: dict[str, int]
    lost: dict[str, int]
    dead: dict[str, int]
    runs: dict[str, int]
    reserved_dollars: float
    calls: list[CallTally]
    features: dict[str, int]
    processes: list[Seen]


def take(connection: Connection) -> Tallies:
    """Return all tallies. A statement that takes longer than 2 s raises psycopg's QueryCanceled."""
    _queries.limit_time(connection)
    mishaps = {(kind, stage): n for kind, stage, n in _queries.mishaps(connection)}
    waiting = _queries.ready(connection, most=MOST_JOBS)
    return Tallies(
        ready={stage: Waiting(n_jobs, max(0.0, oldest_s)) for stage, n_jobs, oldest_s in waiting},
        leased=dict(_queries.leased(connection)),
        lost={stage: n for (kind, stage), n in mishaps.items() if kind == "lost"},
        dead={stage: n for (kind, stage), n in mishaps.items() if kind == "dead"},
        runs=dict(_queries.runs(connection)),
        reserved_dollars=_queries.reserved(connection),
        calls=[CallTally(*row) for row in _queries.calls(connection)],
        features=_features(connection),
        processes=processes.seen(connection),
    )


def _features(connection: Connection) -> dict[str, int]:
    share = _queries.share_of_features(connection, most_bytes=MOST_FEATURE_BYTES)
    return {status: round(n / share) for status, n in _queries.features(connection, percent=100.0 * share)}
