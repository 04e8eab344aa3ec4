"""Shows how a run goes on: a bar a stage on a terminal, a line a change elsewhere. Knows only the client."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from schema.errors import Unavailable
from schema.records import RUN_OVER, Run, StageProgress
from service.transport import Progress as Report

if TYPE_CHECKING:  # the client shows bars, too
    from service.client import Client

POLL_S = 1.0
_PATIENCE_S = 60.0
"""How long the API may be away, as while it is started again, before we give up on watching."""


class Pace(NamedTuple):
    """How fast a stage goes; None where that can't be said yet."""

    units_per_s: float | None
    left_s: float | None


def pace(stage: StageProgress, now: datetime) -> Pace:
    """Return the pace of a stage since its first job started; of its whole time when it is over."""
    if stage.first_started_at is None or not stage.units_done:
        return Pace(None, None)
    over = stage.jobs_done + stage.dead >= stage.jobs and stage.last_finished_at is not None
    end = stage.last_finished_at if over and stage.last_finished_at else now
    rate = stage.units_done / max((end - stage.first_started_at).total_seconds(), 1e-3)
    return Pace(rate, 0.0 if over else (stage.units - stage.units_done) / rate)


def describe(stage: StageProgress, now: datetime) -> str:
    """Return a stage's pace in words: `2.1/s, 0:12 left`."""
    rate, left_s = pace(stage, now)
    if rate is None:
        return "waiting" if stage.first_started_at is None else "started"
    speed = f"{rate:.1f}/s" if rate >= 1 else f"{60 * rate:.1f}/min"
    dead = f", {stage.dead} dead" if stage.dead else ""
    if not left_s:
        return f"{speed}, done{dead}" if left_s is not None else f"{speed}{dead}"
    return f"{speed}, {int(left_s) // 60}:{int(left_s) % 60:02d} left{dead}"


def watch(client: "Client", run_id: UUID, console: Console, timeout_s: float = math.inf) -> Run:
    """Show a run until it ends or is paused, and return it as it is then.

    Raises: Unavailable if the API is away for a minute, or the run goes on after `timeout_s`; what `Client.run` raises.
    """
    states = _states(client, run_id, timeout_s)
    return _watch_bars(states, console) if console.is_terminal else _watch_lines(states, console)


@contextmanager
def transfer(console: Console, path: Path) -> Iterator[Report]:
    """Show an upload's progress; yields what `Client.upload_*` calls with the bytes sent and in all."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console) as bars:
        task = bars.add_task(f"upload {path.name}", total=path.stat().st_size)
        yield lambda sent, total: bars.update(task, completed=sent, total=total)


@contextmanager
def download(console: Console, name: str) -> Iterator[Report]:
    """Show an export's progress; yields what `Client.export` calls with the features that have come and all."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bars:
        task = bars.add_task(f"export {name}", total=None)

        def report(done: int, total: int) -> None:
            bars.update(task, completed=done, total=total if done else None)

        yield report
        bars.update(task, completed=bars.tasks[task].total or 1, total=bars.tasks[task].total or 1)


def _watch_bars(states: Iterator[Run], console: Console) -> Run:
    columns = (SpinnerColumn(), TextColumn("{task.description:<10}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TextColumn("{task.fields[pace]}"), console=console) as bars:
        tasks: dict[str, TaskID] = {}
        note: str | None = None
        for run in states:
            for stage in run.stages:
                if stage.stage not in tasks:
                    tasks[stage.stage] = bars.add_task(stage.stage, total=stage.units, pace="")
                said = describe(stage, datetime.now(UTC))
                bars.update(tasks[stage.stage], completed=stage.units_done, total=stage.units, pace=said)
            if run.note and run.note != note:
                bars.console.print(f"{run.state}: {run.note}", markup=False)
            note = run.note
    return run


def _watch_lines(states: Iterator[Run], console: Console) -> Run:
    said: dict[str, str] = {}
    for run in states:
        for stage in run.stages:
            # A line a quarter of a stage, not a line a second.
            quarter = f"{4 * stage.units_done // max(stage.units, 1)}/{stage.dead}"
            if stage.units_done and said.get(stage.stage) != quarter:
                said[stage.stage] = quarter
                text = f"{stage.stage}: {stage.units_done}/{stage.units}, {describe(stage, datetime.now(UTC))}"
                console.print(text, markup=False, highlight=False)
        if run.note and said.get("") != run.note:
            console.print(f"{run.state}: {run.note}", markup=False, highlight=False)
        said[""] = run.note or ""
    return run


def _states(client: "Client", run_id: UUID, timeout_s: float) -> Iterator[Run]:
    """Yield the run about once a second, its end included; the API may be away for a while."""
    answered = began = time.monotonic()
    while True:
        try:
            run = client.run(run_id)
        except Unavailable:
            if time.monotonic() - answered > _PATIENCE_S:
                raise
        else:
            answered = time.monotonic()
            yield run
            if run.state in RUN_OVER or run.state == "paused":
                return
            if answered - began > timeout_s:
                raise Unavailable(f"run {run_id} is {run.state} after {timeout_s:g} s; it goes on")
        time.sleep(POLL_S)
