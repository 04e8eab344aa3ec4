"""What a worker's threads do again and again: one bad round is told and ends nothing."""

import time
from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from schema.errors import Unavailable
from workers.rounds import go_rounds


def enough() -> None:
    """End the thread, which nothing else does."""
    raise SystemExit


def fail_unexpectedly() -> None:
    raise RuntimeError("odd")


def fail() -> None:
    raise Unavailable("Redis is away")


def test_a_round_that_fails_is_told_and_the_next_one_comes() -> None:
    rounds: list[Callable[[], None]] = [fail_unexpectedly, fail, fail_unexpectedly, enough]
    todo = iter(rounds)
    with capture_logs() as logs, pytest.raises(SystemExit):
        go_rounds("courier", lambda: next(todo)(), 0.0)
    assert [(one["event"], one["thread"], one["log_level"], one["error"]) for one in logs] == [
        ("round failed", "courier", "error", "RuntimeError('odd')"),
        ("round failed", "courier", "warning", "Redis is away"),
        ("round failed", "courier", "error", "RuntimeError('odd')"),
    ]
    assert "fail_unexpectedly" in logs[0]["trace"]


def test_rounds_begin_at_their_times_and_at_once_after_one_that_took_longer() -> None:
    began: list[float] = []

    def go() -> None:
        began.append(time.monotonic())
        if len(began) == 2:
            time.sleep(0.5)
        if len(began) == 3:
            enough()

    with pytest.raises(SystemExit):
        go_rounds("indexer", go, 0.3)
    assert began[1] - began[0] >= 0.3
    assert 0.5 <= began[2] - began[1] < 0.8
