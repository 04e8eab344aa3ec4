"""Pages of schedules: when each is due, what its refreshes led to, and what one of them changed."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, NamedTuple, get_args
from uuid import UUID

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse
from pydantic import Field, TypeAdapter

from schema import cron
from schema.budgets import in_words
from schema.schedules import Change, DiffQuery, FeatureDiff, Policy, Reason, Refresh, Schedule
from schema.store import dictionaries, refreshes, schedules
from schema.store.database import Connection
from schema.wire import PageQuery
from service.cursors import NEWEST, Pager, Slice
from service.deps import Held, Tenant
from service.pages.contrasting import word_changes
from service.pages.rendering import page

router = APIRouter(prefix="/schedules")

_INDEX = TypeAdapter(int)
_N_PAST = 30
_N_NEXT = 3


class ScheduleQuery(DiffQuery):
    """Which refresh of a schedule is looked at, and which page of its diff."""

    limit: int = Field(25, ge=1, le=100)
    refresh: UUID | None = Field(None, description="the latest that changed something, unless given")


class Looked(NamedTuple):
    """A refresh that is looked at, with a page of what it changed."""

    refresh: Refresh
    diff: Slice[FeatureDiff]


class ScheduleView(NamedTuple):
    """A schedule with its next slots and its past refreshes."""

    schedule: Schedule
    name: str
    slots: tuple[datetime, ...]
    past: tuple[Refresh, ...]
    looked: Looked | None


@router.get("")
def list_schedules(
    request: Request, query: Annotated[PageQuery, Query()], held: Held, tenant_id: Tenant
) -> HTMLResponse:
    """Show schedules, newest first, with what their latest slot led to."""
    pager = Pager("schedules", NEWEST, query.cursor)

    def work(connection: Connection) -> tuple[Slice[Schedule], dict[UUID, Refresh], dict[UUID, str]]:
        found = schedules.page(connection, tenant_id, after=pager.after, limit=query.limit + 1)
        shown = pager.cut(found, query.limit, lambda row: (row.created_at, row.id))
        ids = [one.spec.run.dictionary_id for one in shown.items]
        latest = refreshes.latest(connection, [one.id for one in shown.items])
        return shown, latest, dictionaries.names(connection, tenant_id, ids)

    shown, latest, names = held.database.run(work)
    values: dict[str, Any] = {
        "schedules": shown.items,
        "next_cursor": shown.next_cursor,
        "latest": latest,
        "names": names,
    }
    return page(request, "schedules.html", query=query, **values, **_words())


@router.get("/{schedule_id}")
def show_schedule(
    request: Request, schedule_id: UUID, query: Annotated[ScheduleQuery, Query()], held: Held, tenant_id: Tenant
) -> HTMLResponse:
    """Show a schedule, and the diff of one of its refreshes."""
    view = held.database.run(lambda connection: _read(connection, tenant_id, schedule_id, query))
    return page(request, "schedule.html", view=view, schedule=view.schedule, query=query, **_words())


def _words() -> dict[str, Any]:
    """Return what the templates say things with."""
    return {
        "policy_in_words": policy_in_words,
        "in_words": in_words,
        "word_changes": word_changes,
        "changes_of": lambda refresh: counted(refresh.changes, get_args(Change)),
        "reasons_of": lambda refresh: counted(refresh.reasons, get_args(Reason)),
    }


def counted(found: Mapping[str, int], order: Iterable[str]) -> list[tuple[str, int]]:
    """Return counts that are not nothing, in an order."""
    return [(name, found[name]) for name in order if found.get(name)]


def policy_in_words(policy: Policy) -> list[str]:
    """Return which features a refresh is about, a part each."""
    parts = ["features without a label"] if policy.unlabelled else []
    parts += ["labels that are unparsed, refused or failed"] if policy.failed else []
    if policy.changed:
        return [*parts, "labels that would be made from other evidence, prompts, models or options now"]
    bounds = (("input", policy.input_lift_below), ("output", policy.output_lift_below))
    parts += [
        f"of those that would be made otherwise now: {name} lift below {b:g}" for name, b in bounds if b is not None
    ]
    days = policy.older_than_days
    return parts + ([] if days is None else [f"of those that would be made otherwise now: older than {days:g} days"])


def _read(connection: Connection, tenant_id: int, schedule_id: UUID, query: ScheduleQuery) -> ScheduleView:
    schedule = schedules.get(connection, tenant_id, schedule_id)
    past = refreshes.page(connection, schedule_id, limit=_N_PAST)
    id_ = query.refresh or next((one.id for one in past if _has_diff(one)), None)
    looked = None if id_ is None else refreshes.get(connection, tenant_id, schedule_id, id_)
    return ScheduleView(
        schedule=schedule,
        name=dictionaries.get(connection, tenant_id, schedule.spec.run.dictionary_id).spec.name,
        slots=() if schedule.paused else tuple(_slots(schedule)),
        past=tuple(past),
        looked=None if looked is None else Looked(looked, _diff(connection, looked, query)),
    )


def _has_diff(refresh: Refresh) -> bool:
    return any(n for change, n in refresh.changes.items() if change != "same")


def _diff(connection: Connection, refresh: Refresh, query: ScheduleQuery) -> Slice[FeatureDiff]:
    """Return a page of a diff. What the counts say is not there is not looked for among many that stayed the same."""
    pager = Pager(["diff", refresh.id, query.change], _INDEX, query.cursor)
    counted: list[Change] = [change for change, n in refresh.changes.items() if n]
    if refresh.finished_at is not None and not set(query.change or ([c for c in counted if c != "same"])) & set(
        counted
    ):
        return Slice((), None)
    after = -1 if pager.after is None else pager.after
    found = refreshes.diff(connection, refresh.id, query.change, after=after, limit=query.limit + 1)
    return pager.cut(found, query.limit, lambda row: row.feature)


def _slots(schedule: Schedule) -> list[datetime]:
    """Return the next times at which a schedule is due."""
    slots: list[datetime] = []
    at = datetime.now(UTC)
    for _ in range(_N_NEXT):
        at = cron.following(schedule.spec.cron, schedule.spec.time_zone, at)
        slots.append(at)
    return slots
