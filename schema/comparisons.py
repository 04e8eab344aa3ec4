"""Comparisons of two runs of a dictionary: what each said of the same features, on the wire."""

from typing import Literal
from uuid import UUID

from pydantic import Field

from schema.records import Record
from schema.schedules import LabelState
from schema.wire import PageQuery

RunChange = Literal["changed", "new", "lost", "rescored", "same"]
"""What a run says of a feature against another: another text, one where the other has none, none where the other has
one, the same with other scores or another status, the same."""


class RunDiffQuery(PageQuery):
    """A page of a comparison."""

    against: UUID = Field(description="the other run, which is the one before; of the same dictionary")
    change: tuple[RunChange, ...] = Field((), description="any of these; all but `same` unless given")


class RunDifference(Record):
    """What two runs said of a feature; null where a run gave it no label."""

    feature: int
    change: RunChange
    before: LabelState | None
    after: LabelState | None


class RunDiffPage(Record):
    """Features that both runs selected and of which they say different things, by feature."""

    items: tuple[RunDifference, ...]
    next_cursor: str | None
