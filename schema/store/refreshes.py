"""Refreshes: which features of a schedule are stale, the run that they are given, and the diff that it leaves."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple, get_args
from uuid import UUID

from schema.errors import NotFound
from schema.labels import MACHINE
from schema.records import Dictionary
from schema.schedules import RETRIED, Change, FeatureDiff, LabelState, Reason, Refresh, ScheduleSpec
from schema.selection import Selection
from schema.store import deliveries, dictionaries, runs
from schema.store.database import Connection
from schema.store.features import BATCH
from schema.store.queries import as_json, load_queries

_queries = load_queries("refreshes")


class Due(NamedTuple):
    """A refresh that is to be opened: locked for the caller's transaction."""

    id: UUID
    schedule_id: UUID
    tenant_id: int
    spec: ScheduleSpec


class Stale(NamedTuple):
    """The stale features of a schedule: how many it looks after, and which are stale, the most urgent first."""

    n_looked_after: int
    features: Sequence[int]


def next_due(connection: Connection, *, but: Sequence[UUID] = ()) -> Due | None:
    """Return a refresh that is due and that nobody else is opening; None if there is none."""
    row = _queries.next_due(connection, but=list(but))
    return None if row is None else Due(row[0], row[1], row[2], ScheduleSpec.model_validate(row[3]))


def dictionary_of(connection: Connection, due: Due) -> Dictionary:
    """Return the dictionary that a refresh is about."""
    return dictionaries.get(connection, due.tenant_id, due.spec.run.dictionary_id)


def find_stale(
    connection: Connection, due: Due, n_features: int, selection: Selection, ingredients: Mapping[str, str]
) -> Stale:
    """Write down the stale features of a refresh, each with its reason and its label as it is now.

    n_features:  of the dictionary.
    ingredients: what labels would be made from now, by part; a label's are those of the run that made it.

    A person's label is never stale, nor is a feature that was tried often enough with these ingredients.
    """
    names = {
        "refresh_id": due.id,
        "schedule_id": due.schedule_id,
        "dictionary_id": due.spec.run.dictionary_id,
        "indices": list(selection.indices) if selection.kind in ("listed", "random") and selection.indices else None,
        "alive": selection.kind == "alive",
        "machine": MACHINE,
        "retried": [str(status) for status in RETRIED],
        "ingredients": as_json(dict(ingredients)),
        **due.spec.policy.model_dump(),
    }
    (n_looked_after,) = _queries.count_looked_after(connection, **names)
    for lo in range(0, n_features, BATCH):
        _queries.put_stale(connection, **names, lo=lo, hi=lo + BATCH)
    rows = _queries.stale_features(connection, refresh_id=due.id, reasons=list(get_args(Reason)))
    return Stale(n_looked_after, [feature for (feature,) in rows])


def keep(connection: Connection, due: Due, features: Sequence[int]) -> None:
    """Forget the stale features of a refresh but for some."""
    _queries.keep(connection, refresh_id=due.id, features=list(features))


def open_run(connection: Connection, due: Due, run_id: UUID, *, n_stale: int, ingredients: Mapping[str, str]) -> None:
    """Say which run a refresh has, and why its features are in it."""
    made_from = as_json(dict(ingredients))
    _queries.open_run(connection, id=due.id, run_id=run_id, n_stale=n_stale, ingredients=made_from)


def end(connection: Connection, id_: UUID, state: Literal["nothing", "failed"], note: str | None = None) -> None:
    """End a refresh that has no run: there was `nothing` to do, or it `failed`."""
    _queries.end(connection, id=id_, state=state, note=note)


def wait(connection: Connection, id_: UUID, note: str) -> None:
    """Say why a refresh that is due is not opened yet."""
    _queries.wait(connection, id=id_, note=note)


def close_finished(connection: Connection) -> list[UUID]:
    """Write the diff of every refresh whose run is over, and return their ids.

    A run that has used up its budget is over when the next slot comes: what it left is then looked at anew.
    """
    for tenant_id, run_id, note in list(_queries.halted(connection)):
        _queries.note_run(connection, run_id=run_id, note=note)
        runs.set_state(connection, tenant_id, run_id, "cancelled")
    closed = [(id_, state, note) for id_, state, note in _queries.finished(connection)]
    for id_, state, note in closed:
        for lo in range(0, _queries.last_feature(connection, refresh_id=id_) + 1, BATCH):
            _queries.compare(connection, refresh_id=id_, machine=MACHINE, lo=lo, hi=lo + BATCH)
        _queries.close(connection, id=id_, state=state, note=note)
        deliveries.tell_of_refresh(connection, id_)
    return [id_ for id_, _, _ in closed]


def get(connection: Connection, tenant_id: int, schedule_id: UUID, id_: UUID) -> Refresh:
    """Return a refresh. Raises NotFound if this tenant's schedule has no such refresh."""
    row = _queries.get(connection, tenant_id=tenant_id, schedule_id=schedule_id, id=id_)
    if row is None:
        raise NotFound(f"no refresh {id_} of schedule {schedule_id}")
    return _refresh(row)


def page(connection: Connection, schedule_id: UUID, *, after: datetime | None = None, limit: int = 50) -> list[Refresh]:
    """Return refreshes of a schedule, the latest slot first; `after` is the slot of the last one seen."""
    return [_refresh(row) for row in _queries.page(connection, schedule_id=schedule_id, after=after, most=limit)]


def latest(connection: Connection, schedule_ids: Sequence[UUID]) -> dict[UUID, Refresh]:
    """Return the refresh of the latest slot of some schedules, by schedule; those that had none are left out."""
    found = [_refresh(row) for row in _queries.latest(connection, schedule_ids=list(schedule_ids))]
    return {refresh.schedule_id: refresh for refresh in found}


def diff(
    connection: Connection, id_: UUID, changes: Sequence[Change] = (), *, after: int = -1, limit: int = 50
) -> list[FeatureDiff]:
    """Return what a refresh did to its features, by feature: those with some changes; unless given, all but `same`."""
    wanted = changes or [change for change in get_args(Change) if change != "same"]
    rows = _queries.diff(connection, id=id_, changes=list(wanted), every=not changes, after=after, most=limit)
    return [
        FeatureDiff(
            feature=feature,
            reason=reason,
            change=change,
            before=LabelState.model_validate(before),
            after=None if later is None else LabelState.model_validate(later),
        )
        for feature, reason, change, before, later in rows
    ]


def _refresh(row: tuple[Any, ...]) -> Refresh:
    return Refresh(**dict(zip(Refresh.model_fields, row, strict=True)))
