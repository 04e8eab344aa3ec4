"""Jobs: claim, heartbeat, finish, and what becomes of those that fail. The only writer of job rows.

A job is claimed under a lease and a fence. Nothing that a worker writes after it lost its lease has an effect: the
results and the finished job are one transaction, and `finish` raises LeaseLost where the fence has moved on.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

from schema.errors import LeaseLost
from schema.graph import JobKey, NewJob
from schema.stages import QUEUES, Queue, Stage
from schema.store.database import Connection
from schema.store.queries import as_json, load_queries

_queries = load_queries("jobs")

MAX_LOSSES = 3
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
        vtime=float(_queries.smallest_vtime(connection)),
        stages=[str(job.key.stage) for job in jobs],
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
    """Lease the most urgent ready job of some stages, or return None."""
    row = _queries.claim(connection, stages=[str(stage) for stage in stages], owner=owner, lease_s=lease_s)
    if row is None:
        return None
    job = Job(row[0], row[1], Stage(row[2]), *row[3:])
    _queries.start_run(connection, run_id=job.run_id)
    return job


def heartbeat(connection: Connection, job: Job, *, lease_s: float, progress: int) -> str:
    """Renew a lease and return the run's state.

    Raises: LeaseLost if the job is no longer this worker's.
    """
    row = _queries.heartbeat(connection, id=job.id, fence=job.fence, lease_s=lease_s, progress=progress)
    if row is None:
        raise LeaseLost(f"job {job.id} ({job.stage}) was taken over")
    return str(row[0])


def finish(
    connection: Connection, job: Job, result: dict[str, Any] | None = None, more: Sequence[NewJob] = ()
) -> list[Queue]:
    """Mark a job done in the caller's transaction, add `more` jobs, and return the queues that have new ready jobs.

    Raises: LeaseLost if the job is no longer this worker's; the caller's transaction must then roll back.
    """
    payload = None if result is None else as_json(result)
    if _queries.finish(connection, id=job.id, fence=job.fence, result=payload) is None:
        raise LeaseLost(f"job {job.id} ({job.stage}) was taken over")
    queues = insert(connection, job.run_id, more) if more else []
    return sorted({*queues, *_settle(connection, job)})


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
    return _bury(connection, job.id, job.fence, job.run_id, job.stage, reason)


def sweep(connection: Connection, *, most: int = 500) -> list[Queue]:
    """Return expired leases to ready, bury what was lost too often, and finish runs that have no work left.

    Returns the queues that have ready jobs, for a doorbell. Only one sweeper works at a time; others return at once.
    """
    if not _queries.try_sweep_lock(connection):
        return []
    for id_, run_id, stage, fence, lost in list(_queries.expired(connection, most=most)):
        if lost + 1 >= MAX_LOSSES:
            reason = f"lost {lost + 1} times: its worker died or hung each time"
            _bury(connection, id_, fence, run_id, Stage(stage), reason)
        else:
            _queries.lose(connection, id=id_, fence=fence)
    for (run_id,) in list(_queries.unfinished_runs(connection, most=most)):
        _queries.finish_run(connection, run_id=run_id)
    return sorted({QUEUES[Stage(stage)] for stage, _ in _queries.ready_counts(connection)})


def cancel(connection: Connection, run_id: UUID) -> None:
    """Take every unfinished job out of the queue; leased ones lose their fence's right to finish."""
    _queries.cancel_jobs(connection, run_id=run_id)


def results(connection: Connection, run_id: UUID, stage: Stage, blocks: Sequence[int] = (0,)) -> list[Finished]:
    """Return what the jobs of a stage left, by block and shard."""
    rows = _queries.results(connection, run_id=run_id, stage=stage, blocks=list(blocks))
    return [Finished(*row[1:]) for row in rows]


def blocks_of(connection: Connection, run_id: UUID, stage: Stage, lo: int, hi: int) -> list[int]:
    """Return the blocks of a stage that cover positions lo..hi-1."""
    return sorted(block for (block,) in _queries.blocks_of(connection, run_id=run_id, stage=stage, lo=lo, hi=hi))


def _bury(connection: Connection, id_: int, fence: int, run_id: UUID, stage: Stage, reason: str) -> list[Queue]:
    """Give a job up. Its dependants go on without it, unless nothing can be labelled without it."""
    if _queries.bury(connection, id=id_, fence=fence, error=reason) is None:
        return []
    if stage in _ROOTS:
        _queries.fail_run(connection, run_id=run_id, note=f"{stage}: {reason}")
        _queries.cancel_jobs(connection, run_id=run_id)
        return []
    return _release(connection, id_, run_id)


def _settle(connection: Connection, job: Job) -> list[Queue]:
    return _release(connection, job.id, job.run_id)


def _release(connection: Connection, id_: int, run_id: UUID) -> list[Queue]:
    released = list(_queries.release(connection, id=id_))
    _queries.finish_run(connection, run_id=run_id)
    return sorted({QUEUES[Stage(stage)] for stage, state in released if state == "ready"})
