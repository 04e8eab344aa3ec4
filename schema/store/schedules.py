"""Schedules: rows of what is to be kept fresh, and the firing of their slots."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from schema import cron
from schema.errors import NotFound
from schema.schedules import Schedule, SchedulePatch, ScheduleSpec
from schema.store.database import Connection
from schema.store.queries import as_json, load_queries

_queries = load_queries("schedules")


def create(connection: Connection, tenant_id: int, id_: UUID, spec: ScheduleSpec) -> Schedule:
    """Store a schedule; its first slot is the next one.

    Raises: BadSchedule if it would never be due.
    """
    cron.check(spec.cron, spec.time_zone)
    body = as_json(spec.model_dump(mode="json"))
    dictionary_id = spec.run.dictionary_id
    return _one(_queries.insert(connection, id=id_, tenant_id=tenant_id, dictionary_id=dictionary_id, spec=body), id_)


def get(connection: Connection, tenant_id: int, id_: UUID) -> Schedule:
    """Return a schedule. Raises NotFound if this tenant has no such schedule."""
    return _one(_queries.get(connection, tenant_id=tenant_id, id=id_), id_)


def page(
    connection: Connection, tenant_id: int, *, after: tuple[datetime, UUID] | None = None, limit: int = 50
) -> list[Schedule]:
    """Return schedules, newest first; `after` is the creation time and id of the last one seen."""
    before, after_id = after or (None, None)
    rows = _queries.page(connection, tenant_id=tenant_id, before=before, after_id=after_id, most=limit)
    return [_schedule(row) for row in rows]


def change(connection: Connection, tenant_id: int, id_: UUID, patch: SchedulePatch) -> Schedule:
    """Change a schedule. Slots that passed before it was resumed, or given other times, do not fire any more.

    Raises: NotFound if this tenant has no such schedule; BadSchedule if it would never be due.
    """
    old = _one(_queries.lock(connection, tenant_id=tenant_id, id=id_), id_)
    spec = patch.applied_to(old.spec)
    cron.check(spec.cron, spec.time_zone)
    paused = old.paused if patch.paused is None else patch.paused
    anew = (spec.cron, spec.time_zone) != (old.spec.cron, old.spec.time_zone) or (old.paused and not paused)
    body = as_json(spec.model_dump(mode="json"))
    return _one(_queries.update(connection, id=id_, spec=body, paused=paused, anew=anew), id_)


def delete(connection: Connection, tenant_id: int, id_: UUID) -> None:
    """Delete a schedule with its refreshes and their diffs; runs and labels stay.

    Raises: NotFound if this tenant has no such schedule.
    """
    if not _queries.delete(connection, tenant_id=tenant_id, id=id_):
        raise NotFound(f"no schedule {id_}")


def fire_due(connection: Connection, now: datetime | None = None) -> list[UUID]:
    """Write a refresh for the latest slot of every schedule whose slot has none yet, and return their ids.

    Anybody may call it at any time and as often: a slot has one row. Slots at which nobody called are made up for by
    the latest of them, once. Where the refresh before is not over, the slot is skipped, and says so.

    now: the database's time unless given.
    """
    at = now or _queries.now(connection)
    fired = (_fire(connection, row, at) for row in list(_queries.active(connection)))
    return [id_ for id_ in fired if id_ is not None]


def fire_now(connection: Connection, tenant_id: int, id_: UUID, refresh_id: UUID) -> None:
    """Write a refresh for a slot of this moment; as any other it is skipped while the one before is not over.

    Raises: NotFound if this tenant has no such schedule.
    """
    _one(_queries.lock(connection, tenant_id=tenant_id, id=id_), id_)
    _queries.fire(connection, id=refresh_id, schedule_id=id_, slot=_queries.now(connection), n_missed=0)


def _fire(connection: Connection, row: tuple[Any, ...], now: datetime) -> UUID | None:
    id_, line, time_zone, since = row
    slot = cron.latest(line, time_zone, now)
    if slot is None or slot <= since:
        return None
    before: datetime | None = _queries.slot_before(connection, schedule_id=id_, slot=slot)
    n_missed = cron.count_between(line, time_zone, max(before or since, since), slot)
    fired: UUID | None = _queries.fire(connection, id=uuid4(), schedule_id=id_, slot=slot, n_missed=n_missed)
    return fired


def _one(rows: Any, id_: UUID) -> Schedule:
    for row in rows:
        return _schedule(row)
    raise NotFound(f"no schedule {id_}")


def _schedule(row: tuple[Any, ...]) -> Schedule:
    id_, body, paused, created_at = row
    spec = ScheduleSpec.model_validate(body)
    next_slot = None if paused else cron.following(spec.cron, spec.time_zone, datetime.now(UTC))
    return Schedule(id=id_, spec=spec, paused=paused, created_at=created_at, next_slot=next_slot)
