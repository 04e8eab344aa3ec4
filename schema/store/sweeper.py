"""What becomes of jobs whose worker died or hung: another worker takes them, they are divided, or they are given up.

Any number of processes may sweep; one of them works at a time, and one that stops in the middle is soon forgotten.
"""

from typing import NamedTuple
from uuid import UUID

from schema.stages import Queue, Stage
from schema.store import idempotency, jobs, trials
from schema.store.database import Connection
from schema.store.jobs import Held
from schema.store.queries import load_queries

_queries = load_queries("sweeper")

MAX_LOSSES = 3
MAX_LOSSES_OF_ALL = 6
"""Of a job that all of a run waits for: nothing of it can be set apart, and the run is given up with it."""
MAX_STARTS = 15
"""Of a job whose workers die before work has begun. That is mostly not the job's doing: what starts takes seconds, and
whoever kills workers meets it. A job that kills while it is loaded ends here."""
DIVIDED_AT = 2  # losses: once may be chance, and a part that is lost three times is at fault
_OF_EVERY_FEATURE = (Stage.STEERING, Stage.DESCRIBE, Stage.WRITE)  # other stages are about the selected ones alone
_OF_ALL = (Stage.INGEST, Stage.MERGE)
_OF_A_BLOCK = (*_OF_EVERY_FEATURE, Stage.RANK, Stage.ACTIVATE, Stage.JUDGE, Stage.PUBLISH)


class Lost(NamedTuple):
    """A job whose lease ran out.

    begun:    whether its worker had come to the work itself; otherwise the job is not to blame.
    in_hand:  the document that was being read, where that was noted.
    """

    id: int
    run_id: UUID
    stage: Stage
    block: int
    n_features: int
    fence: int
    attempt: int
    lost: int
    begun: bool
    in_hand: int | None

    @property
    def losses(self) -> int:
        """Return how often it was lost while it was worked on, this time included."""
        return self.lost + self.begun

    @property
    def held(self) -> Held:
        """Return who may still write."""
        return Held(self.id, self.run_id, self.stage, self.block, self.fence)


def sweep(connection: Connection, *, most: int = 500) -> list[Queue]:
    """Deal with expired leases and runs without work, delete what is old, and return the queues that have work now.

    Where another sweeper is at it, only look for work.
    """
    _queries.limit_idleness(connection)
    if _queries.try_lock(connection):
        for id_, run_id, stage, *rest in list(_queries.expired(connection, most=most)):
            _settle(connection, Lost(id_, run_id, Stage(stage), *rest))
        for (run_id,) in list(_queries.unfinished_runs(connection, most=most)):
            jobs.finish_run(connection, run_id)
        trials.delete_old(connection, most=most)
        idempotency.delete_old(connection, most=most)
    return sorted({*jobs.ready_queues(connection), *trials.ready_queues(connection)})


def _settle(connection: Connection, lost: Lost) -> None:
    """Divide a job that seems to hold poison, give up one that can't be divided; let others be tried again."""
    _queries.note_loss(connection, stage=lost.stage, run_id=lost.run_id)
    if lost.losses >= DIVIDED_AT and _divide(connection, lost):
        return
    if lost.losses >= (MAX_LOSSES_OF_ALL if lost.stage in _OF_ALL else MAX_LOSSES):
        jobs.bury(connection, lost.held, f"lost {lost.losses} times: its worker died or hung each time")
    elif lost.attempt >= MAX_STARTS:
        jobs.bury(connection, lost.held, f"tried {lost.attempt} times; at last its worker died or hung")
    else:
        _queries.lose(connection, id=lost.id, fence=lost.fence, lost=lost.losses)


def _divide(connection: Connection, lost: Lost) -> bool:
    """Put smaller jobs in the place of one, and return whether there are any."""
    if lost.in_hand is not None and not lost.held.is_part:
        _queries.set_apart(connection, id=lost.id)
        return True
    if lost.stage not in _OF_A_BLOCK or lost.n_features < 2:
        return False
    if not _queries.split(connection, id=lost.id, everyone=lost.stage in _OF_EVERY_FEATURE):
        return False
    _queries.replace(connection, id=lost.id)
    return True
