"""Schedules: which labels are to be kept fresh, when, and what came of it; on the wire and in the store.

A *slot* is a time at which a schedule is due. A *refresh* is what one slot led to. A label is *stale* for a reason.
"""

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import Field

from schema.labels import Status
from schema.records import Record, RunSpec
from schema.wire import PageQuery

Reason = Literal["unlabelled", "failed", "evidence", "prompt", "model", "procedure", "low_score", "old"]
"""Why a feature is labelled again: it has no label, or a status worth another try, or its label would be made from
something else now: evidence (dictionary, corpus, seed), prompt (files), model (LLMs, embeddings), procedure (methods,
options, our own versions). `low_score` and `old` are given instead where a policy wants only such labels of those that
changed: to make a label again from the same would give the same."""

Change = Literal["changed", "new", "lost", "rescored", "same", "edited"]
"""What became of a label: another text, a first one, none any more, the same with other scores, nothing. `edited`: a
person wrote the current one, which stays."""

RETRIED: tuple[Status, ...] = (Status.UNPARSED, Status.REFUSED, Status.FAILED)
"""Statuses that another try may mend. `dead` features and all that evidence alone decides are not among them."""


class Policy(Record):
    """Which features a refresh is about: any that one of these holds for. None of them holds for a person's label."""

    unlabelled: bool = Field(True, description="features without a label")
    failed: bool = Field(True, description="labels that are unparsed, refused or failed")
    changed: bool = Field(True, description="labels that would be made from other evidence, prompts, models or options")
    input_lift_below: float | None = Field(
        None, allow_inf_nan=False, description="labels that changed, and whose input lift is below or not known"
    )
    output_lift_below: float | None = Field(
        None, allow_inf_nan=False, description="labels that changed, and whose output lift is below or not known"
    )
    older_than_days: float | None = Field(None, gt=0, le=36_500, description="labels that changed, and are older")
    tries: int = Field(3, ge=1, le=100, description="for a feature that stays stale although nothing changes")


class ScheduleSpec(Record):
    """What a user asks of a schedule."""

    name: str = Field(min_length=1, max_length=200)
    run: RunSpec = Field(description="of every run; `features` is what the schedule looks after")
    cron: str = Field("0 3 * * *", max_length=200, description="minute hour day month weekday", examples=["0 3 * * *"])
    time_zone: str = Field("UTC", max_length=100, examples=["UTC", "Europe/Paris"])
    policy: Policy = Policy()
    max_features: int | None = Field(None, ge=1, description="of one refresh; the others wait for the next")


class SchedulePatch(Record):
    """What is to be changed of a schedule; what is not given stays."""

    name: str | None = Field(None, min_length=1, max_length=200)
    run: RunSpec | None = None
    cron: str | None = Field(None, max_length=200)
    time_zone: str | None = Field(None, max_length=100)
    policy: Policy | None = None
    max_features: int | None = Field(None, ge=1)
    paused: bool | None = None

    def applied_to(self, spec: ScheduleSpec) -> ScheduleSpec:
        """Return a schedule's spec with what is given changed."""
        given = {name: getattr(self, name) for name in self.model_fields_set if name != "paused"}
        changes = {name: value for name, value in given.items() if value is not None or name == "max_features"}
        return spec.model_copy(update=changes)


class Schedule(Record):
    """A stored schedule."""

    id: UUID
    spec: ScheduleSpec
    paused: bool
    created_at: datetime
    next_slot: datetime | None = Field(None, description="null while it is paused")


RefreshState = Literal["due", "running", "done", "nothing", "skipped", "failed", "cancelled"]


class Refresh(Record):
    """What one slot of a schedule led to."""

    id: UUID
    schedule_id: UUID
    slot: datetime
    state: RefreshState = Field(description="nothing: nothing was stale; skipped: the one before was not over")
    run_id: UUID | None
    note: str | None = Field(description="why it waits, failed or was skipped")
    n_missed: int = Field(description="earlier slots at which nobody was there to fire; this one stands for them")
    n_stale: int | None = Field(description="features that a policy held for; null before anyone looked")
    n_features: int | None = Field(description="of those, how many the run is about")
    reasons: dict[Reason, int] = Field(description="features of the run by why they were stale")
    changes: dict[Change, int] = Field(description="features of the run by what became of their label")
    fired_at: datetime
    finished_at: datetime | None


class LabelState(Record):
    """A feature's label at one time, as far as a diff shows it."""

    label: str | None
    status: str
    method: str | None
    input_lift: float | None
    output_lift: float | None


class FeatureDiff(Record):
    """What a refresh did to one feature. Before the run is over there is no `after`."""

    feature: int
    reason: Reason
    change: Change | None
    before: LabelState
    after: LabelState | None


class DiffQuery(PageQuery):
    """A page of a diff."""

    change: tuple[Change, ...] = Field((), description="any of these; all but `same` unless given")


class DiffPage(Record):
    """What a refresh changed, by feature, and its counts."""

    refresh: Refresh
    items: tuple[FeatureDiff, ...]
    next_cursor: str | None


class SchedulePage(Record):
    """Schedules, newest first."""

    items: tuple[Schedule, ...]
    next_cursor: str | None


class RefreshPage(Record):
    """Refreshes of a schedule, the latest slot first."""

    items: tuple[Refresh, ...]
    next_cursor: str | None
