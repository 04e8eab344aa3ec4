"""Steered texts: what the subject writes while a feature is amplified or suppressed.

`generate` continues any prompts under any added vectors; `steer` makes the two sets of texts of calibrated features.
The intervention is calibration's: α · w everywhere but at the sink. Sampling inverts the CDF at uniforms that depend
on what a row is and not on where it runs, and generation runs in batches of one fixed shape: with the same dtype,
device and shape the texts are the same, whatever the sharding or order of features.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from schema.errors import InvalidInput, ShapeMismatch
from schema.evidence import Calibration, SteeredText, SteeredTexts
from schema.subjects import Site
from workers.methods.interventions import check_directions, write_place
from workers.methods.prompts_neutral import DESCRIBE, SCORE, NeutralPrompt
from workers.methods.sampling import Key, uniform
from workers.subject import Edit, Subject

_ROWS_SAMPLED_AT_ONCE = 16  # of (rows, n_vocab) float32 probabilities, so that they stay in the processor's cache

UNSTEERED = 0.0
_NO_FEATURE = -1  # in the keys of unsteered texts, which belong to no feature


@dataclass(frozen=True)
class GenerationOptions:
    """How texts are generated. Results depend on every field; `n_rows` None is as many as fit the device."""

    n_prompts: int = 3
    n_tokens: int = 25
    temperature: float = 0.75
    n_rows: int | None = None

    def check(self) -> None:
        """Raise InvalidInput if a value is out of range."""
        largest = min(len(DESCRIBE), len(SCORE))
        if not 1 <= self.n_prompts <= largest:
            raise InvalidInput(f"n_prompts={self.n_prompts}; must be 1..{largest}")
        if self.n_tokens < 1 or not self.temperature > 0 or (self.n_rows is not None and self.n_rows < 1):
            raise InvalidInput(f"{self}; n_tokens and n_rows must be at least 1, temperature above 0")

    def rows_of(self, subject: Subject) -> int:
        """Return the number of rows in every batch."""
        fitting = subject.at_once.sizes.rows
        return min(self.n_rows or fitting, fitting)


@dataclass(frozen=True)
class Row:
    """One text to generate.

    prompt: token ids, without the sink.
    vector: (d,) float32, what is added at the write site: α · w; zeros for an unsteered text.
    keys:   name the row for the random numbers: equal keys draw the same uniforms.
    """

    prompt: tuple[int, ...]
    vector: Tensor
    keys: tuple[Key, ...]


# ---------------------------------------------------------------------------------------------------------- generation


def generate(subject: Subject, site: Site, rows: Sequence[Row], options: GenerationOptions) -> list[tuple[int, ...]]:
    """Return each row's new tokens, cut before the first special token, in the order of the rows.

    Raises: ShapeMismatch if vectors do not fit the site, UnknownSite, InvalidInput, OutOfMemory.
    """
    options.check()
    place = write_place(subject, site)
    return subject.at_once.fit("rows", 1, lambda: _generate_all(subject, place, rows, options))


def _generate_all(
    subject: Subject, place: Site, rows: Sequence[Row], options: GenerationOptions
) -> list[tuple[int, ...]]:
    size = options.rows_of(subject)
    texts: dict[int, tuple[int, ...]] = {}
    for numbers in _same_length(rows):
        for start in range(0, len(numbers), size):
            chosen = numbers[start : start + size]
            drawn = _generate_batch(subject, place, _padded([rows[i] for i in chosen], size), options)
            texts |= {i: _until_special(subject, drawn[j]) for j, i in enumerate(chosen)}
    return [texts[i] for i in range(len(rows))]


def _same_length(rows: Sequence[Row]) -> list[list[int]]:
    """Return the numbers of the rows, grouped by the length of their prompts: no row is ever padded on the left."""
    groups: dict[int, list[int]] = defaultdict(list)
    for i, row in enumerate(rows):
        groups[len(row.prompt)].append(i)
    return [groups[length] for length in sorted(groups)]


def _padded(rows: Sequence[Row], size: int) -> list[Row]:
    """Return the rows and unsteered dummies up to the fixed number of rows."""
    dummy = Row(rows[0].prompt, torch.zeros_like(rows[0].vector), ("dummy",))
    return [*rows, *[dummy] * (size - len(rows))]


def _generate_batch(subject: Subject, site: Site, rows: Sequence[Row], options: GenerationOptions) -> list[list[int]]:
    """Return the sampled tokens of each row, special ones and what follows them included."""
    batch = subject.batch([[subject.sink_id, *row.prompt] for row in rows])
    edit = Edit.add(site, torch.stack([row.vector for row in rows]), torch.ones(len(rows), device=subject.device))
    uniforms = _uniforms(rows, options.n_tokens).to(subject.device)
    decoded = subject.prefill(batch, edit)
    ids = sample_tokens(decoded.logits, uniforms[:, 0], options.temperature)
    drawn = [ids]
    for step in range(1, options.n_tokens):
        decoded = subject.step(ids, decoded.cache, edit)
        ids = sample_tokens(decoded.logits, uniforms[:, step], options.temperature)
        drawn.append(ids)
    return [list(row) for row in torch.stack(drawn, 1).tolist()]


def _uniforms(rows: Sequence[Row], n_steps: int) -> Tensor:
    """Return uniforms (rows, steps) float64, keyed by each row's keys and the step."""
    steps = torch.arange(n_steps)
    return torch.stack([uniform("steering", *row.keys, steps) for row in rows])


def sample_tokens(logits: Tensor, uniforms: Tensor, temperature: float) -> Tensor:
    """Return one token a row (rows,): the first whose cumulative probability exceeds the uniform.

    logits: (rows, n_vocab) float32; uniforms: (rows,) float64 in (0, 1). Equal arguments give equal tokens.
    """
    chunks = zip(*(torch.split(x, _ROWS_SAMPLED_AT_ONCE) for x in (logits, uniforms)), strict=True)
    return torch.cat([_invert(torch.softmax(part / temperature, -1), u) for part, u in chunks])


def _invert(probabilities: Tensor, uniforms: Tensor) -> Tensor:
    cdf = probabilities.cumsum(-1)
    # The last value is 1 but for rounding: goals relative to it always find a token, and one of probability > 0.
    goals = (uniforms[:, None] * cdf[:, -1:].double()).to(cdf.dtype)
    last = torch.searchsorted(cdf, cdf[:, -1:].contiguous())
    return torch.minimum(torch.searchsorted(cdf, goals, right=True), last).flatten()


def _until_special(subject: Subject, ids: Sequence[int]) -> tuple[int, ...]:
    end = next((i for i, token in enumerate(ids) if token in subject.special_ids), len(ids))
    return tuple(ids[:end])


# ------------------------------------------------------------------------------------------------------ steered texts


class _Text(NamedTuple):
    """What one row becomes: a text of a feature (by its place in the call, None if unsteered)."""

    half: str
    feature: int | None
    target: float
    prompt: NeutralPrompt


class _Written(NamedTuple):
    """A text as it is stored, and the half it belongs to."""

    half: str
    text: SteeredText


def steer(
    subject: Subject,
    site: Site,
    directions: Tensor,
    calibrations: Sequence[Calibration],
    features: Sequence[int],
    seed: int,
    options: GenerationOptions = GenerationOptions(),
) -> list[SteeredTexts]:
    """Return the describe and score texts of each feature: every reached target × prompt, then the unsteered ones.

    directions: (n, d) effective write directions; calibrations: n, on the same directions.
    features:   n indices in the dictionary; with the seed, target and prompt they key the random numbers.
    A target that was not reached has no text. Unsteered texts (target 0) are the same for every feature.
    Raises:     ShapeMismatch, NotFinite, UnknownSite, InvalidInput.
    """
    options.check()
    wide = check_directions(subject, directions)
    if not len(wide) == len(calibrations) == len(features):
        raise ShapeMismatch(f"directions, calibrations, features={len(wide), len(calibrations), len(features)}")
    if not len(wide):
        return []
    vectors = _vectors(wide, calibrations)
    texts = list(_plan(vectors, options.n_prompts))
    rows = [_row(subject, text, vectors, features, seed) for text in texts]
    written: dict[int | None, list[_Written]] = defaultdict(list)
    for text, ids in zip(texts, generate(subject, site, rows, options), strict=True):
        written[text.feature].append(_Written(text.half, _steered_text(subject, text, ids)))
    return [_halves([*written[feature], *written[None]]) for feature in range(len(wide))]


_Vectors = Mapping[tuple[int | None, float], Tensor]
"""What is added for (feature, target); unsteered is (None, 0)."""


def _vectors(directions: Tensor, calibrations: Sequence[Calibration]) -> _Vectors:
    vectors: dict[tuple[int | None, float], Tensor] = {(None, UNSTEERED): torch.zeros_like(directions[0])}
    for feature, calibration in enumerate(calibrations):
        for target in calibration.targets:
            if target.reached:
                vectors[feature, target.target_kl_nats] = target.alpha * directions[feature]
    return vectors


def _plan(vectors: _Vectors, n_prompts: int) -> Iterator[_Text]:
    for half, prompts in (("describe", DESCRIBE), ("score", SCORE)):
        for feature, target in vectors:
            for prompt in prompts[:n_prompts]:
                yield _Text(half, feature, target, prompt)


def _row(subject: Subject, text: _Text, vectors: _Vectors, features: Sequence[int], seed: int) -> Row:
    feature = _NO_FEATURE if text.feature is None else features[text.feature]
    keys: tuple[Key, ...] = (seed, text.half, feature, text.target, text.prompt.name)
    return Row(tuple(subject.tokenize(text.prompt.text)), vectors[text.feature, text.target], keys)


def _halves(written: Sequence[_Written]) -> SteeredTexts:
    describe, score = (tuple(one.text for one in written if one.half == half) for half in ("describe", "score"))
    return SteeredTexts(describe=describe, score=score)


def _steered_text(subject: Subject, text: _Text, ids: tuple[int, ...]) -> SteeredText:
    return SteeredText(target_kl_nats=text.target, prompt=text.prompt.text, text="".join(subject.pieces(ids)))
