"""Many features' scores as few figures, each with its 95 % interval over the features.

Trials of one feature share its texts and its label, so they are worth less than their number; features are what a run
draws. Scores that are not `ok` are counted and take no part. The room does not know where scores are kept.
"""

import math
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from schema.labels import Estimate, Score, ScoreKind, Status
from schema.reports import Control, LabelStatus, Summary
from workers.methods.statistics import Values, Z, bootstrap_mean, finite, mean, wilson

RESAMPLED_UP_TO = 2000
"""Features. Of more, resampling would cost seconds a figure and give what the normal interval gives."""

_VALUES = (0.0, 1.0)  # every kind of score
_LIFTS = (-1.0, 1.0)
CHANCE: dict[ScoreKind, float] = {"output": 1 / 3, "output_llm": 1 / 3}
"""Of kinds whose controls are right by luck alone: one set of three."""


def share_over(successes: Values) -> Estimate | None:
    """Return the share of features that succeed (1 or 0 each) with Wilson's interval; None of none."""
    return wilson(math.fsum(successes), len(successes)) if len(successes) else None


def mean_over(values: Values, bounds: tuple[float, float], *, seed: int) -> Estimate | None:
    """Return the mean over features with its interval; None of none.

    Of values that are all at one bound or the other it is a share, with Wilson's interval: resampling 3 ones of 20
    says [0.00, 0.30]. Else resampled over features up to RESAMPLED_UP_TO; above, and unless all are equal, the normal
    interval that the bootstrap's converges to, within the bounds.
    """
    if not len(values):
        return None
    vector = finite(values)
    lowest, highest = bounds
    if np.isin(vector, bounds).all():
        found = wilson(float((vector == highest).sum()), vector.size)
        width = highest - lowest
        ends = {name: lowest + getattr(found, name) * width for name in ("value", "low", "high")}
        return Estimate(**ends, n=vector.size)
    if vector.size <= RESAMPLED_UP_TO or np.ptp(vector) == 0:
        return bootstrap_mean(vector, seed=seed, bounds=bounds)
    value, spread = mean(vector), Z * float(vector.std(ddof=1)) / math.sqrt(vector.size)
    low, high = max(bounds[0], value - spread), min(bounds[1], value + spread)
    return Estimate(value=value, low=low, high=high, n=vector.size)


class Tally:
    """One kind of score, feature after feature: how many have which status, and the figures of those that are `ok`."""

    def __init__(self, kind: ScoreKind) -> None:
        self.kind = kind
        self.statuses: Counter[LabelStatus] = Counter()
        self._successes, self._values, self._lifts, self._controls = (array("d") for _ in range(4))

    def add(self, score: Score) -> None:
        """Take in the score of one feature."""
        self.statuses[score.status] += 1
        if score.status != Status.OK or score.estimate is None:
            return
        self._values.append(score.estimate.value)
        if score.success is not None:
            self._successes.append(score.success)
        if score.lift is not None:
            self._lifts.append(score.lift)
        control = _control_success(score) if self.kind == "input" else _control_value(score)
        if control is not None:
            self._controls.append(control)

    def miss(self, status: LabelStatus) -> None:
        """Count a feature that has no score of this kind, and why."""
        self.statuses[status] += 1

    def summary(self, seed: int) -> Summary:
        """Return the figures."""
        return Summary(
            kind=self.kind,
            statuses=dict(self.statuses.most_common()),
            success=share_over(self._successes),
            value=mean_over(self._values, _VALUES, seed=seed),
            lift=mean_over(self._lifts, _LIFTS, seed=seed),
        )

    def control(self, seed: int) -> Control | None:
        """Return the mean of what was measured as the features' controls, or None where nothing was."""
        rate = mean_over(self._controls, _VALUES, seed=seed)
        if rate is None:
            return None
        chance = CHANCE.get(self.kind)
        return Control(
            kind=self.kind,
            figure="success" if self.kind == "input" else "value",
            rate=rate,
            chance=chance,
            contains_chance=None if chance is None else rate.low <= chance <= rate.high,
        )


def _control_success(score: Score) -> float | None:
    """Return how often a feature succeeds on sentences that were written for others."""
    rate = score.details.get("control_success_rate")
    return float(rate["value"]) if isinstance(rate, Mapping) else None


def _control_value(score: Score) -> float | None:
    """Return a control that was measured; chance by definition has n = 0 and says nothing of this run."""
    return score.control.value if score.control is not None and score.control.n else None


class Lows(NamedTuple):
    """The lower bounds of a label's lifts; None where it was not measured."""

    feature: int
    input: float | None
    output: float | None

    @property
    def total(self) -> float:
        """Return the sum over the sides that were measured."""
        return (self.input or 0.0) + (self.output or 0.0)


class Extremes(NamedTuple):
    """The features with the largest totals, largest first, and those with the smallest, smallest first."""

    n_ranked: int
    best: tuple[Lows, ...]
    worst: tuple[Lows, ...]


def extremes(lows: Sequence[Lows], n: int) -> Extremes:
    """Return the n best and the n worst features; no feature is both, and of equals the lower index is the better.

    A feature takes part if it was measured on every side on which any was: a sum of two does not compare with one.
    """
    by_input, by_output = (any(low[side] is not None for low in lows) for side in (1, 2))
    whole = [
        low
        for low in lows
        if (by_input or by_output)
        and (low.input is not None or not by_input)
        and (low.output is not None or not by_output)
    ]
    ordered = sorted(whole, key=lambda low: (-low.total, low.feature))
    return Extremes(len(whole), tuple(ordered[:n]), tuple(reversed(ordered[n:][-n:])))
