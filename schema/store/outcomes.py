"""Outcomes that a run's report does not hold, of its first features: what failed, and how far judges agree."""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from schema.labels import Status
from schema.store.database import Connection
from schema.store.queries import load_queries

LOOKED_AT = 1000
"""Features of a run, the first by position: some milliseconds."""

_queries = load_queries("outcomes")


class Troubled(NamedTuple):
    """A feature whose label a run could not make, and why."""

    feature: int
    status: str
    reason: str | None


class Agreement(NamedTuple):
    """On how many labels the embedding judge and the LLM judge say both yes, only one of them yes, or both no."""

    both: int
    only_embeddings: int
    only_llm: int
    neither: int

    @property
    def n(self) -> int:
        """Return how many labels both judged."""
        return sum(self)


def troubled(connection: Connection, run_id: UUID, statuses: Sequence[Status]) -> list[Troubled]:
    """Return the features among the first of a run whose label has one of some statuses, by feature."""
    names = {"run_id": run_id, "most": LOOKED_AT, "statuses": [str(status) for status in statuses]}
    return [Troubled(*row) for row in _queries.troubled(connection, **names)]


def agreement(connection: Connection, run_id: UUID) -> Agreement:
    """Return how far the two judges agree on the labels of the first features of a run."""
    found = {(one, other): n for one, other, n in _queries.agreement(connection, run_id=run_id, most=LOOKED_AT)}
    return Agreement(*(found.get(said, 0) for said in ((True, True), (True, False), (False, True), (False, False))))
