"""Which description becomes the label.

Descriptions compete on *choose* items: the pairs of distractors and the sentences that were set aside for it. What is
shown of the winner is measured elsewhere, on *report* items (`evaluate_input` and `evaluate_output_embedding` on the
report halves), so that being the luckiest of several does not look like being good. An LLM judge never chooses. A
human's label is outside this room.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from schema.labels import Status
from workers.methods.input_evaluation import SentenceActivations, SentenceHalves
from workers.methods.output_evaluation import CHANCE
from workers.methods.statistics import N_RESAMPLES, Vector, auroc, finite, mean, stream

PERCENTILE = 5.0
_SAME = 9
"""Statistics that agree to this many decimals are tied."""


class HitHalves(NamedTuple):
    """`judge_pairs` of one description on the choose and on the report pairs (1, 0 or 1/ties each)."""

    choose: tuple[float, ...]
    report: tuple[float, ...]


class Candidate(NamedTuple):
    """One description of a feature, as far as it was tested.

    sentences: the feature's activations on the sentences written from it, halved; None if there are none.
    controls:  the feature's activations on other features' sentences, halved the same way.
    hits:      the embedding judge; the pairs are the same for all candidates. None if it was not judged.
    """

    text: str | None
    status: Status
    sentences: SentenceHalves | None = None
    controls: tuple[SentenceHalves, ...] = ()
    hits: HitHalves | None = None


class Standing(NamedTuple):
    """How a candidate stands on choose items: value, and 5th percentile of the bootstrap, by facet and summed.

    `input` is the AUROC less its control, `output` the share of pairs judged right. A side that was not tested
    counts as what a description that says nothing earns there (0 and 1/3, with luck's spread), and is None here.
    """

    candidate: int
    value: float
    low: float
    input: float | None
    input_low: float | None
    output: float | None
    output_low: float | None


class Choice(NamedTuple):
    """The winner and its rivals, as indices of candidates.

    status: `ok`; `unreported` if the winner has no report items; that of the candidates if none is `ok`.
    """

    winner: int | None
    status: Status
    best_input: int | None
    best_output: int | None
    standings: tuple[Standing, ...]


def choose(candidates: Sequence[Candidate], *, seed: int, n_resamples: int = N_RESAMPLES) -> Choice:
    """Return the candidate with the highest 5th percentile of its choose statistic, and the best of each facet.

    The statistic is the share of choose pairs judged right plus the AUROC on choose sentences less its control. It
    is resampled over pairs and over sentences, the same ones for every candidate. Ties go to the shorter text, then
    to the first in the alphabet. The order of the candidates makes no difference.
    """
    runners = [i for i, candidate in enumerate(candidates) if candidate.status is Status.OK]
    if not runners:
        return Choice(None, _common_status(candidates), None, None, ())
    if any(not candidates[i].text for i in runners):
        raise ValueError("a candidate with status ok has no text")
    standings = _standings({i: candidates[i] for i in runners}, seed, n_resamples)
    texts = {i: candidates[i].text or "" for i in runners}
    winner = _first({s.candidate: s.low for s in standings}, texts)
    return Choice(
        winner,
        Status.OK if _reported(candidates[winner]) else Status.UNREPORTED,
        _first_tested({s.candidate: s.input_low for s in standings}, texts),
        _first_tested({s.candidate: s.output_low for s in standings}, texts),
        standings,
    )


def _common_status(candidates: Sequence[Candidate]) -> Status:
    """Return the commonest status, the first of the enumeration among equals; `not_applicable` of none."""
    counts = Counter(candidate.status for candidate in candidates)
    return max(Status, key=lambda status: counts[status]) if counts else Status.NOT_APPLICABLE


def _first(lows: dict[int, float], texts: dict[int, str]) -> int:
    return min(lows, key=lambda i: (-round(lows[i], _SAME), len(texts[i]), texts[i], i))


def _first_tested(lows: dict[int, float | None], texts: dict[int, str]) -> int | None:
    tested = {i: low for i, low in lows.items() if low is not None}
    return _first(tested, texts) if tested else None


def _reported(candidate: Candidate) -> bool:
    by_sentences = candidate.sentences is not None and candidate.sentences.report.complete
    return by_sentences or (candidate.hits is not None and len(candidate.hits.report) > 0)


# ------------------------------------------------------------------------------------------------------------ bootstrap


class _Side(NamedTuple):
    """One facet's statistic: on the items as they are, and on each resample (R,)."""

    value: float
    resampled: Vector

    @property
    def low(self) -> float:
        return float(np.percentile(self.resampled, PERCENTILE))


class _Draws(NamedTuple):
    """Uniform numbers (R, items) that pick the items of each resample; the same for every candidate."""

    pairs: Vector
    activating: Vector
    neutral: Vector


def _standings(runners: dict[int, Candidate], seed: int, n_resamples: int) -> tuple[Standing, ...]:
    draws = _draw(list(runners.values()), seed, n_resamples)
    return tuple(_stand(i, _input(c, draws), _output(c, draws), draws) for i, c in runners.items())


def _draw(candidates: Sequence[Candidate], seed: int, n_resamples: int) -> _Draws:
    pairs = {len(c.hits.choose) for c in candidates if c.hits is not None}
    if len(pairs) > 1:
        raise ValueError(f"candidates with {sorted(pairs)} choose pairs; all are judged on the same ones")
    halves = [c.sentences.choose for c in candidates if c.sentences is not None]
    generator = stream(seed, "choose")
    sizes = (max(pairs, default=0), *(max((len(h[side]) for h in halves), default=0) for side in (0, 1)))
    return _Draws(*(generator.random((n_resamples, size)) for size in sizes))


def _stand(candidate: int, by_input: _Side | None, by_output: _Side | None, draws: _Draws) -> Standing:
    sides = by_input or _lucky_input(draws), by_output or _lucky_output(draws)
    total = _Side(sides[0].value + sides[1].value, sides[0].resampled + sides[1].resampled)
    return Standing(
        candidate,
        total.value,
        total.low,
        None if by_input is None else by_input.value,
        None if by_input is None else by_input.low,
        None if by_output is None else by_output.value,
        None if by_output is None else by_output.low,
    )


def _lucky_input(draws: _Draws) -> _Side:
    """Return what sentences earn that have nothing to do with the feature: its spread is that of luck alone.

    Without the spread an untested description would beat one that was tested and found a little better than chance.
    """
    if not draws.activating.shape[1] or not draws.neutral.shape[1]:
        return _Side(0.0, np.zeros(len(draws.pairs)))
    above = draws.activating[:, :, None] > draws.neutral[:, None, :]
    return _Side(0.0, above.mean(axis=(1, 2)) - 0.5)


def _lucky_output(draws: _Draws) -> _Side:
    """Return what a judge earns that guesses, over as many pairs."""
    if not draws.pairs.shape[1]:
        return _Side(CHANCE, np.full(len(draws.pairs), CHANCE))
    guessed: Vector = (draws.pairs < CHANCE).mean(axis=1)
    return _Side(CHANCE, guessed)


def _output(candidate: Candidate, draws: _Draws) -> _Side | None:
    if candidate.hits is None or not candidate.hits.choose:
        return None
    hits = finite(candidate.hits.choose, "hits")
    return _Side(mean(hits), hits[_pick(draws.pairs, len(hits))].mean(axis=1))


def _input(candidate: Candidate, draws: _Draws) -> _Side | None:
    if candidate.sentences is None or not candidate.sentences.choose.complete:
        return None
    own = candidate.sentences.choose
    controls = [c.choose for c in candidate.controls if c.choose.complete]
    control = mean([auroc(c.activating, c.neutral) for c in controls]) if controls else 0.5
    return _Side(auroc(own.activating, own.neutral) - control, _resampled_auroc(own, draws) - control)


def _resampled_auroc(own: SentenceActivations, draws: _Draws) -> Vector:
    """Return the AUROC of every resample (R,): each side's sentences are drawn for themselves."""
    above = np.sign(np.subtract.outer(finite(own.activating), finite(own.neutral))) / 2 + 0.5
    rows = _pick(draws.activating, len(own.activating))
    columns = _pick(draws.neutral, len(own.neutral))
    result: Vector = above[rows[:, :, None], columns[:, None, :]].mean(axis=(1, 2))
    return result


def _pick(uniform: Vector, n: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Return n indices below n for every resample: (R, n); the same uniforms give the same indices."""
    return (uniform[:, :n] * n).astype(np.int64)
