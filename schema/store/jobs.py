"""Jobs: claim, heartbeat, finish, and what becomes of those that fail. What becomes of lost ones is in `sweeper`.

A job is claimed under a lease and a fence. Nothing that a worker writes after it lost its lease has an effect: the
results and the finished job are one transaction, and `finish` raises LeaseLost where the fence has moved on.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

from schema.errors import LeaseLost
from schema.graph import JobKey, NewJob
from schema.stages import QUEUE_NAMES, QUEUES, Queue, Stage
from schema.store import deliveries
from schema.store.database import Connection
from schema.store.queries import as_json, load_queries

_queries = load_queries("jobs")

MAX_ATTEMPTS = 5
_ROOTS = (Stage.INGEST, Stage.EXEMPLARS, Stage.MERGE)  # without these no feature can be labelled


class Job(NamedTuple):
    """A claimed job."""

    id: int
    run_id: UUID
    stage: Stage
    block: int
    shard: int
    feature_lo: int
    feature_hi: int
    units: int
    attempt: int
    lost: int
    fence: int

    @property
    def document(self) -> int | None:
        """Return the one document that a corpus job is about, None for a whole shard."""
        return self.block - 1 if self.stage == Stage.EXEMPLARS and self.block else None


class Held(NamedTuple):
    """Which job is leased, under which fence."""

    id: int
    run_id: UUID
    stage: Stage
    block: int
    fence: int

    @property
    def is_part(self) -> bool:
        """Return whether it is a document that was set apart from its corpus shard."""
        return self.stage == Stage.EXEMPLARS and self.block > 0


class Finished(NamedTuple):
    """A job of a run with what it left for later stages."""

    block: int
    shard: int
    state: str
    result: dict[str, Any] | None


def insert(connection: Connection, run_id: UUID, jobs: Sequence[NewJob]) -> list[Queue]:
    """Write jobs with their dependencies, all within `jobs`, and return the queues that have ready ones."""
    rows = _queries.insert(
        connection,
        run_id=run_id,
        vtime=_now(connection),
        stages=[str(job.key.stage) for job in jobs],
        queues=[QUEUES[job.key.stage] for job in jobs],
        blocks=[job.key.block for job in jobs],
        shards=[job.key.shard for job in jobs],
        los=[job.feature_lo for job in jobs],
        his=[job.feature_hi for job in jobs],
        units=[job.units for job in jobs],
        deps=[len(job.waits_for) for job in jobs],
    )
    ids = {JobKey(Stage(stage), block, shard): id_ for id_, stage, block, shard in rows}
    edges = [(ids[job.key], ids[key]) for job in jobs for key in job.waits_for]
    _queries.insert_dependencies(connection, waits=[a for a, _ in edges], for_jobs=[b for _, b in edges])
    return sorted({QUEUES[job.key.stage] for job in jobs if not job.waits_for})


def claim(connection: Connection, stages: Sequence[Stage], *, owner: str, lease_s: float) -> Job | None:
    """Lease the most urgent ready job of some stages, or return None.

    One statement, so that where it is a transaction of its own a claim is one round trip.
    """
    queues = sorted({QUEUES[stage] for stage in stages})
    names = [str(stage) for stage in stages]
    row = _queries.claim(connection, queues=queues, stages=names, owner=owner, lease_s=lease_s)
    if row is None:
        return None
    return Job(row[0], row[1], Stage(row[2]), *row[3:])


def begin(connection: Connection, job: Job) -> None:
    """Note that work on a job has begun; only then does the loss of its worker count against it.

    Raises: LeaseLost if the job is no longer this worker's.
    """
    _still_held(job, _queries.begin(connection, id=job.id, fence=job.fence))


def hold(connection: Connection, job: Job, document: int) -> None:
    """Note which document is about to be read, so that it is known if the worker dies of it. Raises LeaseLost."""
    _still_held(job, _queries.hold(connection, id=job.id, fence=job.fence, document=document))


def heartbeat(connection: Connection, job: Job, *, lease_s: float, progress: int) -> None:
    """Renew a lease. Raises LeaseLost if the job is no longer this worker's."""
    renewed = _queries.heartbeat(connection, id=job.id, fence=job.fence, lease_s=lease_s, progress=progress)
    _still_held(job, renewed)


def run_states(connection: Connection, held: Sequence[Job]) -> dict[int, str]:
    """Return the state of the run of each of some jobs, by job id; those that are no longer held are missing."""
    ids, fences = [job.id for job in held], [job.fence for job in held]
    return dict(_queries.run_states(connection, ids=ids, fences=fences))


def finish(
    connection: Connection, job: Job, result: dict[str, Any] | None = None, more: Sequence[NewJob] = ()
) -> list[Queue]:
    """Mark a job done in the caller's transaction, add `more` jobs, and return the queues that have new ready jobs.

    Raises: LeaseLost if the job is no longer this worker's; the caller's transaction must then roll back.
    """
    payload = None if result is None else as_json(result)
    _still_held(job, _queries.finish(connection, id=job.id, fence=job.fence, result=payload))
    queues = insert(connection, job.run_id, more) if more else []
    return sorted({*queues, *_release(connection, job.id, job.run_id)})


def give_back(connection: Connection, job: Job, *, reason: str, delay_s: float) -> None:
    """Return a job that could not be tried (a server is away): it costs no attempt, and the run says why it waits."""
    if _queries.give_back(connection, id=job.id, fence=job.fence, error=reason, delay_s=delay_s) is not None:
        _queries.note_run(connection, run_id=job.run_id, note=reason)


def clear_note(connection: Connection, job: Job) -> None:
    """Take back what a run said while it waited."""
    _queries.note_run(connection, run_id=job.run_id, note=None)


def fail(connection: Connection, job: Job, *, reason: str, final: bool) -> list[Queue]:
    """Retry a failed job with a growing delay, or bury it, and return the queues that have new ready jobs."""
    if not final and job.attempt < MAX_ATTEMPTS:
        _queries.retry(connection, id=job.id, fence=job.fence, error=reason, delay_s=min(60, 2**job.attempt))
        return []
    return bury(connection, Held(job.id, job.run_id, job.stage, job.block, job.fence), reason)


def bury(connection: Connection, job: Held, reason: str) -> list[Queue]:
    """Give a job up. Its dependants go on without it, unless nothing can be labelled without it."""
    if _queries.bury(connection, id=job.id, fence=job.fence, error=reason) is None:
        return []
    if job.stage in _ROOTS and not job.is_part:
        if _queries.fail_run(connection, run_id=job.run_id, note=f"{job.stage}: {reason}"):
            deliveries.tell_of_run(connection, job.run_id, "run.finished")
        _queries.cancel_jobs(connection, run_id=job.run_id)
        return []
    return _release(connection, job.id, job.run_id)


def finish_run(connection: Connection, run_id: UUID) -> None:
    """Mark a run done if it goes on and has no work left."""
    if _queries.finish_run(connection, run_id=run_id) is not None:
        deliveries.tell_of_run(connection, run_id, "run.finished")


def ready_queues(connection: Connection) -> list[Queue]:
    """Return the queues that have work now, of any run."""
    return sorted(queue for queue, _ in _ready(connection))


def cancel(connection: Connection, run_id: UUID) -> None:
    """Take every unfinished job out of the queue; leased ones lose their fence's right to finish."""
    _queries.cancel_jobs(connection, run_id=run_id)


def results(connection: Connection, run_id: UUID, stage: Stage, blocks: Sequence[int] = (0,)) -> list[Finished]:
    """Return what the jobs of a stage left, by block and shard. A block that was divided has a row for each part."""
    rows = _queries.results(connection, run_id=run_id, stage=stage, blocks=list(blocks))
    return [Finished(*row[1:]) for row in rows]


def left(connection: Connection, run_id: UUID, stage: Stage, block: int, name: str) -> dict[str, Any]:
    """Return what the jobs of a block left under a name, by feature; nothing of those that died."""
    found = results(connection, run_id, stage, [block])
    return {feature: of_one for job in found if job.result for feature, of_one in job.result.get(name, {}).items()}


def set_apart(connection: Connection, run_id: UUID, shard: int) -> dict[int, str]:
    """Return the documents of a corpus shard that are read by jobs of their own, with the states of these."""
    return dict(_queries.set_apart(connection, run_id=run_id, shard=shard))


def blocks_of(connection: Connection, run_id: UUID, stage: Stage, lo: int, hi: int) -> list[int]:
    """Return the blocks of a stage that cover positions lo..hi-1."""
    return sorted(block for (block,) in _queries.blocks_of(connection, run_id=run_id, stage=stage, lo=lo, hi=hi))


def _still_held(job: Job, row: object) -> None:
    if row is None:
        raise LeaseLost(f"job {job.id} ({job.stage}) was taken over")


def _ready(connection: Connection) -> list[tuple[Queue, float]]:
    """Return the queues that have work now, each with the smallest virtual time of its ready jobs."""
    return list(_queries.ready(connection, queues=list(QUEUE_NAMES)))


def _now(connection: Connection) -> float:
    """Return the virtual time at which new jobs start: that of the job that is furthest behind."""
    return min((vtime for _, vtime in _ready(connection)), default=0.0)


def _release(connection: Connection, id_: int, run_id: UUID) -> list[Queue]:
    released = list(_queries.release(connection, id=id_))
    finish_run(connection, run_id)
    return sorted({QUEUES[Stage(stage)] for stage, state in released if state == "ready"})
