"""Free scores: what can be said of a feature, or of a description by its embedding, without an LLM.

`free_input` and `free_output` score the feature itself; `embedding_auroc` scores a description. The control is always
another feature's token list or description, on the same contexts. Forward passes and embeddings come from outside.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from schema.evidence import Exemplars, TokenList, Window
from schema.labels import Estimate, Status
from workers.methods.statistics import (
    Measurement,
    Vector,
    auroc,
    auroc_estimate,
    bootstrap_mean,
    chance,
    measured,
    signed_gini,
    unmeasured,
    wilson,
)

N_TOKENS = 20
"""How many of the most promoted tokens count (3-evaluation: 20)."""

Matrix = npt.NDArray[np.floating]


def evaluate_free_input(
    exemplars: Exemplars, promoted: TokenList, others: Sequence[TokenList], *, seed: int
) -> Measurement:
    """Return the share of held-out exemplars whose peak token is among the feature's 20 most promoted tokens.

    others: promoted tokens of other features; the control is the mean share over them.
    Status: `dead` if it never fired, `too_rare` if no exemplar is held out.
    Source: Arad et al. 2025, the input score.
    """
    absent = _absent(exemplars)
    if absent is not None:
        return absent
    peaks = [window.tokens[window.peak] for window in exemplars.score.top]
    hits = _count_among(peaks, promoted)
    shares = [_count_among(peaks, other) / len(peaks) for other in others]
    return measured(wilson(hits, len(peaks)), _over_features(shares, seed), {"n_controls": len(shares)})


def _absent(exemplars: Exemplars) -> Measurement | None:
    if not exemplars.n_firing:
        return unmeasured(Status.DEAD, f"never fired in {exemplars.n_tokens} tokens")
    if not exemplars.score.top:
        return unmeasured(Status.TOO_RARE, f"fired on {exemplars.n_firing} tokens, none in the held-out half")
    return None


def _count_among(peaks: Sequence[str], tokens: TokenList) -> int:
    promoted = frozenset(tokens.tokens[:N_TOKENS])
    return sum(peak in promoted for peak in peaks)


def _over_features(values: Sequence[float], seed: int) -> Estimate | None:
    return bootstrap_mean(values, seed=seed, bounds=(0.0, 1.0)) if values else None


def output_score(logits: Matrix, ids: Sequence[int]) -> float:
    """Return (1 - best rank / V) · the highest probability, over the given tokens: 0..1.

    logits: (V,) of the next token. A token's rank is the number of tokens with a higher logit: 0 is the first.
    Source: Arad et al. 2025, the output score.
    """
    values = np.asarray(logits, dtype=np.float64)
    if values.ndim != 1 or not len(ids) or not np.isfinite(values).all():
        raise ValueError(f"logits {values.shape}, {len(ids)} tokens; must be finite (V,) and at least one token")
    best = values[list(ids)].max()
    rank = int(np.count_nonzero(values > best))
    top = values.max()
    probability = np.exp(best - top) / np.exp(values - top).sum()
    return float((1 - rank / values.size) * probability)


def evaluate_free_output(logits: Matrix, promoted: TokenList, others: Sequence[TokenList], *, seed: int) -> Measurement:
    """Return the output score of the feature's 20 most promoted tokens.

    logits: (n, V) of the next token after n neutral prompts (one by default) with the feature at 10x its maximum.
    others: promoted tokens of other features; the control is their mean score on the same logits.
    The interval is over prompts: from a single one it is wide, because one prompt says little of another.
    """
    rows = np.atleast_2d(np.asarray(logits))
    own = [output_score(row, promoted.ids[:N_TOKENS]) for row in rows]
    control = [float(np.mean([output_score(row, other.ids[:N_TOKENS]) for row in rows])) for other in others]
    estimate = bootstrap_mean(own, seed=seed, bounds=(0.0, 1.0))
    return measured(estimate, _over_features(control, seed), {"n_controls": len(control), "prompts": own})


class Contexts(NamedTuple):
    """Held-out contexts of a feature to embed: texts in which it fires, and texts in which it does not."""

    firing: tuple[str, ...]
    silent: tuple[str, ...]

    def halves(self) -> tuple["Contexts", "Contexts"]:
        """Return every other context of both sides, and the rest: for a ranking, and for what is reported after it."""
        choose, report = (Contexts(self.firing[start::2], self.silent[start::2]) for start in (1, 0))
        return choose, report


def held_out_contexts(exemplars: Exemplars) -> Contexts:
    """Return the held-out top exemplars, and the silent contexts and hard negatives, each context once."""
    held_out = exemplars.score
    return Contexts(_texts(held_out.top), _texts((*held_out.silent, *held_out.hard_negatives)))


def _texts(windows: Sequence[Window]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(window.text for window in windows))


def evaluate_embedding_auroc(
    description: Matrix, firing: Matrix, silent: Matrix, others: Sequence[Matrix], *, seed: int
) -> Measurement:
    """Return how well a description's embedding ranks contexts where the feature fires above those where it does not.

    description: (d,); firing: (n, d); silent: (m, d). Ranked by cosine.
    others:      (d,) each: other features' descriptions on the same contexts; the control is the mean over them, and
                 chance, 0.5, without any.
    Status:      `not_applicable` without contexts on either side.
    """
    if not len(firing) or not len(silent):
        reason = f"{len(firing)} contexts where it fires and {len(silent)} where it does not; needs one of each"
        return unmeasured(Status.NOT_APPLICABLE, reason)
    estimate = auroc_estimate(cosines(description, firing), cosines(description, silent))
    areas = [auroc(cosines(other, firing), cosines(other, silent)) for other in others]
    details: dict[str, object] = {
        "gini": signed_gini(estimate.value),
        "n_firing": len(firing),
        "n_silent": len(silent),
        "control_is": "measured" if areas else "chance",
    }
    return measured(estimate, _over_features(areas, seed) or chance(0.5), details)


def cosines(vector: Matrix, rows: Matrix) -> Vector:
    """Return the cosine of a vector (d,) to each row of (n, d); 0 to a row of zeros."""
    a, b = np.asarray(vector, dtype=np.float64), np.asarray(rows, dtype=np.float64)
    norms = np.linalg.norm(a) * np.linalg.norm(b, axis=1)
    result: Vector = np.divide(b @ a, norms, out=np.zeros(len(b)), where=norms != 0)
    return result
