"""What the page of a run shows: everything is read in one transaction, from tallies and the first of what is listed."""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

from schema.errors import NotFound
from schema.records import RUN_OVER, DeadJob, Dictionary, MethodCount, Run, Spending, StageProgress, Usage
from schema.reports import RunReport
from schema.schedules import RETRIED
from schema.stages import Stage
from schema.store import calls, dictionaries, outcomes, reports, runs, spending
from schema.store.database import Connection
from schema.store.outcomes import Agreement
from service.progress import Pace, pace

_WORK = {
    Stage.INGEST: "checks the dictionary against the model",
    Stage.EXEMPLARS: "reads the corpus",
    Stage.MERGE: "gathers what was read, and divides the features",
    Stage.STEERING: "amplifies features and steers texts",
    Stage.DESCRIBE: "asks an LLM for descriptions",
    Stage.RANK: "the embedding judge compares them",
    Stage.WRITE: "an LLM writes sentences from them",
    Stage.ACTIVATE: "runs those through the model",
    Stage.JUDGE: "the LLM judge; then the label is chosen",
    Stage.PUBLISH: "labels become current",
    Stage.REPORT: "sums up",
}


class StageRow(NamedTuple):
    """A stage as it is shown: what it does, how far and how fast it is."""

    progress: StageProgress
    work: str
    unit: str
    pace: Pace

    @property
    def is_over(self) -> bool:
        """Return whether all its jobs are done or given up."""
        return self.progress.jobs_done + self.progress.dead >= self.progress.jobs


class GivenUp(NamedTuple):
    """Jobs of a stage that were given up for one reason, and what they were about."""

    stage: str
    reason: str
    n_jobs: int
    features: tuple[int, ...]
    documents: tuple[int, ...]


class Unlabelled(NamedTuple):
    """Features that have no label for one reason, by the status that says so."""

    status: str
    reason: str | None
    features: tuple[int, ...]


class RunView(NamedTuple):
    """A run with all that its page shows."""

    run: Run
    dictionary: Dictionary
    before: Run | None
    report: RunReport | None
    stages: tuple[StageRow, ...]
    counts: tuple[MethodCount, ...]
    usage: Usage | None
    account: Spending | None
    given_up: tuple[GivenUp, ...]
    troubled: tuple[Unlabelled, ...]
    agreement: Agreement | None
    elapsed_s: float | None

    @property
    def is_over(self) -> bool:
        """Return whether nothing of the run changes any more."""
        return self.run.state in RUN_OVER

    @property
    def n_published(self) -> int:
        """Return how many features have their label."""
        return sum(row.progress.units_done for row in self.stages if row.progress.stage == Stage.PUBLISH)

    @property
    def by_status(self) -> dict[str, int]:
        """Return how many features the run gave a label of which status."""
        found = Counter[str]()
        for one in self.counts:
            found[one.status] += one.n
        return dict(found.most_common())


def read(connection: Connection, tenant_id: int, run_id: UUID) -> RunView:
    """Return what the page of a run shows. Raises NotFound."""
    run = runs.get(connection, tenant_id, run_id)
    report = _report(connection, tenant_id, run)
    stages = runs.progress(connection, run_id) if report is None else report.stages
    now = datetime.now(UTC)
    return RunView(
        run=run,
        dictionary=dictionaries.get(connection, tenant_id, run.dictionary_id),
        before=_before(connection, tenant_id, run),
        report=report,
        stages=tuple(_stage(stage, run, now) for stage in stages),
        counts=runs.counts(connection, run_id),
        usage=calls.usage(connection, run_id) if report is None else report.usage,
        account=spending.summary(connection, run_id),
        given_up=_given_up(runs.dead(connection, run_id)) if any(stage.dead for stage in stages) else (),
        troubled=_troubled(connection, run, stages),
        agreement=outcomes.agreement(connection, run_id) if report is not None else None,
        elapsed_s=None if run.started_at is None else ((run.finished_at or now) - run.started_at).total_seconds(),
    )


def _report(connection: Connection, tenant_id: int, run: Run) -> RunReport | None:
    if run.state != "done":
        return None
    try:
        return reports.get(connection, tenant_id, run.id)
    except NotFound:  # its job was given up, or the run is older than reports
        return None


def _before(connection: Connection, tenant_id: int, run: Run) -> Run | None:
    """Return the run of the same dictionary that was asked for before this one."""
    place = (run.created_at, run.id)
    found = runs.page(connection, tenant_id, dictionary_id=run.dictionary_id, after=place, limit=1)
    return found[0] if found else None


def _stage(stage: StageProgress, run: Run, now: datetime) -> StageRow:
    name = Stage(stage.stage)
    unit = {Stage.INGEST: "check", Stage.EXEMPLARS: "part of the corpus", Stage.MERGE: "merge"}.get(name, "feature")
    known = pace(stage, run.finished_at or now)
    if run.state not in ("queued", "running"):
        known = known._replace(left_s=None)
    return StageRow(stage, _WORK[name], unit if stage.units == 1 else _plural(unit), known)


def _plural(unit: str) -> str:
    return unit.replace("part", "parts") if unit.startswith("part") else f"{unit}s"


def _given_up(dead: Sequence[DeadJob]) -> tuple[GivenUp, ...]:
    """Return what was given up by stage and reason, in the order in which it came."""
    found: dict[tuple[str, str], list[DeadJob]] = {}
    for job in dead:
        found.setdefault((job.stage, job.reason), []).append(job)
    return tuple(
        GivenUp(
            stage,
            reason,
            len(jobs),
            tuple(sorted({feature for job in jobs for feature in job.features})),
            tuple(sorted(job.document for job in jobs if job.document is not None)),
        )
        for (stage, reason), jobs in found.items()
    )


def _troubled(connection: Connection, run: Run, stages: Iterable[StageProgress]) -> tuple[Unlabelled, ...]:
    """Return features without a label by why; before anything is published there are none."""
    if not any(stage.stage == Stage.PUBLISH and stage.units_done for stage in stages):
        return ()
    found: dict[tuple[str, str | None], list[int]] = {}
    for one in outcomes.troubled(connection, run.id, RETRIED):
        found.setdefault((one.status, one.reason), []).append(one.feature)
    return tuple(Unlabelled(status, reason, tuple(features)) for (status, reason), features in found.items())
