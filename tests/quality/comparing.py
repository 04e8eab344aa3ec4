"""Two arms feature by feature: shares with intervals, McNemar's test, and the interval of their difference."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import binomtest

from schema.labels import Estimate
from workers.methods.statistics import stream, wilson

_N_RESAMPLES = 10_000


class Compared(NamedTuple):
    """Success of two arms on the features that both were scored on.

    difference: first less second, with its 95 % percentile bootstrap over features.
    p:          McNemar's exact test, two-sided.
    only_first, only_second: features on which one of them succeeds.
    """

    n: int
    first: Estimate
    second: Estimate
    difference: Estimate
    only_first: int
    only_second: int
    p: float


def compare(first: Mapping[int, bool], second: Mapping[int, bool], *, seed: int = 0) -> Compared:
    """Return how two arms compare. Raises ValueError where they share no feature."""
    features = sorted(first.keys() & second.keys())
    if not features:
        raise ValueError("the arms share no feature that both were scored on")
    a = np.array([first[feature] for feature in features], dtype=float)
    b = np.array([second[feature] for feature in features], dtype=float)
    only_first, only_second = int(((a == 1) & (b == 0)).sum()), int(((a == 0) & (b == 1)).sum())
    n_discordant = only_first + only_second
    return Compared(
        n=len(features),
        first=wilson(float(a.sum()), len(a)),
        second=wilson(float(b.sum()), len(b)),
        difference=_difference(a - b, seed),
        only_first=only_first,
        only_second=only_second,
        p=float(binomtest(only_first, n_discordant).pvalue) if n_discordant else 1.0,
    )


def _difference(paired: np.ndarray, seed: int) -> Estimate:
    draws = stream(seed, "paired difference").integers(0, len(paired), (_N_RESAMPLES, len(paired)))
    low, high = np.percentile(paired[draws].mean(axis=1), [2.5, 97.5])
    return Estimate(value=float(paired.mean()), low=float(low), high=float(high), n=len(paired))


def rank_one(first: np.ndarray, second: np.ndarray) -> Estimate:
    """Return the share of rows of `second` (n, d) whose nearest row of `first` (n, d), both unit, is their own.

    A tie with another row counts as its part.
    """
    cosines = second @ first.T
    own = np.diag(cosines)[:, None]
    larger, equal = (cosines > own + 1e-6).sum(axis=1), (np.abs(cosines - own) <= 1e-6).sum(axis=1)
    return wilson(float(np.where(larger == 0, 1 / equal, 0.0).sum()), len(cosines))


def share(successes: Sequence[bool]) -> Estimate:
    """Return a share with its interval."""
    return wilson(float(sum(successes)), len(successes))
