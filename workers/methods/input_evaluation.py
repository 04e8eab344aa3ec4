"""Input evaluation: does the feature fire on sentences that were written from its description alone?

The sentences and their activations (maximum over counted tokens) come from outside; the room does not know who
wrote them or how they were run. Source: arXiv 2501.08319 section 4; we add an AUROC with its interval, a signed
Gini, a measured control and held-out halves.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from schema.labels import Status
from workers.methods.statistics import (
    Measurement,
    Vector,
    auroc,
    auroc_estimate,
    bootstrap_mean,
    mean,
    measured,
    signed_gini,
    stream,
    unmeasured,
    wilson,
)


class SentenceActivations(NamedTuple):
    """One feature's largest activation in each sentence written from one description."""

    activating: Vector
    neutral: Vector

    @property
    def complete(self) -> bool:
        """Return whether both sides have a sentence."""
        return len(self.activating) > 0 and len(self.neutral) > 0


class SentenceHalves(NamedTuple):
    """Sentences that take part in the choice of a label, and those that it is reported with."""

    choose: SentenceActivations
    report: SentenceActivations


def halve_sentences(sentences: SentenceActivations, *, seed: int, feature: int) -> SentenceHalves:
    """Return the sentences of both sides in two disjoint halves; the odd one is reported.

    The halves depend on seed, feature and numbers of sentences only, so they are the same for all descriptions of a
    feature, and for the other features' sentences that control it.
    """
    sides = [_halve(np.asarray(side, dtype=np.float64), seed, feature, i) for i, side in enumerate(sentences)]
    return SentenceHalves(*(SentenceActivations(*half) for half in zip(*sides, strict=True)))


def _halve(values: Vector, seed: int, feature: int, side: int) -> tuple[Vector, Vector]:
    order = stream(seed, "sentences", feature, side).permutation(len(values))
    middle = len(values) // 2
    return values[np.sort(order[:middle])], values[np.sort(order[middle:])]


def succeeds(sentences: SentenceActivations) -> bool:
    """Return the paper's yes or no: is the mean over activating sentences strictly the larger one?

    Equal means fail, and with them a feature that is silent on all ten. The sums are exact, so that the same values
    in another order can't win by rounding.
    """
    return mean(sentences.activating) > mean(sentences.neutral)


def evaluate_input(
    own: SentenceActivations, others: Sequence[SentenceActivations], *, threshold: float, seed: int
) -> Measurement:
    """Return the AUROC of a feature between activating and neutral sentences, with control, lift and success.

    own:     activations on the sentences written from this feature's description.
    others:  the same feature's activations on the sentences written for (up to 20) other features. Control: the
             mean AUROC over them, resampled over features. Incomplete ones are left out.
    Details: gini, firing_share (activating sentences above the threshold), control_success_rate and its n, the
             activations themselves.
    Raises:  ValueError for activations that are not finite.
    """
    if not own.complete:
        return unmeasured(Status.NOT_APPLICABLE, _missing(own))
    estimate = auroc_estimate(own.activating, own.neutral)
    controls = [other for other in others if other.complete]
    areas = [auroc(other.activating, other.neutral) for other in controls]
    control = bootstrap_mean(areas, seed=seed, bounds=(0.0, 1.0)) if areas else None
    details = _describe(own, threshold) | {"gini": signed_gini(estimate.value)} | _control_rate(controls)
    return measured(estimate, control, details, success=succeeds(own))


def evaluate_dead_input(
    own: SentenceActivations, others: Sequence[SentenceActivations], *, threshold: float, seed: int
) -> Measurement:
    """Return `evaluate_input` of a feature that never fired in the corpus, when one of its sentences revives it.

    Otherwise the status is `dead`. Details: revived, beside what was measured.
    """
    activations = np.concatenate([own.activating, own.neutral])
    if not (activations > threshold).any():
        reason = f"never fired in the corpus, nor on {len(activations)} sentences written for it"
        return unmeasured(Status.DEAD, reason, {"revived": False})
    result = evaluate_input(own, others, threshold=threshold, seed=seed)
    return result._replace(details=result.details | {"revived": True})


def _missing(own: SentenceActivations) -> str:
    return f"{len(own.activating)} activating and {len(own.neutral)} neutral sentences; needs at least one of each"


def _describe(own: SentenceActivations, threshold: float) -> dict[str, object]:
    firing = int(np.count_nonzero(np.asarray(own.activating) > threshold))
    return {
        "firing_share": firing / len(own.activating),
        "threshold": threshold,
        "activating": [float(value) for value in own.activating],
        "neutral": [float(value) for value in own.neutral],
    }


def _control_rate(controls: Sequence[SentenceActivations]) -> dict[str, object]:
    if not controls:
        return {"n_controls": 0}
    rate = wilson(math.fsum(succeeds(other) for other in controls), len(controls))
    return {"n_controls": rate.n, "control_success_rate": rate.model_dump()}
