"""Calibration and steered texts, against the loop that one writes first and against one that batches a feature's texts.

Both loops go through one feature at a time: the same curve, bisection for each target by whole forwards with full
logits over all calibration prompts, then the same texts with cached keys and values. They differ in the texts only: one
text at a time, or all of a feature's with prompts of one length together. Unsteered texts, which all features share,
are made by ours alone. The loops run on a few features; their speed a feature does not depend on how many there are.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from tests.benchmarks.acting import N, added, directions
from tests.benchmarks.measure import Row, faster, reported, timed
from tests.benchmarks.setting import SITE, opened
from workers.methods.calibration import CURVE, TOLERANCE, calibrate, prompt_batch
from workers.methods.interventions import mean_norm
from workers.methods.prompts_neutral import CALIBRATION, DESCRIBE, SCORE
from workers.methods.steering import GenerationOptions, sample_tokens, steer
from workers.subject import Edit

_TARGETS = (0.25, -0.25, 0.5, -0.5)
_N_PLAIN = 4  # features that the loops are measured on: one text at a time takes half a minute a feature


class _Text(NamedTuple):
    """What a loop writes: the prompt's tokens behind the sink, and the strength."""

    ids: list[int]
    alpha: float


def steering() -> Iterator[Row]:
    """Yield the speed of calibration and steered texts against both loops; only the first has a bound."""
    ours_s = timed(_ours).seconds
    name, few = "calibration and steered texts", f"({_N_PLAIN} of the {N} features)"
    first_s = timed(lambda: _loop(_one_by_one)).seconds * N / _N_PLAIN
    yield faster(name, (ours_s, first_s), 10.0, f"a plain loop, one text at a time {few}", N)
    batched_s = timed(lambda: _loop(_batched)).seconds * N / _N_PLAIN
    yield reported(name, (ours_s, batched_s), f"a loop that batches a feature's texts {few}", N)


def _ours() -> None:
    subject, _ = opened()
    found = calibrate(subject, SITE, directions(), _TARGETS)
    steer(subject, SITE, directions(), found, list(range(N)), 0)


def _loop(write: Callable[[list[_Text], Tensor], None]) -> None:
    subject, _ = opened()
    prompts = [[subject.sink_id, *subject.tokenize(prompt.text)] for prompt in (*DESCRIBE[:3], *SCORE[:3])]
    for direction in directions(_N_PLAIN):
        strengths = _strengths(direction)
        write([_Text(ids, alpha) for ids in prompts for alpha in strengths], direction)


def _one_by_one(texts: list[_Text], direction: Tensor) -> None:
    for text in texts:
        _write([text], direction)


def _batched(texts: list[_Text], direction: Tensor) -> None:
    alike: dict[int, list[_Text]] = defaultdict(list)
    for text in texts:
        alike[len(text.ids)].append(text)
    for together in alike.values():
        _write(together, direction)


def _strengths(direction: Tensor) -> list[float]:
    """Return α of every target, found by bisection in log r after the curve."""
    subject, _ = opened()
    batch = prompt_batch(subject, CALIBRATION)
    scale = mean_norm(subject, SITE, batch) / float(direction.norm())
    clean = torch.log_softmax(subject.unembed(subject.hidden(batch))[batch.counted], -1)

    def effect(r: float, sign: int) -> float:
        hidden = subject.hidden(batch, added(direction, sign * r * scale, batch.n_rows))
        steered = torch.log_softmax(subject.unembed(hidden)[batch.counted], -1)
        return float((clean.exp() * (clean - steered)).sum(-1).mean())

    for sign in (1, -1):
        for r in CURVE:
            effect(r, sign)
    signs = {target: 1 if target > 0 else -1 for target in _TARGETS}
    return [sign * scale * _bisect(partial(effect, sign=sign), abs(target)) for target, sign in signs.items()]


def _bisect(effect: Callable[[float], float], target: float) -> float:
    low, high = math.log(CURVE[0]), math.log(CURVE[-1])
    for _ in range(12):
        middle = (low + high) / 2
        value = effect(math.exp(middle))
        if abs(value - target) <= TOLERANCE * target:
            break
        low, high = (middle, high) if value < target else (low, middle)
    return math.exp(middle)


def _write(texts: list[_Text], direction: Tensor) -> None:
    subject, _ = opened()
    options = GenerationOptions()
    alphas = torch.tensor([text.alpha for text in texts])
    edit = Edit.add(SITE, direction.expand(len(texts), -1), alphas)
    decoded = subject.prefill(subject.batch([text.ids for text in texts]), edit)
    for _ in range(options.n_tokens - 1):
        ids = sample_tokens(decoded.logits, torch.rand(len(texts), dtype=torch.float64), options.temperature)
        decoded = subject.step(ids, decoded.cache, edit)
