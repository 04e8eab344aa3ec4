"""Calibration: how strongly a feature must be steered to move the output by a given KL divergence.

Strength is r = |α|·‖w‖ / mean‖residual‖ at the write layer. For each feature and sign the mean KL(clean ‖ steered) over
named prompts is measured at six strengths, then strengths for the targets are sought between them. All features share
the forwards. The intervention is the one that steered texts are generated with.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from schema.errors import InvalidInput
from schema.evidence import Calibration, CurvePoint, TargetReached
from schema.subjects import Site
from workers.batches import Batch
from workers.methods.interventions import CleanRun, check_directions, mean_norm, run_clean, run_steered
from workers.methods.prompts_neutral import CALIBRATION, NeutralPrompt
from workers.subject import Subject

N_TOKENS = 8
"""Counted tokens of every prompt, behind the sink."""
CURVE = tuple(0.02 * 250.0 ** (i / 5) for i in range(6))
"""Six geometric strengths from 0.02, below which bf16 noise of about 1e-3 nats hides the effect, to 5."""
TOLERANCE = 0.1
"""A target is reached within this share of it."""

_N_SECANT = 4  # rounds, after which the bracket is halved instead
_N_ROUNDS = 12  # 8 halvings of a bracket of factor 3 leave 0.4 % of r, a tenth of the tolerance
_TOKENS_AT_ONCE = 1024  # of a vocabulary: 4 MiB of logits for 16 probes; 8 ms a probe, 22 with all tokens at once
_INSET = 0.05  # a secant step stays this share of the bracket away from its ends


def calibrate(
    subject: Subject,
    site: Site,
    directions: Tensor,
    targets: Sequence[float],
    prompts: Sequence[NeutralPrompt] = CALIBRATION,
) -> list[Calibration]:
    """Return each direction's strength-effect curves and the strengths at which it reaches the KL targets.

    directions: (n, d) effective write directions.
    targets:    nats, positive for amplified and negative for suppressed, as in ±0.25.
    A target is reached within ±10 %; where the curve is not monotone the smallest strength counts. One that is out of
    reach (or any, of a direction of zeros) has `reached` False and stands at the strongest effect that was seen.
    Raises:     InvalidInput for a target of 0, ShapeMismatch, NotFinite, UnknownSite, OutOfMemory.
    """
    bad = [target for target in targets if not (math.isfinite(target) and target)]
    if bad:
        raise InvalidInput(f"kl_targets={bad}; must be finite and not 0")
    wide = check_directions(subject, directions)
    if not len(wide):
        return []
    batch = prompt_batch(subject, prompts)
    scale = Scale(wide, mean_norm(subject, site, batch))

    def measured() -> Curves:
        meter = _Meter(run_clean(subject, site, batch), scale)
        curves = _measure_curves(meter)
        _seek_targets(meter, curves, targets)
        return curves

    curves = subject.at_once.fit("tokens", batch.ids.numel(), measured)
    return [_record(scale, curves, feature, targets) for feature in range(len(wide))]


def scale_of(subject: Subject, site: Site, directions: Tensor) -> "Scale":
    """Return what strengths r of directions (n, d) mean at a write site, by the norm that calibrations go by.

    Raises: ShapeMismatch, NotFinite, UnknownSite.
    """
    wide = check_directions(subject, directions)
    return Scale(wide, mean_norm(subject, site, prompt_batch(subject, CALIBRATION)))


def prompt_batch(subject: Subject, prompts: Sequence[NeutralPrompt]) -> Batch:
    """Return the prompts behind a sink, cut to 8 tokens; shorter ones are padded, and padding is not counted."""
    return subject.batch([[subject.sink_id, *subject.tokenize(prompt.text)[:N_TOKENS]] for prompt in prompts])


# ------------------------------------------------------------------------------------------------------------ measuring


class Point(NamedTuple):
    """A strength r and its effect."""

    r: float
    kl_nats: float


class Curve(NamedTuple):
    """One feature's direction of steering: +1 amplifies, -1 suppresses."""

    feature: int
    sign: int


class Probe(NamedTuple):
    """A strength that is to be measured on a curve."""

    curve: Curve
    r: float


class Scale:
    """Between strengths r and α, for directions (n, d) in a residual stream of some mean norm."""

    def __init__(self, directions: Tensor, residual_norm: float) -> None:
        self.directions = directions
        self.residual_norm = residual_norm
        self._norms = directions.norm(dim=1).tolist()

    def r(self, feature: int, alpha: float) -> float:
        """Return the strength of an α, without its sign; 0 for a direction of zeros."""
        return abs(alpha) * self._norms[feature] / self.residual_norm if self.residual_norm > 0.0 else 0.0

    def alpha(self, curve: Curve, r: float) -> float:
        """Return α of a strength; 0 for a direction of zeros, which no α makes anything of."""
        norm = self._norms[curve.feature]
        return curve.sign * r * self.residual_norm / norm if norm > 0.0 else 0.0


class _Meter:
    """Measures KL(clean ‖ steered) in nats, the mean over counted positions, many probes at a time."""

    def __init__(self, clean: CleanRun, scale: Scale) -> None:
        self._clean = clean
        self.scale = scale
        # The clean run comes from the same shape of forward, so that no shift is no KL.
        (unsteered,) = run_steered(clean, scale.directions.new_zeros(1, scale.directions.shape[1]))
        logits = torch.cat([block[0] for block in self._logits(unsteered.hidden)], -1)
        self._p = torch.split(torch.softmax(logits, -1), _TOKENS_AT_ONCE, -1)
        self._entropy = self._cross_entropies(unsteered.hidden)[0]

    def measure(self, probes: Sequence[Probe]) -> list[float]:
        """Return the KL of each probe; NaN where the steered logits are not finite."""
        alphas = torch.tensor([self.scale.alpha(*probe) for probe in probes], device=self.scale.directions.device)
        features = torch.tensor([probe.curve.feature for probe in probes], device=alphas.device)
        vectors = alphas[:, None] * self.scale.directions[features]
        return [kl for steered in run_steered(self._clean, vectors) for kl in self._divergences(steered.hidden)]

    def _divergences(self, hidden: Tensor) -> list[float]:
        """Return the mean KL of each of the steered hidden states (n, C, T, d_model)."""
        per_position = self._cross_entropies(hidden) - self._entropy
        # Rounding may leave a tiny negative number; NaN passes clamp_min.
        return list(per_position.mean(1).clamp_min(0.0).tolist())

    def _cross_entropies(self, hidden: Tensor) -> Tensor:
        """Return Σ p · -log q (n, positions), float32, which is log Σ exp(logits) - Σ p · logits.

        Both sums are over blocks of the vocabulary: full logits, the largest thing here, never leave the cache.
        """
        normalisers, dots = [], []
        for p, logits in zip(self._p, self._logits(hidden), strict=True):
            normalisers.append(logits.logsumexp(-1))
            dots.append(torch.linalg.vecdot(p, logits))
        return torch.stack(normalisers).logsumexp(0) - torch.stack(dots).sum(0)

    def _logits(self, hidden: Tensor) -> Iterator[Tensor]:
        """Yield logits (n, positions, tokens), float32, at the counted positions, by blocks of the vocabulary."""
        counted = hidden[:, self._clean.batch.counted]
        # One shape however few vectors there are, so that a probe's KL does not depend on its neighbours.
        padded = functional.pad(counted, (0, 0, 0, 0, 0, self._clean.vectors_per_forward - len(counted)))
        for start in range(0, self._clean.subject.n_vocab, _TOKENS_AT_ONCE):
            tokens = slice(start, start + _TOKENS_AT_ONCE)
            yield self._clean.subject.unembed(padded, tokens)[: len(counted)]


Curves = Mapping[Curve, list[Point]]
"""Every curve's measured points, by strength."""


def _measure_curves(meter: _Meter) -> Curves:
    curves = [Curve(feature, sign) for feature in range(len(meter.scale.directions)) for sign in (1, -1)]
    points: Curves = {curve: [] for curve in curves}
    _add(points, meter, [Probe(curve, r) for curve in curves for r in CURVE])
    return points


def _add(curves: Curves, meter: _Meter, probes: Sequence[Probe]) -> None:
    for probe, kl in zip(probes, meter.measure(probes), strict=True):
        if math.isfinite(kl):
            points = curves[probe.curve]
            points.append(Point(probe.r, kl))
            points.sort()


# ------------------------------------------------------------------------------------------------------------ seeking


class Outcome(NamedTuple):
    """Where a target stands on a curve: the point that counts, or the next strength to measure."""

    point: Point
    reached: bool
    next_r: float | None = None


def seek(points: Sequence[Point], target: float, n_tried: int = 0) -> Outcome:
    """Return where a KL target (nats, positive) stands on measured points, which are in order of strength.

    The first point that reaches the target and the one before it are the bracket: so the smallest strength counts.
    Within it secant steps in log KL against log r (the slope is near 2), after `n_tried` ≥ 4 the bracket's middle.
    """
    strongest = max(points, key=lambda point: point.kl_nats, default=Point(0.0, 0.0))
    first = next((i for i, point in enumerate(points) if point.kl_nats >= target * (1 - TOLERANCE)), None)
    if first is None:
        return Outcome(strongest, reached=False)
    high = points[first]
    if high.kl_nats <= target * (1 + TOLERANCE):
        return Outcome(high, reached=True)
    # Below the weakest point KL goes with r²; a thousandth of its strength is far below any target.
    low = points[first - 1] if first else Point(high.r * 1e-3, high.kl_nats * 1e-6)
    step = 0.5 if n_tried >= _N_SECANT else _secant(low, high, target)
    nearer = high if first == 0 else min(low, high, key=lambda point: abs(math.log(max(point.kl_nats, 1e-9) / target)))
    return Outcome(nearer, reached=False, next_r=low.r * (high.r / low.r) ** step)


def _secant(low: Point, high: Point, target: float) -> float:
    """Return how far along the bracket, 0..1 in log r, a straight line in log KL crosses the target."""
    floor = math.log(max(low.kl_nats, 1e-9))
    step = (math.log(target) - floor) / (math.log(high.kl_nats) - floor)
    return min(max(step, _INSET), 1 - _INSET)


def _seek_targets(meter: _Meter, curves: Curves, targets: Iterable[float]) -> None:
    """Measure, round by round and for all features at once, what the targets still need; adds to the curves."""
    wanted = [(curve, abs(target)) for curve in curves for target in targets if target * curve.sign > 0]
    for n_tried in range(_N_ROUNDS):
        probes = {Probe(curve, r) for curve, target in wanted if (r := seek(curves[curve], target, n_tried).next_r)}
        if not probes:
            return
        _add(curves, meter, sorted(probes))


def _record(scale: Scale, curves: Curves, feature: int, targets: Sequence[float]) -> Calibration:
    amplified, suppressed = Curve(feature, 1), Curve(feature, -1)
    return Calibration(
        residual_norm=scale.residual_norm,
        amplified=_curve_points(scale, amplified, curves[amplified]),
        suppressed=_curve_points(scale, suppressed, curves[suppressed]),
        targets=tuple(_target(scale, curves, Curve(feature, 1 if target > 0 else -1), target) for target in targets),
    )


def _curve_points(scale: Scale, curve: Curve, points: Sequence[Point]) -> tuple[CurvePoint, ...]:
    grid = [point for point in points if point.r in CURVE]
    return tuple(CurvePoint(r=point.r, alpha=scale.alpha(curve, point.r), kl_nats=point.kl_nats) for point in grid)


def _target(scale: Scale, curves: Curves, curve: Curve, target: float) -> TargetReached:
    outcome = seek(curves[curve], abs(target))
    return TargetReached(
        target_kl_nats=target,
        alpha=scale.alpha(curve, outcome.point.r),
        r=outcome.point.r,
        achieved_kl_nats=outcome.point.kl_nats,
        reached=outcome.reached,
    )
