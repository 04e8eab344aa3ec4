"""What two runs or two methods say of the same features, summed up and put in order. Values in, values out."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from statistics import fmean, stdev
from typing import NamedTuple, get_args

from markupsafe import Markup

from schema.comparisons import RunChange
from schema.labels import Estimate
from schema.store.contrasts import Contrast
from service.pages.diffing import word_diff
from service.pages.rendering import spoken

SHOWN = 25
"""Contrasts on a page."""
FEWEST = 5
"""Pairs that say anything of a mean."""
_ALIKE = 0.4
"""Of the words of two texts."""
_COMPARED = 200


class Crossed(NamedTuple):
    """On how many features both sides succeed, only one, or neither: where both have a yes or no."""

    both: int
    only_before: int
    only_after: int
    neither: int


class Paired(NamedTuple):
    """A facet of the features on which both sides were measured: how much the lift grew, and who succeeds."""

    facet: str
    difference: Estimate | None
    crossed: Crossed

    @property
    def is_clear(self) -> bool:
        """Return whether the interval leaves out that nothing changed."""
        return self.difference is not None and (self.difference.low > 0 or self.difference.high < 0)


class Summed(NamedTuple):
    """What became of the labels, and what of their lifts; `n_silent` features have no label of either side."""

    n: int
    n_silent: int
    changes: dict[RunChange, int]
    paired: tuple[Paired, ...]


def sum_up(contrasts: Sequence[Contrast]) -> Summed:
    """Return counts by change and paired differences of both facets."""
    said = _said(contrasts)
    counted = Counter(one.change for one in said)
    changes: dict[RunChange, int] = {change: counted[change] for change in get_args(RunChange)}
    n_silent = len(contrasts) - len(said)
    return Summed(len(said), n_silent, changes, tuple(_paired(contrasts, facet) for facet in ("input", "output")))


def biggest_first(contrasts: Iterable[Contrast], changes: Sequence[RunChange] = ()) -> list[Contrast]:
    """Return contrasts by their larger difference of lifts, then those without one; all but `same` unless given."""
    wanted = set(changes or get_args(RunChange)) - (set() if changes else {"same"})
    order = {change: place for place, change in enumerate(get_args(RunChange))}
    found = [one for one in _said(contrasts) if one.change in wanted]
    return sorted(found, key=lambda one: (-one.distance, order[one.change], one.feature))


def word_changes(old: str, new: str) -> Markup:
    """Return a text with what changed of an older one; as it is where little of that is left: marks would hide it."""
    one, other = (text.split()[:_COMPARED] for text in (old, new))
    kept = SequenceMatcher(None, one, other, autojunk=False).ratio()
    return word_diff(old, new) if kept >= _ALIKE else spoken(new)


def mean_difference(values: Sequence[float]) -> Estimate | None:
    """Return the mean of paired differences with its 95 % interval by Student's t; None of fewer than five."""
    n = len(values)
    if n < FEWEST:
        return None
    mean, reach = fmean(values), _t975(n - 1) * stdev(values) / math.sqrt(n)
    return Estimate(value=mean, low=mean - reach, high=mean + reach, n=n)


def _said(contrasts: Iterable[Contrast]) -> list[Contrast]:
    return [one for one in contrasts if one.before is not None or one.after is not None]


def _paired(contrasts: Iterable[Contrast], facet: str) -> Paired:
    sides = [(getattr(one.before, facet, None), getattr(one.after, facet, None)) for one in contrasts]
    both = [(old, new) for old, new in sides if old is not None and new is not None]
    counted = Counter((old.success, new.success) for old, new in both)
    crossed = Crossed(*(counted[said] for said in ((True, True), (True, False), (False, True), (False, False))))
    return Paired(facet, mean_difference([new.value - old.value for old, new in both]), crossed)


_EXACT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


def _t975(freedom: int) -> float:
    """Return the 97.5th percentile of Student's t: from a table, and beyond it by Fisher's expansion to 1e-3."""
    if freedom <= len(_EXACT):
        return _EXACT[freedom - 1]
    z = 1.959964
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
