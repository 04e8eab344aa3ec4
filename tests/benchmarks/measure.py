"""One row of the table, and how two sides are timed."""

import time
from collections.abc import Callable
from typing import NamedTuple


class Row(NamedTuple):
    """A measured ratio. `ours` and `other` are in `unit`; the ratio is said in `meaning`."""

    name: str
    ours: float
    other: float
    ratio: float
    unit: str
    target: str
    met: bool
    meaning: str


def race(ours: Callable[[], object], other: Callable[[], object], *, rounds: int) -> tuple[float, float]:
    """Return the best seconds of each side over rounds that take turns: what disturbs them only ever adds."""
    best = [float("inf"), float("inf")]
    for _ in range(rounds):
        for side, run in enumerate((ours, other)):
            started = time.perf_counter()
            run()
            best[side] = min(best[side], time.perf_counter() - started)
    return best[0], best[1]


def faster(name: str, seconds: tuple[float, float], least: float, against: str, work: float) -> Row:
    """Return a row for a speed, `work` units a run, that is to be at least `least` times the other side's."""
    ours, other = seconds
    ratio = other / ours
    speeds = work / ours, work / other
    return Row(name, *speeds, ratio, "1/s", f">= {least:g}", ratio >= least, f"speed against {against}")


def at_most(name: str, ours: float, other: float, most: float, unit: str, against: str) -> Row:
    """Return a row for a quantity that is to be at most `most` times the other side's."""
    ratio = ours / other
    return Row(name, ours, other, ratio, unit, f"<= {most:g}", ratio <= most, f"against {against}")
