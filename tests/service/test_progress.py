"""What is said of a stage's pace."""

from datetime import UTC, datetime, timedelta

from schema.records import StageProgress
from service.progress import Pace, describe, pace

START = datetime(2026, 1, 1, tzinfo=UTC)


def stage(**changes: object) -> StageProgress:
    fields = {
        "stage": "describe",
        "jobs": 4,
        "jobs_done": 2,
        "units": 24,
        "units_done": 12,
        "dead": 0,
        "seconds": 20.0,
        "first_started_at": START,
        "last_finished_at": None,
    }
    return StageProgress.model_validate({**fields, **changes})


def test_time_left_is_what_is_left_at_the_pace_so_far() -> None:
    assert pace(stage(), START + timedelta(seconds=6)) == Pace(units_per_s=2.0, left_s=6.0)
    assert describe(stage(), START + timedelta(seconds=6)) == "2.0/s, 0:06 left"


def test_a_slow_stage_counts_by_the_minute() -> None:
    assert describe(stage(), START + timedelta(seconds=120)) == "6.0/min, 2:00 left"


def test_a_stage_that_is_over_keeps_its_pace() -> None:
    over = stage(jobs_done=4, units_done=24, last_finished_at=START + timedelta(seconds=12))
    assert pace(over, START + timedelta(hours=5)) == Pace(units_per_s=2.0, left_s=0.0)
    assert describe(over, START + timedelta(hours=5)) == "2.0/s, done"


def test_dead_jobs_are_said() -> None:
    assert describe(stage(dead=1), START + timedelta(seconds=6)) == "2.0/s, 0:06 left, 1 dead"


def test_a_stage_without_a_start_waits() -> None:
    assert describe(stage(first_started_at=None, units_done=0), START) == "waiting"
    assert describe(stage(units_done=0), START) == "started"
