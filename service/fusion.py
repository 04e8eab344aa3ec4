"""Fusion: what several ways of searching found, as one list. Pure; knows no database and no HTTP."""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from schema.search import Found
from schema.store.search import Key

RANK_CONSTANT = 60
"""Of reciprocal rank fusion (Cormack, Clarke and Büttcher, SIGIR 2009)."""

Ranking = Sequence[tuple[Found, Key]]
"""What was found by words or by meaning, best first."""


class Fused(NamedTuple):
    """A feature that was found, by which ways, and the sum of its reciprocal ranks."""

    key: Key
    score: float
    why: tuple[Found, ...]


def fuse(rankings: Sequence[Ranking]) -> list[Fused]:
    """Return everything that was found, best first, by the sum of 1 / (60 + rank) over the rankings that have it.

    Of equals, that of the earlier ranking goes first.
    """
    scores: defaultdict[Key, float] = defaultdict(float)
    why: defaultdict[Key, list[Found]] = defaultdict(list)
    for ranking in rankings:
        for rank, (way, key) in enumerate(ranking, 1):
            scores[key] += 1 / (RANK_CONSTANT + rank)
            why[key].append(way)
    ordered = sorted(scores, key=lambda key: -scores[key])
    return [Fused(key, scores[key], tuple(why[key])) for key in ordered]
