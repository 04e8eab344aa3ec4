"""The graph of a run's jobs."""

from hypothesis import given
from hypothesis import strategies as st

from schema.graph import (
    FEATURES_PER_BLOCK,
    ROWS_PER_BLOCK,
    JobKey,
    block_jobs,
    blocks_of,
    features_per_block,
    initial_jobs,
    shards_of,
)
from schema.records import RunOptions, RunTerms
from schema.stages import Stage


def test_shards_grow_with_the_corpus() -> None:
    assert [shards_of(n) for n in (1, 2_000_000, 2_000_001)] == [1, 1, 2]


def test_the_merge_waits_for_every_shard() -> None:
    *_, merge = initial_jobs(3)
    assert [key.shard for key in merge.waits_for] == [0, 1, 2]


def test_a_block_is_one_batch_of_steered_texts_and_more_where_there_are_none() -> None:
    options = RunOptions(n_steered_prompts=3, kl_targets=(0.25, 0.5))
    rows = 2 * 3 * (1 + 4 * features_per_block(RunTerms(options=options)))  # unsteered ones, two targets, two signs
    assert ROWS_PER_BLOCK - 2 * 3 * 4 < rows <= ROWS_PER_BLOCK
    free = RunTerms(options=options, llm="none", evaluations=("free",))
    assert features_per_block(free) == FEATURES_PER_BLOCK


@given(st.lists(st.booleans(), min_size=1, max_size=40), st.integers(0, 40), st.integers(1, 9))
def test_blocks_cover_every_position_once_and_every_dependency_exists(
    selected: list[bool], n_pooled: int, size: int
) -> None:
    pooled = [position < n_pooled for position in range(len(selected))]
    blocks = blocks_of(selected, pooled, size)
    assert [position for block in blocks for position in range(block.lo, block.hi)] == list(range(len(selected)))
    jobs = block_jobs(blocks)
    known = {job.key for job in jobs}
    assert len(known) == len(jobs)
    assert all(key in known for job in jobs for key in job.waits_for)
    assert sum(job.units for job in jobs if job.key.stage == Stage.PUBLISH) == sum(selected)


def test_tests_of_a_block_wait_for_the_whole_pool() -> None:
    jobs = block_jobs(blocks_of([True] * 6, [True] * 4 + [False] * 2, size=2))
    waits = {job.key: job.waits_for for job in jobs}
    assert {key.block for key in waits[JobKey(Stage.ACTIVATE, 2)]} == {0, 1, 2}
    assert {key.block for key in waits[JobKey(Stage.RANK, 2)]} == {0, 1, 2}


def test_features_that_are_only_in_the_pool_are_written_for_without_a_ranking() -> None:
    jobs = {job.key: job for job in block_jobs(blocks_of([False, True], [True, True], size=1))}
    assert JobKey(Stage.RANK, 0) not in jobs
    assert jobs[JobKey(Stage.WRITE, 0)].waits_for == (JobKey(Stage.DESCRIBE, 0),)
    assert jobs[JobKey(Stage.WRITE, 1)].waits_for == (JobKey(Stage.RANK, 1),)


def test_one_report_waits_for_every_published_block() -> None:
    *_, report = block_jobs(blocks_of([True, False, True, True], [True, True, False, False], size=1))
    published = {key.block for key in report.waits_for}
    assert (report.key, published, report.units) == (JobKey(Stage.REPORT), {0, 2, 3}, 3)
    assert (report.feature_lo, report.feature_hi) == (0, 4)
