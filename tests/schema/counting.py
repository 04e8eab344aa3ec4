"""Counts of a run's jobs, one by one: what its tallies must come to, but for the order of additions."""

from collections.abc import Iterable
from uuid import UUID

from schema.records import StageProgress
from schema.stages import Stage
from schema.store import runs
from schema.store.database import Connection

_ORDER = [str(stage) for stage in Stage]


def tallied(connection: Connection, run_id: UUID) -> list[StageProgress]:
    """Return what the tallies say, seconds to the microsecond."""
    return _rounded(runs.progress(connection, run_id))


def counted(connection: Connection, run_id: UUID) -> list[StageProgress]:
    """Return what a plain count says, in the order of a run, seconds to the microsecond."""
    rows = connection.execute(
        """SELECT stage, count(*), count(*) FILTER (WHERE state = 'done'), sum(units),
                  sum(CASE state WHEN 'done' THEN units WHEN 'leased' THEN least(progress, units) ELSE 0 END),
                  count(*) FILTER (WHERE state = 'dead'), coalesce(sum(seconds), 0),
                  min(started_at) FILTER (WHERE state IN ('leased', 'done', 'dead')),
                  max(finished_at) FILTER (WHERE state IN ('done', 'dead'))
           FROM job WHERE run_id = %s GROUP BY stage""",
        (run_id,),
    )
    found = [StageProgress(**dict(zip(StageProgress.model_fields, row, strict=True))) for row in rows]
    return _rounded(sorted(found, key=lambda one: _ORDER.index(one.stage)))


def _rounded(stages: Iterable[StageProgress]) -> list[StageProgress]:
    return [stage.model_copy(update={"seconds": round(stage.seconds, 6)}) for stage in stages]
