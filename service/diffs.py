"""Schedules and what they changed, as a person reads it in a terminal. Values in, rich renderables out."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import TypeVar, get_args
from zoneinfo import ZoneInfo

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from schema.comparisons import RunDifference
from schema.schedules import Change, FeatureDiff, LabelState, Reason, Refresh, Schedule
from service.render import printable

_FIRST: tuple[Change, ...] = ("changed", "new", "lost", "rescored", "edited", "same")
K = TypeVar("K", bound=str)
D = TypeVar("D", FeatureDiff, RunDifference)

_STYLES: Mapping[str, str] = {"new": "green", "lost": "red", "changed": "yellow"}


def schedules_table(schedules: Iterable[Schedule]) -> Table:
    """Return schedules as a table."""
    table = Table("schedule", "name", "dictionary", "features", "cron", "next")
    for schedule in schedules:
        spec = schedule.spec
        features = spec.run.features if len(spec.run.features) <= 30 else spec.run.features[:29] + "…"
        table.add_row(
            str(schedule.id)[:8],
            Text(printable(spec.name)),
            str(spec.run.dictionary_id)[:8],
            Text(features),
            f"{spec.cron} {spec.time_zone}",
            "paused" if schedule.next_slot is None else _at(schedule.next_slot, spec.time_zone),
        )
    return table


def refreshes_table(refreshes: Iterable[Refresh], time_zone: str) -> Table:
    """Return what the slots of a schedule led to as a table; times are in the schedule's zone."""
    table = Table("refresh", "slot", "state", "run", "stale because", "what changed", "note")
    for refresh in refreshes:
        table.add_row(
            str(refresh.id)[:8],
            _at(refresh.slot, time_zone),
            refresh.state,
            "" if refresh.run_id is None else str(refresh.run_id)[:8],
            counts(refresh.reasons, get_args(Reason)),
            counts(refresh.changes, _FIRST),
            Text(printable(_note(refresh))),
        )
    return table


def diff(refresh: Refresh, items: Iterable[FeatureDiff], time_zone: str) -> RenderableType:
    """Return a diff: one line in all, then a row a feature, old above new."""
    rows = list(items)
    summary = Text(summary_of(refresh, time_zone))
    if not rows:
        return summary
    return Group(summary, _table("because", [(row, f"{row.reason}\n{row.change or 'not over'}") for row in rows]))


def run_diff(items: Iterable[RunDifference]) -> Table:
    """Return what two runs said of the same features: a row a feature, old above new."""
    return _table("change", [(item, item.change) for item in items])


def _table(why: str, rows: Iterable[tuple[D, str]]) -> Table:
    table = Table("feature", why, "label: old, then new", "status", "input\nlift", "output\nlift", show_lines=True)
    for item, said in rows:
        old, new = item.before, item.after
        style = _STYLES.get(item.change or "", "")
        table.add_row(
            str(item.feature),
            said,
            Text("\n").join([Text(_label(old)), Text(_label(new), style=style)]),
            _two(old, new, lambda state: state.status),
            _two(old, new, lambda state: _lift(state.input_lift)),
            _two(old, new, lambda state: _lift(state.output_lift)),
        )
    return table


def summary_of(refresh: Refresh, time_zone: str) -> str:
    """Return what a refresh did, in one line."""
    slot = _at(refresh.slot, time_zone)
    if refresh.state == "nothing":
        return f"{slot}: nothing was stale, so there was no run"
    if refresh.n_features is None:
        return f"{slot}: {refresh.state}" + (f" ({printable(_note(refresh))})" if _note(refresh) else "")
    left = (refresh.n_stale or 0) - refresh.n_features
    more = f", {left} more wait for the next" if left else ""
    because = counts(refresh.reasons, get_args(Reason))
    became = counts(refresh.changes, _FIRST) or "not over yet"
    return f"{slot}: {refresh.state}; {refresh.n_features} features ({because}){more}: {became}"


def counts(found: Mapping[K, int], order: Iterable[K]) -> str:
    """Return counts in words, in an order: `14 changed, 3 new`."""
    return ", ".join(f"{found[name]} {name}" for name in order if found.get(name))


def _note(refresh: Refresh) -> str:
    missed = f"{refresh.n_missed} earlier slots were missed" if refresh.n_missed else ""
    return "; ".join(part for part in (refresh.note, missed) if part)


def _at(time: datetime, time_zone: str) -> str:
    return time.astimezone(ZoneInfo(time_zone)).strftime("%Y-%m-%d %H:%M %Z")


def _label(state: LabelState | None) -> str:
    return "–" if state is None or state.label is None else printable(state.label)


def _two(old: LabelState | None, new: LabelState | None, show: Callable[[LabelState], str]) -> str:
    return "\n".join("–" if state is None else show(state) for state in (old, new))


def _lift(value: float | None) -> str:
    return "–" if value is None else f"{value:+.2f}"
