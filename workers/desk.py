"""What every room of a run takes from the store before it computes: the brief, the corpus and the block's features."""

from typing import NamedTuple

from schema.errors import NotFound
from schema.stages import Stage
from schema.store import jobs, run_features
from schema.store.run_features import Brief, RunFeature
from workers.engine import Context


class Block(NamedTuple):
    """The features that a job is about, and the pool of its run."""

    brief: Brief
    corpus: str
    features: tuple[RunFeature, ...]
    pool: tuple[RunFeature, ...]

    @property
    def indices(self) -> list[int]:
        """Return the dictionary's indices of the block's features."""
        return [entry.feature for entry in self.features]

    @property
    def selected(self) -> list[int]:
        """Return the indices of those features that the run is about (others are only in the pool)."""
        return [entry.feature for entry in self.features if entry.selected]

    @property
    def pooled(self) -> list[int]:
        """Return the indices of the pool, by position."""
        return [entry.feature for entry in self.pool]


def read_brief(context: Context) -> Brief:
    """Return the brief of a job's run."""
    with context.transaction() as connection:
        return run_features.brief(connection, context.job.run_id)


def read_corpus(context: Context) -> str:
    """Return the sha256 of a run's corpus, as ingest found it."""
    with context.transaction() as connection:
        (found,) = jobs.results(connection, context.job.run_id, Stage.INGEST)
    if found.result is None:
        raise NotFound(f"run {context.job.run_id} has no finished ingest")
    return str(found.result["corpus"])


def read_block(context: Context) -> Block:
    """Return what a block's job is about."""
    brief, corpus, job = read_brief(context), read_corpus(context), context.job
    with context.transaction() as connection:
        features = run_features.block(connection, job.run_id, job.feature_lo, job.feature_hi)
        pool = run_features.pool(connection, job.run_id)
    return Block(brief, corpus, tuple(features), tuple(pool))
