"""Output evaluation: does a description tell a feature's steered texts from those of two other features?

A trial shows three sets of steered texts: the feature's own, and whole sets of two features of the pool that were
steered to the same targets. Any two of the three have |cosine| below 0.5, so none of them is the odd one out by
construction, and a judge that does not use the description is right one time in three. Two judges: sentence
embeddings on every pair, an LLM on a few (`llm_judge`). The room does not know where embeddings come from.

Source: arXiv 2501.08319 section 4; we differ in the distractors (theirs mix four features and can be told from the
real set without the description), in held-out halves, and in a control with a wrong feature's description.
"""

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from schema.evidence import Calibration, SteeredText
from schema.labels import Estimate, Status
from workers.methods.statistics import Measurement, Vector, chance, measured, stream, unmeasured, wilson

MAX_COSINE = 0.5
CHANCE = 1 / 3
FEWEST_TO_CENTRE = 8
"""Descriptions by a method from which on their mean is its wording rather than what a few of them mean."""
TIE = 1e-6
"""Scores (cosines in float32) closer than this are equal."""

Pair = tuple[int, int]
"""Two features of the pool, the lower index first."""

Matrix = npt.NDArray[np.floating]


# ------------------------------------------------------------------------------------------------------ sets of texts


class TextSet(NamedTuple):
    """The texts of one feature by KL target: positive amplifies, negative suppresses."""

    by_target: dict[float, tuple[str, ...]]

    @property
    def amplified(self) -> tuple[str, ...]:
        """Return the texts of positive targets, the largest first."""
        return self._texts(sorted((t for t in self.by_target if t > 0), reverse=True))

    @property
    def suppressed(self) -> tuple[str, ...]:
        """Return the texts of negative targets, the strongest first."""
        return self._texts(sorted(t for t in self.by_target if t < 0))

    def _texts(self, targets: Sequence[float]) -> tuple[str, ...]:
        return tuple(text for target in targets for text in self.by_target[target])


def reached_targets(calibration: Calibration, kl_targets: Sequence[float]) -> tuple[float, ...]:
    """Return the targets of either sign, among ±kl_targets, that the feature reached; smallest first.

    Empty means that its output can't be judged (status `unreachable`).
    """
    wanted = {abs(target) for target in kl_targets}
    reached = {t.target_kl_nats for t in calibration.targets if t.reached and abs(t.target_kl_nats) in wanted}
    return tuple(sorted(reached))


def text_set(texts: Sequence[SteeredText], targets: Sequence[float]) -> TextSet:
    """Return the texts at the targets, each target's ordered by prompt; ValueError if a target has none."""
    ordered = sorted(texts, key=lambda text: text.prompt)
    found = {target: tuple(t.text for t in ordered if t.target_kl_nats == target) for target in targets}
    missing = [target for target, at_target in found.items() if not at_target]
    if missing or not found:
        raise ValueError(f"no texts at the KL targets {missing}; a set needs some at every target")
    return TextSet(found)


# -------------------------------------------------------------------------------------------------------- distractors


@dataclass(frozen=True)
class Pool:
    """The features that distractors come from.

    features: (P,) indices. cosines: (P, P) between their directions. reached: the KL targets that each reached.
    """

    features: tuple[int, ...]
    cosines: Matrix
    reached: tuple[frozenset[float], ...]

    def __post_init__(self) -> None:
        n = len(self.features)
        if self.cosines.shape != (n, n) or len(self.reached) != n or len(set(self.features)) != n:
            raise ValueError(
                f"{n} features ({len(set(self.features))} different), cosines {self.cosines.shape}, "
                f"{len(self.reached)} sets of targets; they must fit each other"
            )

    def unlike(self, first: int, second: int) -> bool:
        """Return whether two features of the pool are dissimilar enough to stand in one trial."""
        place = self.features.index
        return bool(abs(self.cosines[place(first), place(second)]) < MAX_COSINE)


def eligible_distractors(feature: int, cosines: Vector, targets: Collection[float], pool: Pool) -> tuple[int, ...]:
    """Return the features of the pool, ascending, whose sets can stand beside this feature's.

    cosines: (P,) between the feature's direction and the pool's.
    targets: the KL targets that the feature's own set shows; a distractor reached every one of them.
    """
    if len(cosines) != len(pool.features):
        raise ValueError(f"{len(cosines)} cosines for a pool of {len(pool.features)}")
    unlike = (i for i, cosine in enumerate(cosines) if abs(cosine) < MAX_COSINE)
    fitting = (pool.features[i] for i in unlike if pool.reached[i].issuperset(targets))
    return tuple(sorted(i for i in fitting if i != feature))


class PairHalves(NamedTuple):
    """Pairs of distractors that take part in the choice of a label, and those that it is reported with."""

    choose: tuple[Pair, ...]
    report: tuple[Pair, ...]


def draw_pairs(seed: int, feature: int, eligible: Sequence[int], pool: Pool, *, n: int = 20) -> PairHalves:
    """Return up to n different pairs of distractors in two halves that share no feature.

    The eligible features are divided first, so that a distractor that happens to be easy can't help both the choice
    and the report. In each half every feature is used once before any is used again. With fewer than four eligible
    features nothing is left to choose with and all pairs are reported.
    """
    if n < 2:
        raise ValueError(f"{n=} pairs; must be at least 2, one for each half")
    generator = stream(seed, "pairs", feature)
    order = [int(i) for i in generator.permutation(sorted(eligible))]
    if len(order) < 4:
        return PairHalves((), _match(order, n, pool.unlike, generator))
    middle = len(order) // 2
    choose = _match(order[:middle], n // 2, pool.unlike, generator)
    return PairHalves(choose, _match(order[middle:], n - n // 2, pool.unlike, generator))


def _match(
    features: Sequence[int], n: int, fits: Callable[[int, int], bool], generator: np.random.Generator
) -> tuple[Pair, ...]:
    """Return up to n different pairs, from as many rounds of disjoint pairs as it takes; the least used come first."""
    pairs: list[Pair] = []
    while len(pairs) < n:
        uses = Counter(i for pair in pairs for i in pair)
        shuffled = [int(i) for i in generator.permutation(features)]
        found = _match_once(sorted(shuffled, key=lambda i: -uses[i]), frozenset(pairs), fits)
        if not found:
            break
        pairs += found
    return tuple(pairs[:n])


def _match_once(order: Sequence[int], used: frozenset[Pair], fits: Callable[[int, int], bool]) -> list[Pair]:
    """Return disjoint pairs that are not used yet, made from the end of the order on."""
    pairs, left = [], list(order)
    while left:
        first = left.pop()
        partners = (i for i in reversed(left) if fits(first, i) and (min(first, i), max(first, i)) not in used)
        partner = next(partners, None)
        if partner is not None:
            left.remove(partner)
            pairs.append((min(first, partner), max(first, partner)))
    return pairs


def draw_wrong(
    seed: int, feature: int, pairs: Sequence[Pair], described: Collection[int], neighbours: Collection[int]
) -> dict[Pair, int]:
    """Return for each pair the feature whose description is the control: outside the three sets and i's neighbours.

    described: features that have a description (of the same method, where there is one).
    A pair for which none is left has no control. Each is used once before any is used again.
    """
    allowed = sorted(set(described) - {feature} - set(neighbours))
    queue = [int(i) for i in stream(seed, "wrong", feature).permutation(allowed)]
    chosen: dict[Pair, int] = {}
    for pair in pairs:
        wrong = next((i for i in queue if i not in pair), None)
        if wrong is not None:
            queue.remove(wrong)
            queue.append(wrong)
            chosen[pair] = wrong
    return chosen


def independent_pairs(pairs: Sequence[Pair]) -> float:
    """Return how many independent trials the pairs are worth: as many as could be made without sharing a feature.

    For pairs that do share features this is on the safe side (Hoeffding 1948: the mean over all pairs of m things
    varies no more than the mean over m/2 disjoint ones).
    """
    return min(len(pairs), len({i for pair in pairs for i in pair}) / 2)


# ---------------------------------------------------------------------------------------------------- embedding judge


class EmbeddedSet(NamedTuple):
    """A TextSet as embeddings: amplified (na, d), suppressed (ns, d); one side may be empty."""

    amplified: Matrix
    suppressed: Matrix


def contrast(texts: EmbeddedSet) -> Vector:
    """Return what a set's amplified texts have that its suppressed texts have not: (d,).

    It is the mean of the unit vectors of one side less that of the other; its product with a description's unit
    vector is the mean cosine to the amplified texts less that to the suppressed ones.
    """
    sides = [_mean_unit(np.asarray(side, dtype=np.float64)) for side in texts]
    present = [sign * side for sign, side in zip((1.0, -1.0), sides, strict=True) if side is not None]
    if not present:
        raise ValueError("a set without texts can't be judged")
    total: Vector = np.sum(present, axis=0)
    return total


def _mean_unit(rows: Vector) -> Vector | None:
    if not len(rows):
        return None
    result: Vector = _unit(rows).mean(axis=0)
    return result


def _unit(rows: Vector) -> Vector:
    if not np.isfinite(rows).all():
        raise ValueError("an embedding is NaN or infinite")
    norms = np.linalg.norm(rows, axis=-1, keepdims=True)
    result: Vector = np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)
    return result


def wording(descriptions: Sequence[Vector]) -> Vector | float:
    """Return what other features' descriptions by one method have in common, to be taken from each: (d,).

    descriptions: unit embeddings, each (d,). "it finds words for …" or "fires on …; then promotes …" stands in all of a
    method's descriptions, is closer to some sets than to others, and says nothing of a feature. 0 for fewer than eight.
    """
    return np.mean(descriptions, axis=0) if len(descriptions) >= FEWEST_TO_CENTRE else 0.0


class EmbeddingChoice(NamedTuple):
    """Which sets are closest to a description: scores of all, and the places of the best (several when they tie)."""

    scores: tuple[float, ...]
    best: tuple[int, ...]

    def credit(self, place: int) -> float:
        """Return 1 for the only best set, 1/ties for one of several, 0 otherwise.

        It is what a fair draw among the tied sets earns on average; no draw is made, so no place is favoured.
        """
        return 1 / len(self.best) if place in self.best else 0.0


def embedding_choice(description: Matrix, contrasts: Sequence[Vector]) -> EmbeddingChoice:
    """Return how the sets with these contrasts (each (d,)) compare in closeness to a description's embedding (d,)."""
    scores = np.stack(contrasts) @ _unit(np.asarray(description, dtype=np.float64))
    best = np.flatnonzero(scores >= scores.max() - TIE)
    return EmbeddingChoice(tuple(float(s) for s in scores), tuple(int(i) for i in best))


def judge_pairs(
    description: Matrix, feature: int, pairs: Sequence[Pair], contrasts: Mapping[int, Vector]
) -> tuple[float, ...]:
    """Return for each pair whether the description's embedding chooses the feature's own set: 1, 0 or 1/ties."""
    return tuple(
        embedding_choice(description, [contrasts[feature], contrasts[a], contrasts[b]]).credit(0) for a, b in pairs
    )


def judge_wrong(
    descriptions: Mapping[int, Matrix], feature: int, wrong: Mapping[Pair, int], contrasts: Mapping[int, Vector]
) -> tuple[float, ...]:
    """Return for each pair of `wrong` whether the wrong feature's description chooses the feature's own set."""
    return tuple(judge_pairs(descriptions[other], feature, [pair], contrasts)[0] for pair, other in wrong.items())


def evaluate_output_embedding(
    pairs: Sequence[Pair], hits: Sequence[float], wrong: Mapping[Pair, int], wrong_hits: Sequence[float]
) -> Measurement:
    """Return the share of trials in which the embedding judge chose the feature's own set.

    pairs, hits:       the report half and `judge_pairs` on it.
    wrong, wrong_hits: `draw_wrong` on the same pairs and `judge_wrong` on it. Without any the control is chance, 1/3.
    Success:           right on more than half of the pairs (the paper has a single trial).
    Interval:          Wilson's, for as many trials as the pairs are worth (`independent_pairs`). Status
                       `not_applicable` without pairs.
    """
    if len(pairs) != len(hits) or len(wrong) != len(wrong_hits):
        raise ValueError(f"{len(hits)} hits on {len(pairs)} pairs, {len(wrong_hits)} on {len(wrong)} controls")
    if not pairs:
        return unmeasured(Status.NOT_APPLICABLE, "the pool has no two distractors that fit this feature")
    total = math.fsum(hits)
    details: dict[str, object] = {
        "pairs": [list(pair) for pair in pairs],
        "hits": list(hits),
        "wrong": list(wrong.values()),
        "wrong_hits": list(wrong_hits),
        "control_is": "measured" if wrong else "chance",
    }
    estimate = wilson(total, len(pairs), n_independent=independent_pairs(pairs))
    return measured(estimate, _wrong_rate(wrong, wrong_hits), details, success=total > len(pairs) / 2)


def _wrong_rate(wrong: Mapping[Pair, int], hits: Sequence[float]) -> Estimate:
    if not wrong:
        return chance(CHANCE)
    worth = min(independent_pairs(list(wrong)), len(set(wrong.values())))
    return wilson(math.fsum(hits), len(wrong), n_independent=worth)
