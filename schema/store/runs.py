"""Runs: what users asked for, in which state it is, and how far it got."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple
from uuid import UUID

from schema.budgets import NOTHING
from schema.errors import BadBudget, Conflict, NotFound
from schema.graph import initial_jobs
from schema.records import Budget, DeadJob, MethodCount, Run, RunSpec, StageProgress
from schema.stages import QUEUE_NAMES, Queue, Stage
from schema.store import calls, deliveries, jobs, spending
from schema.store.database import Connection
from schema.store.queries import as_json, load_queries

_queries = load_queries("runs")
_ORDER = {str(stage): position for position, stage in enumerate(Stage)}


class Submitted(NamedTuple):
    """A new run, and the queues that have work now: ring them after the commit."""

    run: Run
    queues: list[Queue]


def submit(
    connection: Connection,
    tenant_id: int,
    id_: UUID,
    spec: RunSpec,
    *,
    n_features: int | None,
    n_shards: int,
    llms: Mapping[str, Any] | None = None,
) -> Submitted:
    """Store a run with the jobs that it starts with; n_features is None where only the corpus can tell.

    llms:  the recipes of its LLM profiles by name; where they are given, jobs refuse to ask others.
    """
    (row,) = _queries.insert(
        connection,
        id=id_,
        tenant_id=tenant_id,
        dictionary_id=spec.dictionary_id,
        spec=as_json(spec.model_dump(mode="json")),
        n_features=n_features,
        llms=None if llms is None else as_json(dict(llms)),
    )
    spending.open_account(connection, id_, spec.budget)
    queues = jobs.insert(connection, id_, initial_jobs(n_shards))
    return Submitted(_run(row), queues)


def get(connection: Connection, tenant_id: int, id_: UUID) -> Run:
    """Return a run without its stages.

    Raises: NotFound if this tenant has no such run.
    """
    for row in _queries.get(connection, tenant_id=tenant_id, id=id_):
        return _run(row)
    raise NotFound(f"no run {id_}")


def report(connection: Connection, tenant_id: int, id_: UUID) -> Run:
    """Return a run with its stages, its features counted by method and status, its LLM usage and what was given up.

    Raises: NotFound if this tenant has no such run.
    """
    run = get(connection, tenant_id, id_)
    read = {"stages": progress, "counts": counts, "usage": calls.usage, "dead": dead}
    return run.model_copy(update={name: of(connection, id_) for name, of in read.items()})


def standing(connection: Connection, tenant_id: int, id_: UUID) -> Run:
    """Return a run with its stages and its features counted, which is what changes while it goes on.

    Raises: NotFound if this tenant has no such run.
    """
    run = get(connection, tenant_id, id_)
    return run.model_copy(update={"stages": progress(connection, id_), "counts": counts(connection, id_)})


def page(
    connection: Connection,
    tenant_id: int,
    *,
    dictionary_id: UUID | None = None,
    after: tuple[datetime, UUID] | None = None,
    limit: int = 50,
) -> list[Run]:
    """Return runs without their stages, newest first; `after` is the creation time and id of the last one seen."""
    before, after_id = after or (None, None)
    rows = _queries.page(
        connection, tenant_id=tenant_id, dictionary_id=dictionary_id, before=before, after_id=after_id, most=limit
    )
    return [_run(row) for row in rows]


def of_collection_runs(connection: Connection, ids: Sequence[UUID]) -> dict[UUID, list[Run]]:
    """Return the runs of some runs over collections, in the order of their dictionaries, without their stages."""
    found: dict[UUID, list[Run]] = {}
    for id_, *row in _queries.of_collection_runs(connection, ids=list(ids)):
        found.setdefault(id_, []).append(_run(tuple(row)))
    return found


def set_state(
    connection: Connection, tenant_id: int, id_: UUID, state: Literal["cancelled", "paused", "running"]
) -> Run:
    """Cancel, pause or resume a run; one that is in the state already stays as it is.

    Raises: NotFound if this tenant has no such run; Conflict if its state forbids it.
    """
    run = get(connection, tenant_id, id_)
    if run.state == state or (state == "running" and run.state == "queued"):
        return run
    if state == "cancelled":
        # Jobs before the run, as workers take their locks: the other way round, the two wait for each other.
        jobs.cancel(connection, id_)
    changes = {"cancelled": _queries.cancel, "paused": _queries.pause, "running": _queries.resume}
    for row in list(changes[state](connection, id=id_)):
        if state == "cancelled":
            deliveries.tell_of_run(connection, id_, "run.finished")
        return _run(row)
    raise Conflict(f"run {id_} is {get(connection, tenant_id, id_).state}: {_FORBIDDEN[state]}")


def resume(connection: Connection, tenant_id: int, id_: UUID, budget: Budget | None = None) -> Run:
    """Let a paused run go on, with another budget if one is given; that can also be given to one that goes on.

    Raises: NotFound if this tenant has no such run; Conflict if its state or what it has spent forbids it; BadBudget if
    dollars are to be kept to and the price of earlier calls is not known.
    """
    run = get(connection, tenant_id, id_)
    if run.state in ("queued", "running", "paused"):
        _give(connection, id_, budget)
    return set_state(connection, tenant_id, id_, "running")


def _give(connection: Connection, id_: UUID, budget: Budget | None) -> None:
    """Set the budget of a run, unless what paused it still does not fit. The account is locked before the run."""
    before = spending.lock(connection, id_)
    if budget is not None:
        spending.set_budget(connection, id_, budget)
    now = spending.read(connection, id_)
    if before is None or now is None:
        raise NotFound(f"no run {id_}")
    if now.unpriced:
        raise BadBudget(f"run {id_} has made calls whose price is not known; give its budget in tokens")
    if not now.holds(before.needs):
        raise Conflict(used_up(spending.shortage(now, before.needs)))
    spending.refuse(connection, id_, NOTHING)


def used_up(shortage: str) -> str:
    """Return what a run says that its budget stops."""
    return f"the budget is used up: {shortage}; resume the run with a larger one"


_FORBIDDEN = {
    "cancelled": "only a queued, running or paused run can be cancelled",
    "paused": "only a queued or running run can be paused",
    "running": "only a paused run can be resumed; submit a new run",
}


def halt(connection: Connection, id_: UUID, note: str) -> None:
    """Pause a run that goes on and whose budget can't be kept to any longer, and say why."""
    if _queries.halt(connection, id=id_, note=note):
        deliveries.tell_of_run(connection, id_, "budget.reached")


def state_of(connection: Connection, id_: UUID) -> str | None:
    """Return the state of a run of any tenant, None if there is none."""
    state: str | None = _queries.state(connection, id=id_)
    return state


def set_n_features(connection: Connection, id_: UUID, n_features: int) -> None:
    """Record how many features a run selected."""
    _queries.set_n_features(connection, id=id_, n_features=n_features)


def put_ingredients(connection: Connection, id_: UUID, ingredients: Mapping[str, str]) -> None:
    """Record what the labels of a run are made from, by part; the first to say so is believed."""
    _queries.put_ingredients(connection, id=id_, ingredients=as_json(dict(ingredients)))


def progress(connection: Connection, id_: UUID) -> tuple[StageProgress, ...]:
    """Return how far each stage that has jobs by now is, in the order of a run."""
    return progress_of(connection, [id_]).get(id_, ())


def progress_of(connection: Connection, ids: Sequence[UUID]) -> dict[UUID, tuple[StageProgress, ...]]:
    """Return the progress of some runs; those without jobs are left out."""
    found: dict[UUID, list[StageProgress]] = {}
    for id_, *row in _queries.progress(connection, run_ids=list(ids)):
        found.setdefault(id_, []).append(StageProgress(**dict(zip(StageProgress.model_fields, row, strict=True))))
    return {id_: tuple(sorted(stages, key=lambda one: _ORDER[one.stage])) for id_, stages in found.items()}


def counts(connection: Connection, id_: UUID) -> tuple[MethodCount, ...]:
    """Return how many features a run gave which method's label with which status, the most first.

    Those that it has given none yet are `unlabelled`, whatever earlier runs said of them.
    """
    rows = _queries.counts(connection, run_id=id_)
    return tuple(MethodCount(method=method, status=status, n=n) for method, status, n in rows)


def dead(connection: Connection, id_: UUID) -> tuple[DeadJob, ...]:
    """Return the jobs of a run that were given up, the first 100."""
    rows = _queries.dead(connection, run_id=id_)
    return tuple(DeadJob(stage=stage, features=found, document=d, reason=why) for stage, found, d, why in rows)


def ready_queues(connection: Connection, id_: UUID) -> list[Queue]:
    """Return the queues that have work of a run now."""
    return [queue for (queue,) in _queries.ready_queues(connection, run_id=id_, queues=list(QUEUE_NAMES))]


def _run(row: tuple[Any, ...]) -> Run:
    id_, dictionary_id, spec, state, note, created_at, started_at, finished_at, n_features = row
    return Run(
        id=id_,
        dictionary_id=dictionary_id,
        spec=RunSpec.model_validate(spec),
        state=state,
        note=note,
        created_at=created_at,
        started_at=started_at,
        finished_at=finished_at,
        n_features=n_features,
    )
