"""Which descriptions are worth the expensive tests: those that do best in tests that cost nothing.

Both facets count: a description that reads well and one that predicts steering are seldom the same, so the places are
given out by turns; a single one goes to the best of both together. The items are *choose* items; what is reported of a
survivor rests on others.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple


class Contestant(NamedTuple):
    """A description and how it did; None where it was not tested.

    input:   AUROC of its embedding between contexts where the feature fires and where it does not.
    output:  share of pairs in which the embedding judge chose the feature's own texts.
    """

    id: int
    text: str
    input: float | None
    output: float | None


def survivors(contestants: Sequence[Contestant], n: int | None) -> tuple[int, ...]:
    """Return the ids of n contestants, the best by output, by input, by output …; all of them if n is None.

    A single one is the one with the best places on both sides together, of equals the better by output. A side that was
    not tested comes last. Ties go to the shorter text, then to the first in the alphabet; the order
    of the contestants makes no difference.
    """
    ranks = [_ranked(contestants, lambda one: one.output), _ranked(contestants, lambda one: one.input)]
    if n == 1:
        return tuple(one.id for one in sorted(ranks[0], key=lambda one: sum(rank.index(one) for rank in ranks))[:1])
    chosen: dict[int, None] = {}
    for place in range(len(contestants)):
        for ranking in ranks:
            if n is None or len(chosen) < n:
                chosen[ranking[place].id] = None
    return tuple(chosen)


def _ranked(contestants: Sequence[Contestant], value: Callable[[Contestant], float | None]) -> list[Contestant]:
    def key(one: Contestant) -> tuple[bool, float, int, str, int]:
        known = value(one)
        return known is None, -(known or 0.0), len(one.text), one.text, one.id

    return sorted(contestants, key=key)
