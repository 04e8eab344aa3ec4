"""Schedules over HTTP: have labels kept fresh, see what each slot led to, and what changed."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Body, Query, Response
from pydantic import TypeAdapter

from schema import cron
from schema.errors import Conflict, InvalidInput
from schema.schedules import (
    DiffPage,
    DiffQuery,
    Refresh,
    RefreshPage,
    Schedule,
    SchedulePage,
    SchedulePatch,
    ScheduleSpec,
)
from schema.store import refreshes, schedules
from schema.store.database import Connection
from schema.wire import PageQuery
from service import examples, schedule_examples
from service.bodies import Strict
from service.cursors import NEWEST, Pager
from service.deps import Held, Repeatable, Services, Tenant
from service.runs import check_spec, sizes_of

router = APIRouter(prefix="/v1/schedules", tags=["schedules"], responses=examples.PROBLEMS)
_SLOT = TypeAdapter(datetime)
_INDEX = TypeAdapter(int)


@router.post("", status_code=201, responses=examples.created(schedule_examples.SCHEDULE))
def create_schedule(
    spec: Annotated[ScheduleSpec, Body(openapi_examples=schedule_examples.SCHEDULE_SPECS), Strict()],
    held: Held,
    tenant_id: Tenant,
    intent: Repeatable,
    response: Response,
) -> Schedule:
    """Have labels kept fresh: at every slot a run about what is stale by then, and none where nothing is."""

    def work(connection: Connection) -> Schedule:
        _check(connection, tenant_id, spec, held)
        id_, fresh = intent.claim(connection, spec.model_dump(mode="json"))
        if fresh:
            return schedules.create(connection, tenant_id, id_, spec)
        return schedules.get(connection, tenant_id, id_)

    made = held.database.run(work)
    response.headers["Location"] = f"{router.prefix}/{made.id}"
    return made


@router.get("", responses=examples.ok(examples.page(schedule_examples.SCHEDULE)))
def list_schedules(query: Annotated[PageQuery, Query()], held: Held, tenant_id: Tenant) -> SchedulePage:
    """List schedules, newest first."""
    pager = Pager("schedules", NEWEST, query.cursor)
    found = held.database.run(
        lambda connection: schedules.page(connection, tenant_id, after=pager.after, limit=query.limit + 1)
    )
    return SchedulePage(**pager.cut(found, query.limit, lambda row: (row.created_at, row.id))._asdict())


@router.get("/{schedule_id}", responses=examples.ok(schedule_examples.SCHEDULE))
def get_schedule(schedule_id: UUID, held: Held, tenant_id: Tenant) -> Schedule:
    """Look at a schedule, and when it is due next."""
    return held.database.run(lambda connection: schedules.get(connection, tenant_id, schedule_id))


@router.patch("/{schedule_id}", responses=examples.ok(schedule_examples.SCHEDULE))
def change_schedule(
    schedule_id: UUID,
    patch: Annotated[SchedulePatch, Body(openapi_examples=schedule_examples.SCHEDULE_PATCHES), Strict()],
    held: Held,
    tenant_id: Tenant,
) -> Schedule:
    """Change, pause or resume a schedule. Slots that passed while it was paused do not fire."""

    def work(connection: Connection) -> Schedule:
        old = schedules.get(connection, tenant_id, schedule_id).spec
        spec = patch.applied_to(old)
        if spec.run.dictionary_id != old.run.dictionary_id:
            ids = f"run.dictionary_id={spec.run.dictionary_id}; the schedule is of {old.run.dictionary_id}"
            raise InvalidInput(f"{ids}; make another schedule")
        _check(connection, tenant_id, spec, held)
        return schedules.change(connection, tenant_id, schedule_id, patch)

    return held.database.run(work)


@router.delete("/{schedule_id}", status_code=204)
def delete_schedule(schedule_id: UUID, held: Held, tenant_id: Tenant) -> None:
    """Delete a schedule with its refreshes and diffs. Runs and labels stay."""
    held.database.run(lambda connection: schedules.delete(connection, tenant_id, schedule_id))


@router.get("/{schedule_id}/refreshes", responses=examples.ok(examples.page(schedule_examples.REFRESH)))
def list_refreshes(
    schedule_id: UUID, query: Annotated[PageQuery, Query()], held: Held, tenant_id: Tenant
) -> RefreshPage:
    """List what the slots of a schedule led to, the latest first."""
    pager = Pager(["refreshes", schedule_id], _SLOT, query.cursor)

    def work(connection: Connection) -> list[Refresh]:
        schedules.get(connection, tenant_id, schedule_id)
        return refreshes.page(connection, schedule_id, after=pager.after, limit=query.limit + 1)

    found = held.database.run(work)
    return RefreshPage(**pager.cut(found, query.limit, lambda row: row.slot)._asdict())


@router.post("/{schedule_id}/refreshes", status_code=201, responses=examples.created(schedule_examples.ASKED_REFRESH))
def refresh_now(schedule_id: UUID, held: Held, tenant_id: Tenant, intent: Repeatable, response: Response) -> Refresh:
    """Refresh now, as at a slot, even while the schedule is paused. A worker opens it within seconds.

    409 while the refresh before is not over.
    """

    def work(connection: Connection) -> Refresh:
        schedules.get(connection, tenant_id, schedule_id)
        id_, fresh = intent.claim(connection, None)
        if fresh:
            schedules.fire_now(connection, tenant_id, schedule_id, id_)
        made = refreshes.get(connection, tenant_id, schedule_id, id_)
        if fresh and made.state == "skipped":
            raise Conflict(f"{made.note}; wait for its end, or cancel its run")
        return made

    made = held.database.run(work)
    response.headers["Location"] = f"{router.prefix}/{schedule_id}/refreshes/{made.id}"
    return made


@router.get("/{schedule_id}/refreshes/{refresh_id}", responses=examples.ok(schedule_examples.REFRESH))
def get_refresh(schedule_id: UUID, refresh_id: UUID, held: Held, tenant_id: Tenant) -> Refresh:
    """Look at what a slot led to."""
    return held.database.run(lambda connection: refreshes.get(connection, tenant_id, schedule_id, refresh_id))


@router.get("/{schedule_id}/refreshes/{refresh_id}/diff", responses=examples.ok(schedule_examples.DIFF))
def get_diff(
    schedule_id: UUID, refresh_id: UUID, query: Annotated[DiffQuery, Query()], held: Held, tenant_id: Tenant
) -> DiffPage:
    """Read what a refresh changed: labels old and new with their scores, by feature, and counts of all."""
    pager = Pager(["diff", refresh_id, query.change], _INDEX, query.cursor)

    def work(connection: Connection) -> DiffPage:
        refresh = refreshes.get(connection, tenant_id, schedule_id, refresh_id)
        after = -1 if pager.after is None else pager.after
        found = refreshes.diff(connection, refresh_id, query.change, after=after, limit=query.limit + 1)
        return DiffPage(refresh=refresh, **pager.cut(found, query.limit, lambda row: row.feature)._asdict())

    return held.database.run(work)


def _check(connection: Connection, tenant_id: int, spec: ScheduleSpec, held: Services) -> None:
    """Refuse a schedule whose runs would be refused today. Raises InvalidInput, NotFound or Conflict."""
    cron.check(spec.cron, spec.time_zone)
    check_spec(spec.run, held.settings)
    sizes_of(connection, tenant_id, spec.run, held)
