"""One row of the table, and how two sides are timed."""

import time
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")


class Row(NamedTuple):
    """A measured ratio. `ours` and `other` are in `unit`; the ratio is said in `meaning`.

    met: None where there is no target, only a figure that belongs beside another one.
    """

    name: str
    ours: float
    other: float
    ratio: float
    unit: str
    target: str
    met: bool | None
    meaning: str


class Timed(NamedTuple, Generic[T]):
    """The seconds that something took, and what came of it."""

    seconds: float
    made: T


def timed(run: Callable[[], T]) -> Timed[T]:
    """Return what running something once took and gave."""
    started = time.perf_counter()
    made = run()
    return Timed(time.perf_counter() - started, made)


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


def reported(name: str, seconds: tuple[float, float], against: str, work: float) -> Row:
    """Return a row for a speed that is said, without a bound."""
    return faster(name, seconds, 0.0, against, work)._replace(target="none", met=None)


def at_most(name: str, ours: float, other: float, most: float, unit: str, against: str) -> Row:
    """Return a row for a quantity that is to be at most `most` times the other side's."""
    ratio = ours / other
    return Row(name, ours, other, ratio, unit, f"<= {most:g}", ratio <= most, f"against {against}")
