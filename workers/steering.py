"""The output side's room: what the features of a block do to the output, and how alike they are to the pool."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch

from schema.evidence import AnyEvidence, Calibration, EvidenceKind
from schema.needs import kinds_made
from schema.store import evidence, run_features
from workers import recipes
from workers.changing import Scene, changed_tokens, strengths_of
from workers.desk import Block, load_evidence, read_block
from workers.engine import Context, Outcome
from workers.methods.calibration import calibrate, prompt_batch
from workers.methods.prompts_neutral import CALIBRATION, DESCRIBE, SCORE
from workers.methods.steering import GenerationOptions, steer
from workers.methods.vocabulary import Readout, mean_direction, nearest_neighbours, project_vocabulary
from workers.opened import Opened, open_dictionary

N_NEIGHBOURS = 10
PROJECTED_AT_ONCE = 1024
"""Features of a run whose vocabulary projections are made together: a product of many rows costs each of them least."""


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
    """Return what the block's features do to the output, in the kinds of evidence that the run makes."""
    block = read_block(context)
    bench = Bench(context, block, open_dictionary(context, block.brief, block.corpus))
    context.progress.advance()
    kinds = kinds_made(block.brief.spec)
    for kind, make in _MAKERS.items():
        if kind in kinds and (absent := _absent(bench, kind, block.indices)):
            _make(bench, kind, make, _absent(bench, kind, _beside(bench)) if kind == "vocabulary" else absent)
    context.progress.advance(len(block.indices))
    return Outcome(lambda connection: None, {"cosines": _cosines(bench)})


def _absent(bench: Bench, kind: EvidenceKind, features: Sequence[int]) -> list[int]:
    """Return those of some features that lack a kind of evidence."""
    block = bench.block
    recipe = recipes.evidence(kind, block.brief, block.corpus)
    with bench.context.transaction() as connection:
        return evidence.missing(connection, block.brief.dictionary.id, kind, recipe, features)


def _beside(bench: Bench) -> list[int]:
    """Return the features of the run that are projected together with the block's.

    What two workers project at the same time is the same. A part of a divided block goes alone: it may hold what kills.
    """
    job, block = bench.context.job, bench.block
    if len(block.features) == 1:
        return block.indices
    lo = job.feature_lo - job.feature_lo % PROJECTED_AT_ONCE
    hi = max(lo + PROJECTED_AT_ONCE, job.feature_hi)
    with bench.context.transaction() as connection:
        return [entry.feature for entry in run_features.block(connection, job.run_id, lo, hi)]


def _make(bench: Bench, kind: EvidenceKind, make: Callable[[Bench, list[int]], Made], features: list[int]) -> None:
    """Compute and store a kind of evidence of some features.

    Stored at once, not with the end of the job: written again it is the same, and the next kind reads it.
    """
    block, context = bench.block, bench.context
    started = time.monotonic()
    made = make(bench, features)
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


_MAKERS: dict[EvidenceKind, Callable[[Bench, list[int]], Made]] = {
    "vocabulary": _vocabulary,
    "calibration": _calibration,
    "token_change": _token_change,
    "steered_texts": _steered_texts,
}
"""In the order in which one reads the other."""


def _calibrations(bench: Bench, features: list[int]) -> dict[int, Calibration]:
    with bench.context.transaction() as connection:
        return load_evidence(connection, bench.block, Calibration, features)


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
