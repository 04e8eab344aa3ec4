"""Comparisons of two runs of a dictionary: the labels that each gave the features which both selected."""

from collections.abc import Sequence
from typing import get_args
from uuid import UUID

from schema.comparisons import RunChange, RunDifference
from schema.schedules import LabelState
from schema.store.database import Connection
from schema.store.queries import load_queries

_queries = load_queries("comparisons")


def between(
    connection: Connection,
    run_id: UUID,
    against: UUID,
    changes: Sequence[RunChange] = (),
    *,
    after: int = -1,
    limit: int = 50,
) -> list[RunDifference]:
    """Return what a run says of features otherwise than another, by feature; `after` is the last one seen.

    changes:  those that are wanted; all but `same` unless given.
    """
    wanted = list(changes or [change for change in get_args(RunChange) if change != "same"])
    names = {"run_id": run_id, "against": against, "changes": wanted, "after": after, "most": limit}
    return [
        RunDifference(feature=feature, change=change, before=_state(before), after=_state(later))
        for feature, change, before, later in _queries.between(connection, **names)
    ]


def _state(state: object) -> LabelState | None:
    return None if state is None else LabelState.model_validate(state)
