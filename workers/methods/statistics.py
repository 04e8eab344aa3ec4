"""Values with their 95 % intervals, and what is measured of a description.

Every interval here has a width where the sample says nothing against one: ten right of ten is not certainty, and a
percentile bootstrap of ten equal values would claim it. Nothing returns NaN: no values is a ValueError, and what
can't be measured is a `Measurement` with a status. The room does not know of features, sentences or judges.
"""

import math
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from schema.labels import Estimate, Score, ScoreKind, Status
from schema.records import Method

Vector = npt.NDArray[np.float64]
Values = Sequence[float] | npt.NDArray[np.floating]

Z = 1.959963984540054
"""The 97.5 % quantile of the normal distribution."""

N_RESAMPLES = 2000
_RESAMPLED_AT_ONCE = 1_000_000


class Measurement(NamedTuple):
    """What was measured, less whose it is; `status` other than `ok` has a reason and no estimate."""

    status: Status
    estimate: Estimate | None = None
    control: Estimate | None = None
    lift: Estimate | None = None
    success: bool | None = None
    reason: str | None = None
    details: dict[str, object] = {}  # noqa: RUF012  never mutated; a NamedTuple has no other default

    def score(
        self,
        feature: int,
        kind: ScoreKind,
        recipe: str,
        *,
        description_id: int | None = None,
        method: Method | None = None,
    ) -> Score:
        """Return the record of this measurement for a feature or one of its descriptions."""
        return Score(
            feature=feature,
            kind=kind,
            description_id=description_id,
            method=method,
            status=self.status,
            estimate=self.estimate,
            control=self.control,
            lift=None if self.lift is None else self.lift.value,
            lift_low=None if self.lift is None else self.lift.low,
            lift_high=None if self.lift is None else self.lift.high,
            success=self.success,
            reason=self.reason,
            details=self.details,
            recipe=recipe,
        )


def measured(
    estimate: Estimate, control: Estimate | None, details: dict[str, object], *, success: bool | None = None
) -> Measurement:
    """Return an `ok` measurement; its lift is the estimate less the control, when there is a control."""
    lift = None if control is None else difference(estimate, control)
    return Measurement(Status.OK, estimate, control, lift, success, None, details)


def unmeasured(status: Status, reason: str, details: dict[str, object] | None = None) -> Measurement:
    """Return a measurement that could not be made, and why."""
    if status is Status.OK:
        raise ValueError("status=ok; what could not be measured needs another status")
    return Measurement(status, reason=reason, details=details or {})


def stream(seed: int, purpose: str, *keys: int) -> np.random.Generator:
    """Return the random numbers of one purpose and key; other purposes and keys have others.

    seed, keys: whole numbers ≥ 0. A purpose always goes with the same number of keys.
    """
    return np.random.default_rng([seed, zlib.crc32(purpose.encode()), *keys])


def finite(values: Values, name: str = "values") -> Vector:
    """Return the values as a float64 vector (n,); ValueError for none, another shape, NaN or infinity."""
    vector = np.asarray(values, dtype=np.float64)
    if vector.ndim != 1 or not vector.size:
        raise ValueError(f"{name} has shape {vector.shape}; must be (n,) with n ≥ 1")
    if not np.isfinite(vector).all():
        raise ValueError(f"{name} has {np.count_nonzero(~np.isfinite(vector))} values that are NaN or infinite")
    return vector


def chance(value: float) -> Estimate:
    """Return a control that is known by definition: no interval, measured on nothing (n = 0)."""
    return Estimate(value=value, low=value, high=value, n=0)


def mean(values: Values) -> float:
    """Return the correctly rounded mean: it does not depend on the order of the values."""
    vector = finite(values)
    return math.fsum(vector.tolist()) / vector.size


def wilson(successes: float, n: int, *, n_independent: float | None = None) -> Estimate:
    """Return a share with Wilson's score interval.

    successes:     0..n; may be fractional (a tie between two counts half).
    n_independent: how many independent trials the n are worth, when they share something; n unless given.
    Source:        Wilson 1927. Its variance p(1-p) is the largest that values in [0, 1] can have.
    """
    worth = float(n) if n_independent is None else n_independent
    if n < 1 or not 0 <= successes <= n or not 0 < worth <= n:
        raise ValueError(f"{successes=}, {n=}, {n_independent=}; n ≥ 1, successes 0..n, n_independent above 0, up to n")
    share = successes / n
    spread = Z * math.sqrt(share * (1 - share) / worth + Z * Z / (4 * worth * worth))
    scale = 1 + Z * Z / worth
    centre = share + Z * Z / (2 * worth)
    low, high = (centre - spread) / scale, (centre + spread) / scale
    return Estimate(value=share, low=max(0.0, min(low, share)), high=min(1.0, max(high, share)), n=n)


def bootstrap_mean(
    values: Values, *, seed: int, n_resamples: int = N_RESAMPLES, bounds: tuple[float, float] | None = None
) -> Estimate:
    """Return the mean with its percentile bootstrap interval.

    values: (n,). When all are equal, resampling says nothing; with `bounds` (the range that a value can have) the
            interval then allows for the share of other values that n equal ones leave open (Wilson's upper bound of
            0 in n), at the bounds. Without bounds it is the value itself.
    """
    vector = finite(values)
    if np.ptp(vector) == 0:
        return _all_equal(float(vector[0]), vector.size, bounds)
    means = _resampled_means(vector, stream(seed, "bootstrap"), n_resamples)
    low, high = np.percentile(means, [2.5, 97.5])
    value = mean(vector)
    return Estimate(value=value, low=min(float(low), value), high=max(float(high), value), n=vector.size)


def _all_equal(value: float, n: int, bounds: tuple[float, float] | None) -> Estimate:
    lowest, highest = (value, value) if bounds is None else bounds
    if not lowest <= value <= highest:
        raise ValueError(f"{value=} lies outside {bounds=}")
    elsewhere = wilson(0, n).high
    return Estimate(
        value=value, low=value - (value - lowest) * elsewhere, high=value + (highest - value) * elsewhere, n=n
    )


def _resampled_means(vector: Vector, generator: np.random.Generator, n_resamples: int) -> Vector:
    rows = max(1, _RESAMPLED_AT_ONCE // vector.size)
    chunks = [min(rows, n_resamples - start) for start in range(0, n_resamples, rows)]
    return np.concatenate([vector[generator.integers(0, vector.size, (n, vector.size))].mean(axis=1) for n in chunks])


def difference(first: Estimate, second: Estimate) -> Estimate:
    """Return first - second with the interval that follows from both of theirs.

    The errors are taken as independent; where both were measured on the same texts they mostly agree in sign, and
    the interval is then too wide rather than too narrow. n is the first's.
    Source: Newcombe 1998 (method 10, squares added) and its generalisation, Zou and Donner 2008.
    """
    value = first.value - second.value
    below = math.hypot(first.value - first.low, second.high - second.value)
    above = math.hypot(first.high - first.value, second.value - second.low)
    return Estimate(value=value, low=value - below, high=value + above, n=first.n)


def balanced_accuracy(sensitivity: Estimate, specificity: Estimate) -> Estimate:
    """Return the mean of two independent shares with the interval that follows from theirs; n counts both sides.

    Source: Newcombe 1998 (method 10), for half a sum instead of a difference.
    """
    value = (sensitivity.value + specificity.value) / 2
    below = math.hypot(sensitivity.value - sensitivity.low, specificity.value - specificity.low) / 2
    above = math.hypot(sensitivity.high - sensitivity.value, specificity.high - specificity.value) / 2
    return Estimate(value=value, low=value - below, high=value + above, n=sensitivity.n + specificity.n)


def auroc(positive: Values, negative: Values) -> float:
    """Return the chance that a positive value exceeds a negative one; a tie counts half."""
    a, b = finite(positive, "positive"), np.sort(finite(negative, "negative"))
    twice = int(np.searchsorted(b, a, "left").sum()) + int(np.searchsorted(b, a, "right").sum())
    return twice / (2 * a.size * b.size)


def signed_gini(area: float) -> float:
    """Return 2·AUROC - 1: below 0 for a description that gets it backwards."""
    return 2 * area - 1


def auroc_estimate(positive: Values, negative: Values) -> Estimate:
    """Return the AUROC with its interval; n counts both sides.

    The bootstrap gives perfect separation of five from five an interval of no width; this one starts at 0.64.
    On normal values it covers the truth 95 % of the time for five against five, at worst 90 % for three against three.
    Source: Newcombe 2006, Statistics in Medicine 25:559, method 5 (the score interval of Hanley and McNeil's
            variance, with the mean of both sizes in place of each).
    """
    area = auroc(positive, negative)
    sizes = (len(positive), len(negative))
    low = 1 - _upper_area(1 - area, sizes)
    return Estimate(value=area, low=min(low, area), high=max(_upper_area(area, sizes), area), n=sum(sizes))


def _upper_area(area: float, sizes: tuple[int, int]) -> float:
    """Return the largest area that `area` is still within Z standard errors of, by bisection."""
    inside, outside = area, 1.0
    for _ in range(60):
        middle = (inside + outside) / 2
        if middle - area <= Z * math.sqrt(area_variance(middle, sizes)):
            inside = middle
        else:
            outside = middle
    return outside


def area_variance(area: float, sizes: tuple[int, int]) -> float:
    """Return the variance of an empirical AUROC on (m, n) values whose true value is `area`."""
    m, n = sizes
    pairs = 1 + ((m + n) / 2 - 1) * ((1 - area) / (2 - area) + area / (1 + area))
    return area * (1 - area) * pairs / (m * n)
