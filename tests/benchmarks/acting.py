"""The output side: vocabulary projection, calibration with steered texts, batches of interventions."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from tests.benchmarks.measure import Row, at_most, faster, race
from tests.benchmarks.setting import SITE, beginnings, opened, random_tensors
from workers.dictionary import LoadedDictionary
from workers.methods.calibration import CURVE, TOLERANCE, calibrate, prompt_batch
from workers.methods.interventions import mean_norm
from workers.methods.prompts_neutral import CALIBRATION, DESCRIBE, SCORE
from workers.methods.steering import GenerationOptions, sample_tokens, steer
from workers.methods.vocabulary import Neighbours, Readout, normed_directions, project_vocabulary
from workers.subject import Edit

N = 64
_FEATURES = list(range(N))
_TARGETS = (0.25, -0.25, 0.5, -0.5)
_VOCABULARY_BLOCK = 1024  # features: the largest product of the plain side


def directions(n: int = N) -> Tensor:
    """Return the directions of the first n features."""
    return opened().dictionary.directions(torch.arange(n))


def added(direction: Tensor, alpha: float, n_rows: int) -> Edit:
    """Return the edit that adds one direction in all rows."""
    return Edit.add(SITE, direction.expand(n_rows, -1), torch.full((n_rows,), alpha))


# ------------------------------------------------------------------------------------------------ vocabulary projection


def vocabulary() -> Iterator[Row]:
    """Yield the speed of the projection of all features, lists included, against the matrix product alone."""
    subject, dictionary = opened()
    everyone = directions(dictionary.n_features)
    nobody = Neighbours(torch.full((len(everyone), 1), -1), torch.zeros(len(everyone), 1))
    readout = Readout(subject.norm_direction, subject.unembedding, subject.token_strings)
    hidden, unembedding = normed_directions(everyone, subject.norm_direction), subject.unembedding.float()

    def bare() -> None:
        product = torch.empty(_VOCABULARY_BLOCK, len(unembedding))
        for rows in torch.split(hidden, _VOCABULARY_BLOCK):
            torch.mm(rows, unembedding.T, out=product[: len(rows)])

    def ours() -> None:
        for _ in project_vocabulary(everyone, readout, nobody, k=50):
            pass

    seconds = race(ours, bare, rounds=5)
    yield faster("vocabulary projection", seconds, 0.70, "one dense product of the same size", len(everyone))


# ----------------------------------------------------------------------------------------- calibration, steered texts


def steering() -> Iterator[Row]:
    """Yield the speed of calibration and steered texts against one feature at a time."""
    subject, _ = opened()

    def ours() -> None:
        found = calibrate(subject, SITE, directions(), _TARGETS)
        steer(subject, SITE, directions(), found, _FEATURES, 0)

    def plain() -> None:
        for direction in directions():
            _plain_steering(direction)

    seconds = race(ours, plain, rounds=1)
    yield faster("calibration and steered texts", seconds, 10.0, "a plain loop with bisection", N)


def _plain_steering(direction: Tensor) -> None:
    """Find each target's strength by bisection in log r, then write the texts, those of one length together."""
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
    strengths = [0.0]
    for target in _TARGETS:
        sign = 1 if target > 0 else -1
        strengths.append(sign * scale * _bisect(partial(effect, sign=sign), abs(target)))
    prompts: dict[int, list[list[int]]] = defaultdict(list)
    for prompt in (*DESCRIBE[:3], *SCORE[:3]):
        ids = subject.tokenize(prompt.text)
        prompts[len(ids)].append([subject.sink_id, *ids])
    for alike in prompts.values():
        _plain_texts([ids for ids in alike for _ in strengths], direction, strengths * len(alike))


def _bisect(effect: Callable[[float], float], target: float) -> float:
    low, high = math.log(CURVE[0]), math.log(CURVE[-1])
    for _ in range(12):
        middle = (low + high) / 2
        value = effect(math.exp(middle))
        if abs(value - target) <= TOLERANCE * target:
            break
        low, high = (middle, high) if value < target else (low, middle)
    return math.exp(middle)


def _plain_texts(rows: list[list[int]], direction: Tensor, strengths: list[float]) -> None:
    subject, _ = opened()
    options, edit = GenerationOptions(), Edit.add(SITE, direction.expand(len(rows), -1), torch.tensor(strengths))
    decoded = subject.prefill(subject.batch(rows), edit)
    for _ in range(options.n_tokens - 1):
        ids = sample_tokens(decoded.logits, torch.rand(len(rows), dtype=torch.float64), options.temperature)
        decoded = subject.step(ids, decoded.cache, edit)


# ------------------------------------------------------------------------------------------------------------- batches


def batches() -> Iterator[Row]:
    """Yield the price of a batch of 256 rows of 256 different features against the same batch unsteered."""
    subject, _ = opened()
    rows = beginnings(256, 16)
    batch = subject.batch(rows)
    edit = Edit.add(SITE, directions(len(rows)), torch.ones(len(rows)))
    steered, bare = race(lambda: subject.hidden(batch, edit), lambda: subject.hidden(batch), rounds=5)
    yield at_most("a steered batch of 256 features", steered, bare, 1.3, "s", "the same batch unsteered")


def subsets() -> Iterator[Row]:
    """Yield the price of encoding an eighth of the features against an eighth of the price of all."""
    subject, dictionary = opened()
    encoder = dictionary.spec.encoder.model_copy(update={"kind": "relu", "k": None})
    spec = dictionary.spec.model_copy(update={"encoder": encoder})
    relu = LoadedDictionary(spec, subject, random_tensors(4096, torch.zeros(subject.d_model)))
    x = torch.randn(4096, subject.d_model)
    part, whole = race(lambda: relu.encode(x, torch.arange(512)), lambda: relu.encode(x, torch.arange(4096)), rounds=5)
    yield at_most("encode of 512 of 4,096 features", part, whole / 8, 1.5, "s", "an eighth of encoding all")
