"""Which other runs a corpus job reads for: those of its corpus pass that want exemplars of the very same documents.

A job that was tried or lost before reads for its own run alone: no dictionary can harm the runs of others twice.
"""

from uuid import UUID

from schema.stages import Stage
from schema.store import artifacts, collections, jobs, run_features
from schema.store.database import Connection
from schema.store.run_features import Brief
from workers import recipes
from workers.corpus import Shard
from workers.engine import Context


def companions(context: Context, brief: Brief, corpus: str, shard: Shard) -> list[Brief]:
    """Return the briefs of other runs whose exemplars of a shard are not known yet, one of equal ones.

    corpus: the sha256 of the corpus of `brief`; runs that found another one read it by themselves.
    """
    job = context.job
    if job.attempt > 1 or job.lost or shard != Shard(shard.index, shard.count):
        return []
    found: dict[str, Brief] = {}
    own = recipes.partial(brief, corpus, shard)
    with context.transaction() as connection:
        for run_id in collections.companions(connection, job.run_id):
            if not _reads_the_same(connection, run_id, corpus, shard):
                continue
            other = run_features.brief(connection, run_id)
            recipe, whole = recipes.partial(other, corpus, shard), recipes.exemplars(other, corpus)
            known = artifacts.get(connection, whole) or artifacts.get(connection, recipe)
            if known is None and recipe != own:
                found.setdefault(recipe, other)
    return list(found.values())


def _reads_the_same(connection: Connection, run_id: UUID, corpus: str, shard: Shard) -> bool:
    """Return whether a run is ingested, and divides the corpus in the same way."""
    ingested = [job.result for job in jobs.results(connection, run_id, Stage.INGEST)]
    if not any(result is not None and result["corpus"] == corpus for result in ingested):
        return False
    n_shards = len(jobs.results(connection, run_id, Stage.EXEMPLARS))
    return n_shards == shard.count and not jobs.set_apart(connection, run_id, shard.index)
