"""The output side's room: what the features of a block do to the output, and how alike they are to the pool."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch

from schema.evidence import AnyEvidence, Calibration, EvidenceKind
from schema.store import evidence
from workers import recipes
from workers.changing import Scene, changed_tokens, strengths_of
from workers.desk import Block, read_block
from workers.engine import Context, Outcome
from workers.methods.calibration import calibrate, prompt_batch
from workers.methods.prompts_neutral import CALIBRATION, DESCRIBE, SCORE
from workers.methods.steering import GenerationOptions, steer
from workers.methods.vocabulary import Readout, mean_direction, nearest_neighbours, project_vocabulary
from workers.opened import Opened, open_dictionary

N_NEIGHBOURS = 10


class Bench(NamedTuple):
    """What steering a block needs."""

    context: Context
    block: Block
    opened: Opened

    def directions(self, features: Sequence[int]) -> torch.Tensor:
        """Return effective write directions (n, d) of some features."""
        return self.opened.dictionary.directions(torch.tensor(features))


class Made(NamedTuple):
    """A kind of evidence by feature, and how many counted tokens of text the subject read for all of it."""

    rows: Mapping[int, AnyEvidence]
    n_tokens: int


def steer_block(context: Context) -> Outcome:
    """Return the block's vocabulary projections, calibrations, token changes and steered texts, as far as missing."""
    block = read_block(context)
    bench = Bench(context, block, open_dictionary(context, block.brief, block.corpus))
    context.progress.advance()
    _make(bench, "vocabulary", lambda features: _vocabulary(bench, features))
    _make(bench, "calibration", lambda features: _calibration(bench, features))
    _make(bench, "token_change", lambda features: _token_change(bench, features))
    _make(bench, "steered_texts", lambda features: _steered_texts(bench, features))
    context.progress.advance(len(block.indices))
    return Outcome(lambda connection: None, {"cosines": _cosines(bench)})


def _make(bench: Bench, kind: EvidenceKind, compute: Callable[[list[int]], Made]) -> None:
    """Compute and store a kind of evidence of those features of the block that lack it.

    Stored at once, not with the end of the job: written again it is the same, and the next kind reads it.
    """
    block, context = bench.block, bench.context
    recipe = recipes.evidence(kind, block.brief, block.corpus)
    with context.transaction() as connection:
        absent = evidence.missing(connection, block.brief.dictionary.id, kind, recipe, block.indices)
    if not absent:
        return
    started = time.monotonic()
    made = compute(absent)
    seconds = time.monotonic() - started
    fingerprint = bench.opened.subject.fingerprint
    provenance = recipes.provenance(kind, block.brief, block.corpus, fingerprint, seconds, made.n_tokens)
    context.progress.advance()
    with context.transaction() as connection:
        evidence.put(connection, block.brief.dictionary.id, kind, provenance, made.rows)


def _vocabulary(bench: Bench, features: list[int]) -> Made:
    subject, dictionary = bench.opened
    everyone = _all_directions(bench.opened)
    near = nearest_neighbours(everyone, torch.tensor(features), N_NEIGHBOURS)
    centred = dictionary.n_features >= recipes.CENTRED_FROM
    readout = Readout(
        subject.norm_direction,
        subject.unembedding,
        subject.token_strings,
        _centre(bench.opened) if centred else None,
    )
    k = bench.block.brief.spec.options.k_tokens
    made = project_vocabulary(bench.directions(features), readout, near, k=k)
    return Made(dict(zip(features, made, strict=True)), n_tokens=0)


def _calibration(bench: Bench, features: list[int]) -> Made:
    targets = [sign * target for target in bench.block.brief.spec.options.kl_targets for sign in (1, -1)]
    subject, dictionary = bench.opened
    made = calibrate(subject, dictionary.write_site, bench.directions(features), targets)
    n_tokens = int(prompt_batch(subject, CALIBRATION).counted.sum())
    return Made(dict(zip(features, made, strict=True)), n_tokens)


def _token_change(bench: Bench, features: list[int]) -> Made:
    scene = Scene(bench.context, bench.block.brief, bench.block.corpus, bench.opened)
    known = _calibrations(bench, features)
    strengths = strengths_of(scene, [known[feature] for feature in features])
    made = changed_tokens(scene, bench.directions(features), strengths)
    return Made(dict(zip(features, made, strict=True)), max(one.n_positions for one in made))


def _steered_texts(bench: Bench, features: list[int]) -> Made:
    subject, dictionary = bench.opened
    spec = bench.block.brief.spec
    known = _calibrations(bench, features)
    options = GenerationOptions(n_prompts=spec.options.n_steered_prompts, n_tokens=spec.options.n_steered_tokens)
    made = steer(
        subject,
        dictionary.write_site,
        bench.directions(features),
        [known[feature] for feature in features],
        features,
        spec.seed,
        options,
    )
    prompts = (*DESCRIBE[: options.n_prompts], *SCORE[: options.n_prompts])
    n_tokens = sum(len(subject.tokenize(prompt.text)) for prompt in prompts)
    return Made(dict(zip(features, made, strict=True)), n_tokens)


def _calibrations(bench: Bench, features: list[int]) -> dict[int, Calibration]:
    block = bench.block
    recipe = recipes.evidence("calibration", block.brief, block.corpus)
    with bench.context.transaction() as connection:
        return evidence.load(connection, block.brief.dictionary.id, Calibration, recipe, features)


def _cosines(bench: Bench) -> dict[str, list[float]]:
    """Return the cosine of each feature's direction to those of the pool, by position in the pool."""
    unit = torch.nn.functional.normalize
    own = unit(bench.directions(bench.block.indices).float(), dim=-1)
    pool = unit(bench.directions(bench.block.pooled).float(), dim=-1)
    rows = (own @ pool.T).cpu().tolist()
    return {
        str(feature): [round(cosine, 4) for cosine in row]
        for feature, row in zip(bench.block.indices, rows, strict=True)
    }


@lru_cache(maxsize=1)
def _all_directions(opened: Opened) -> torch.Tensor:
    return opened.dictionary.directions(torch.arange(opened.dictionary.n_features))


@lru_cache(maxsize=1)
def _centre(opened: Opened) -> torch.Tensor:
    return mean_direction(_all_directions(opened), opened.subject.norm_direction)
