"""What every room of a run takes from the store before it computes: the brief, the corpus and the block's features."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple
from uuid import UUID

from schema.errors import NotFound
from schema.labels import Description
from schema.needs import kinds_made
from schema.stages import Stage
from schema.store import descriptions, evidence, jobs, run_features
from schema.store.database import Connection
from schema.store.evidence import E
from schema.store.run_features import Brief, RunFeature
from workers import recipes
from workers.engine import Context
from workers.methods.selection import HitHalves


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


def load_evidence(connection: Connection, block: Block, record: type[E], features: Sequence[int]) -> dict[int, E]:
    """Return the evidence of one kind that some features have under this run's recipe; of a kind that it makes."""
    kind = evidence.kind_of(record)
    if kind not in kinds_made(block.brief.spec):
        return {}
    recipe = recipes.evidence(kind, block.brief, block.corpus)
    return evidence.load(connection, block.brief.dictionary.id, record, recipe, features)


def described(context: Context, block: Block, numbers: Iterable[int]) -> dict[int, list[Description]]:
    """Return the descriptions that this run has of the features of some blocks, in the order of its methods.

    Revisions are those of the job's own block: those of others may not be made yet.
    """
    with context.transaction() as connection:
        ids = described_ids(connection, block.brief.run_id, numbers, [context.job.block])
        loaded = descriptions.load(connection, [id_ for of_one in ids.values() for id_ in of_one])
    return {feature: [loaded[id_] for id_ in of_one] for feature, of_one in ids.items()}


def described_ids(
    connection: Connection, run_id: UUID, numbers: Iterable[int], revised: Iterable[int]
) -> dict[int, list[int]]:
    """Return the ids of the descriptions that a run has of the features of some blocks, in the order of its methods.

    Revisions are those of the blocks `revised`.
    """
    finished = jobs.results(connection, run_id, Stage.DESCRIBE, list(numbers))
    parts = [job.result["descriptions"] for job in finished if job.result]
    for job in jobs.results(connection, run_id, Stage.RANK, list(revised)):
        ranked_features = job.result["features"] if job.result else {}
        parts.append({feature: left["refined"] for feature, left in ranked_features.items()})
    ids: dict[int, list[int]] = {}
    for part in parts:
        for feature, of_one in part.items():
            ids.setdefault(int(feature), []).extend(of_one)
    return ids


class Ranking(NamedTuple):
    """What the embedding judge left of a feature, by the ids of its descriptions.

    hits:       of those that were judged: on choose pairs and on report pairs, 1, 0 or 1/ties each.
    survivors:  those that go on to sentences.
    """

    hits: dict[int, HitHalves]
    survivors: frozenset[int]


def survives(ranking: Ranking | None, description: Description) -> bool:
    """Return whether a description goes on; without a ranking all do."""
    return ranking is None or description.id in ranking.survivors


def ranked(context: Context) -> dict[int, Ranking]:
    """Return the rankings of a job's block; empty where its `rank` job died, or there was none."""
    with context.transaction() as connection:
        features = jobs.left(connection, context.job.run_id, Stage.RANK, context.job.block, "features")
    return {
        int(feature): Ranking(
            {int(id_): HitHalves(*map(tuple, halves)) for id_, halves in left["hits"].items()},
            frozenset(left["survivors"]),
        )
        for feature, left in features.items()
    }
