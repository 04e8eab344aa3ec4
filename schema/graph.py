"""The jobs of a run and what each waits for: pure functions from sizes to rows.

Corpus shards → one merge → blocks of features, each block by itself (steering → describe → rank → write → activate →
judge → publish), so that the first labels appear early. Tests of a block also wait for the pool: controls and
distractors come from it. One report waits for all blocks.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from schema.needs import kinds_made
from schema.records import RunTerms
from schema.stages import Stage

N_CONTROL_FEATURES = 20  # 3-evaluation, "Controls": sentences that were written for 20 other features
BYTES_PER_SHARD = 2_000_000  # about half a minute of corpus for a small subject on two cores
ROWS_PER_BLOCK = 160  # steered texts: one batch of generation on a CPU
FEATURES_PER_BLOCK = 32  # where nothing is steered


class JobKey(NamedTuple):
    """What names a job within its run."""

    stage: Stage
    block: int = 0
    shard: int = 0


class NewJob(NamedTuple):
    """A job to be written. `units` are features, or shards, for progress."""

    key: JobKey
    feature_lo: int = 0
    feature_hi: int = 0
    units: int = 1
    waits_for: tuple[JobKey, ...] = ()


class Block(NamedTuple):
    """A range of positions of a run's features."""

    number: int
    lo: int
    hi: int
    pooled: bool
    n_selected: int


def shards_of(n_bytes: int) -> int:
    """Return how many shards a corpus of n_bytes is read in."""
    return max(1, -(-n_bytes // BYTES_PER_SHARD))


def initial_jobs(n_shards: int) -> list[NewJob]:
    """Return the jobs that a run starts with: ingest, the corpus shards, and the merge that makes the rest."""
    ingest = JobKey(Stage.INGEST)
    shards = [JobKey(Stage.EXEMPLARS, 0, shard) for shard in range(n_shards)]
    return [
        NewJob(ingest),
        *(NewJob(key, waits_for=(ingest,)) for key in shards),
        NewJob(JobKey(Stage.MERGE), waits_for=tuple(shards)),
    ]


def features_per_block(terms: RunTerms) -> int:
    """Return how many features' steered texts, describe and score ones, fill a batch beside the unsteered ones.

    Where no texts are steered, as many as make a job of about half a minute on two cores.
    """
    if "steered_texts" not in kinds_made(terms):
        return FEATURES_PER_BLOCK
    options = terms.options
    halves = 2 * options.n_steered_prompts
    of_feature = halves * 2 * len(options.kl_targets)
    return max(1, (ROWS_PER_BLOCK - halves) // max(of_feature, 1))


def blocks_of(selected: Sequence[bool], pooled: Sequence[bool], size: int) -> list[Block]:
    """Return the blocks of a run's positions, of at most `size` and about equal; none mixes the pool and the rest."""
    blocks: list[Block] = []
    n_pooled = sum(pooled)
    for start, stop in ((0, n_pooled), (n_pooled, len(selected))):
        n = -(-(stop - start) // size)
        for i in range(n):
            lo, hi = (start + (stop - start) * j // n for j in (i, i + 1))
            blocks.append(Block(len(blocks), lo, hi, start == 0, sum(selected[lo:hi])))
    return blocks


def block_jobs(blocks: Iterable[Block]) -> list[NewJob]:
    """Return the jobs of all blocks, and the report of the run.

    Features that are only in the pool are steered, described and written for.
    """
    blocks = list(blocks)
    pool = [block.number for block in blocks if block.pooled]
    return [*(job for block in blocks for job in _jobs_of(block, pool)), _report(blocks)]


def _report(blocks: Sequence[Block]) -> NewJob:
    """Return the job of a run's report; its positions are those of all blocks."""
    published = tuple(JobKey(Stage.PUBLISH, block.number) for block in blocks if block.n_selected)
    n_selected = sum(block.n_selected for block in blocks)
    return NewJob(JobKey(Stage.REPORT), 0, max(block.hi for block in blocks), n_selected, published)


def _jobs_of(block: Block, pool: Sequence[int]) -> list[NewJob]:
    def key(stage: Stage, number: int = block.number) -> JobKey:
        return JobKey(stage, number)

    def job(stage: Stage, units: int, *waits_for: JobKey) -> NewJob:
        return NewJob(key(stage), block.lo, block.hi, units, tuple(dict.fromkeys(waits_for)))

    size = block.hi - block.lo
    made = [
        job(Stage.STEERING, size),
        job(Stage.DESCRIBE, size, key(Stage.STEERING)),
    ]
    if not block.n_selected:
        return [*made, job(Stage.WRITE, size, key(Stage.DESCRIBE))]
    described = [key(Stage.DESCRIBE, number) for number in pool]
    written = [key(Stage.WRITE, number) for number in pool]
    return [
        *made,
        job(Stage.RANK, block.n_selected, key(Stage.DESCRIBE), *described),
        job(Stage.WRITE, size, key(Stage.RANK)),
        job(Stage.ACTIVATE, block.n_selected, key(Stage.WRITE), *written),
        job(Stage.JUDGE, block.n_selected, key(Stage.ACTIVATE)),
        job(Stage.PUBLISH, block.n_selected, key(Stage.JUDGE)),
    ]
