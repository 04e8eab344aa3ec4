"""Runs over HTTP: submit, follow, cancel, pause, resume, and what they found."""

import math
from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple
from uuid import UUID

from fastapi import APIRouter, BackgroundTasks, Body, Query, Response

from schema import budgets, graph, profiles
from schema.errors import Conflict, InvalidInput
from schema.records import Run, RunSpec
from schema.reports import RunReport
from schema.selection import parse_selection
from schema.settings import Settings
from schema.store import corpora, dictionaries, quotas, reports, runs
from schema.store.database import Connection
from schema.wire import LabelPage, LabelQuery, PageQuery, Resume, RunPage, RunQuery
from service import examples, labels
from service.bodies import Strict
from service.cursors import NEWEST, Pager
from service.deps import Held, Repeatable, Services, Tenant


class Sizes(NamedTuple):
    """How much a run is about."""

    n_features: int | None
    n_shards: int


router = APIRouter(prefix="/v1/runs", tags=["runs"], responses=examples.PROBLEMS)


@router.post("", status_code=201, responses=examples.created(examples.RUN))
def submit_run(
    spec: Annotated[RunSpec, Body(openapi_examples=examples.RUN_SPECS), Strict()],
    held: Held,
    tenant_id: Tenant,
    intent: Repeatable,
    response: Response,
    background: BackgroundTasks,
) -> Run:
    """Ask for labels. The run and its first jobs are stored at once; workers take it from there."""
    check_spec(spec, held.settings)

    def work(connection: Connection) -> runs.Submitted:
        id_, fresh = intent.claim(connection, spec.model_dump(mode="json"))
        if fresh:
            return _submit(connection, tenant_id, id_, spec, held)
        return runs.Submitted(runs.report(connection, tenant_id, id_), [])

    submitted = held.database.run(work)
    background.add_task(held.doorbell.ring, submitted.queues)
    response.headers["Location"] = f"{router.prefix}/{submitted.run.id}"
    return submitted.run


@router.get("", responses=examples.ok(examples.page(examples.RUN)))
def list_runs(query: Annotated[RunQuery, Query()], held: Held, tenant_id: Tenant) -> RunPage:
    """List runs, newest first, without their stages."""
    pager = Pager(["runs", query.dictionary_id], NEWEST, query.cursor)
    found = held.database.run(
        lambda connection: runs.page(
            connection, tenant_id, dictionary_id=query.dictionary_id, after=pager.after, limit=query.limit + 1
        )
    )
    return RunPage(**pager.cut(found, query.limit, lambda row: (row.created_at, row.id))._asdict())


@router.get("/{run_id}", responses=examples.ok(examples.RUN))
def get_run(run_id: UUID, held: Held, tenant_id: Tenant) -> Run:
    """Follow a run: how far each stage is, its seconds, and the features by method and status."""
    return held.database.run(lambda connection: runs.report(connection, tenant_id, run_id))


@router.get("/{run_id}/report", responses=examples.ok(examples.RUN_REPORT))
def get_run_report(run_id: UUID, held: Held, tenant_id: Tenant) -> RunReport:
    """Read what a run found: success, value and lift by method with intervals over features, and its controls."""
    return held.database.run(lambda connection: reports.get(connection, tenant_id, run_id))


@router.get("/{run_id}/labels", responses=examples.ok(examples.page(examples.LABEL)))
def list_run_labels(run_id: UUID, query: Annotated[PageQuery, Query()], held: Held, tenant_id: Tenant) -> LabelPage:
    """List the current labels of the features that a run selected, by feature."""

    def work(connection: Connection) -> LabelPage:
        dictionary_id = runs.get(connection, tenant_id, run_id).dictionary_id
        whole = LabelQuery(limit=query.limit, cursor=query.cursor, run_id=run_id)
        return labels.read_page(connection, dictionary_id, whole)

    return held.database.run(work)


@router.post("/{run_id}/cancel", responses=examples.ok(examples.CANCELLED_RUN))
def cancel_run(run_id: UUID, held: Held, tenant_id: Tenant, intent: Repeatable) -> Run:
    """End a run. What is finished stays; jobs that are under way end within seconds, and no LLM is asked any more."""
    return _change(held, tenant_id, run_id, intent, "cancelled")


@router.post("/{run_id}/pause", responses=examples.ok(examples.PAUSED_RUN))
def pause_run(run_id: UUID, held: Held, tenant_id: Tenant, intent: Repeatable) -> Run:
    """Let a run rest: within seconds no job goes on and no LLM is asked, until it is resumed."""
    return _change(held, tenant_id, run_id, intent, "paused")


@router.post("/{run_id}/resume", responses=examples.ok(examples.RUN))
def resume_run(
    run_id: UUID,
    held: Held,
    tenant_id: Tenant,
    intent: Repeatable,
    background: BackgroundTasks,
    how: Annotated[Resume | None, Body(openapi_examples=examples.RESUMPTIONS), Strict()] = None,
) -> Run:
    """Let a paused run go on. One that used up its budget needs a larger one in the body."""
    budget = how.budget if how else None

    def work(connection: Connection) -> Run:
        _, fresh = intent.claim(connection, None if budget is None else budget.model_dump(mode="json"))
        if fresh:
            spec = runs.get(connection, tenant_id, run_id).spec
            budgets.check_budget(budget, spec.profiles, held.settings)
            runs.resume(connection, tenant_id, run_id, budget)
        return runs.report(connection, tenant_id, run_id)

    run = held.database.run(work)
    background.add_task(held.doorbell.ring, held.database.run(lambda connection: runs.ready_queues(connection, run_id)))
    return run


def check_spec(spec: RunSpec, settings: Settings) -> None:
    """Refuse a run that makes no sense whatever its dictionary is.

    Raises: InvalidInput, with the value and the limit; BadBudget if it is in dollars and a price is not known.
    """
    known = profiles.names(settings)
    for role, name in (("llm", spec.llm), ("writer", spec.writer), ("judge", spec.judge)):
        if name is not None and name not in known:
            raise InvalidInput(f"{role}={name!r}; this installation has the profiles {', '.join(known)}")
    budgets.check_budget(spec.budget, spec.profiles, settings)
    for name, values in (("methods", spec.methods), ("evaluations", spec.evaluations)):
        _refuse_repeats(name, values)
    if spec.options.prompts == "paper" and "refined" in spec.methods:
        raise InvalidInput("methods=refined with options.prompts=paper; the paper's prompts know no revision")
    for name, targets in (("kl_targets", spec.options.kl_targets), ("judge_targets", spec.options.judge_targets)):
        wrong = [target for target in targets if not (math.isfinite(target) and target > 0)]
        if wrong or not targets:
            raise InvalidInput(f"options.{name}={list(targets)}; must be one or more numbers above 0 nats, sign apart")
    missing = sorted(set(spec.options.judge_targets) - set(spec.options.kl_targets))
    if missing:
        steered = list(spec.options.kl_targets)
        raise InvalidInput(f"options.judge_targets={missing} are not steered; must be among {steered}")


def _refuse_repeats(name: str, values: Sequence[str]) -> None:
    repeated = sorted({value for value in values if values.count(value) > 1})
    if repeated:
        raise InvalidInput(f"{name}={list(values)} names {', '.join(repeated)} more than once; name each once")


def sizes_of(connection: Connection, tenant_id: int, spec: RunSpec, held: Services) -> Sizes:
    """Return how many features and shards a run has; only the corpus tells which features fire (None).

    Raises: NotFound, Conflict, BadSelection or BadCorpus if its dictionary, selection or corpus can't be used.
    """
    dictionary = dictionaries.get(connection, tenant_id, spec.dictionary_id)
    if dictionary.state != "ready":
        what = dictionary.error or "PUT its weights first"
        raise Conflict(f"dictionary {dictionary.id} is {dictionary.state} and not ready; {what}")
    indices = parse_selection(spec.features, dictionary.spec.n_features).indices
    n_bytes = corpora.n_bytes_of(connection, tenant_id, spec.corpus, corpora_dir=held.settings.corpora_dir)
    return Sizes(None if indices is None else len(indices), graph.shards_of(n_bytes))


def _submit(connection: Connection, tenant_id: int, id_: UUID, spec: RunSpec, held: Services) -> runs.Submitted:
    n_features, n_shards = sizes_of(connection, tenant_id, spec, held)
    quotas.check_runs(connection, tenant_id, 1, held.settings.max_unfinished_runs)
    llms = profiles.recipes(spec.profiles, held.settings)
    return runs.submit(connection, tenant_id, id_, spec, n_features=n_features, n_shards=n_shards, llms=llms)


def _change(
    held: Services, tenant_id: int, run_id: UUID, intent: Repeatable, state: Literal["cancelled", "paused"]
) -> Run:
    def work(connection: Connection) -> Run:
        _, fresh = intent.claim(connection, None)
        if fresh:
            runs.set_state(connection, tenant_id, run_id, state)
        return runs.report(connection, tenant_id, run_id)

    return held.database.run(work)
