"""The refresher's room: from slots that are due to runs about what is stale, and from runs that are over to diffs.

Called at every sweep, by as many processes as there are; each step is one transaction that leaves nothing to do twice.
"""

import uuid
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import structlog
from psycopg_pool import ConnectionPool

from schema import graph, profiles
from schema.corpora import size_of
from schema.errors import GlossariumError, Unavailable
from schema.records import RunSpec
from schema.selection import as_text, parse_selection
from schema.settings import Settings
from schema.stages import Queue
from schema.store import corpora, database, refreshes, runs, schedules
from schema.store.database import Connection
from schema.store.refreshes import Due, Stale
from schema.store.run_features import Brief
from workers.corpus import corpus_digest
from workers.ingredients import ingredients

_log = structlog.get_logger()
_MAX_TEXT = 100_000  # characters of a run's `features`


def refresh(pool: ConnectionPool[Connection], settings: Settings) -> list[Queue]:
    """Fire slots that are due, open their runs and close those that are over; return the queues that have new work.

    Raises: Unavailable if the database does not answer.
    """
    with database.lend(pool) as connection:
        fired = schedules.fire_due(connection)  # alone: who fires the same slot waits for this transaction
    with database.lend(pool) as connection:
        closed = refreshes.close_finished(connection)
    if fired or closed:
        _log.info("schedules", fired=len(fired), closed=len(closed))
    queues: set[Queue] = set()
    waiting: list[uuid.UUID] = []
    while (opened := _open_next(pool, settings, waiting)) is not None:
        queues |= set(opened)
    return sorted(queues)


def _open_next(pool: ConnectionPool[Connection], settings: Settings, waiting: list[uuid.UUID]) -> list[Queue] | None:
    """Open a refresh that is due and return the queues that have new work; None where none is left.

    One that can't be opened yet says why, and is added to `waiting`.
    """
    due: Due | None = None
    try:
        with database.lend(pool) as connection:
            due = refreshes.next_due(connection, but=waiting)
            return None if due is None else _open(connection, due, settings)
    except Exception as exc:  # as the engine does with jobs: whatever it is, the refresh has to say it
        if due is None:
            raise
        waiting.append(due.id)
        _log.warning("refresh not opened", refresh=str(due.id), error=repr(exc))
        with database.lend(pool) as connection:
            if isinstance(exc, Unavailable):
                refreshes.wait(connection, due.id, str(exc))
            else:
                reason = str(exc) if isinstance(exc, GlossariumError) else repr(exc)
                refreshes.end(connection, due.id, "failed", reason)
        return []


def _open(connection: Connection, due: Due, settings: Settings) -> list[Queue]:
    dictionary = refreshes.dictionary_of(connection, due)
    spec = due.spec.run
    brief = Brief(due.id, due.tenant_id, spec, dictionary)
    made_from = ingredients(brief, _corpus_digest(connection, due, settings), settings)
    selection = parse_selection(spec.features, dictionary.spec.n_features)
    stale = refreshes.find_stale(connection, due, dictionary.spec.n_features, selection, made_from)
    if not stale.features:
        refreshes.end(connection, due.id, "nothing")
        return []
    chosen = _within(stale.features, due.spec.max_features)
    if len(chosen) < len(stale.features):
        refreshes.keep(connection, due, chosen)
    run_id, asked = uuid.uuid4(), _run_spec(spec, stale, chosen)
    n_bytes = corpora.n_bytes_of(connection, due.tenant_id, spec.corpus, corpora_dir=settings.corpora_dir)
    n_shards = graph.shards_of(n_bytes)
    llms = profiles.recipes(spec.profiles, settings)
    submitted = runs.submit(
        connection, due.tenant_id, run_id, asked, n_features=len(chosen), n_shards=n_shards, llms=llms
    )
    refreshes.open_run(connection, due, run_id, n_stale=len(stale.features), ingredients=made_from)
    return submitted.queues


def _run_spec(spec: RunSpec, stale: Stale, chosen: Sequence[int]) -> RunSpec:
    """Return what a run is asked: the schedule's own words where it is about all that the schedule looks after."""
    if len(chosen) == stale.n_looked_after:
        return spec
    return spec.model_copy(update={"features": as_text(chosen)})


def _within(features: Sequence[int], most: int | None) -> Sequence[int]:
    """Return the first features, as many as are allowed and as a run's selection can name."""
    chosen = features[:most]
    while len(as_text(chosen)) > _MAX_TEXT:
        chosen = chosen[: len(chosen) * 9 // 10]
    return chosen


def _corpus_digest(connection: Connection, due: Due, settings: Settings) -> str:
    """Return the sha256 of the corpus that a schedule's runs read, as it is now."""
    found = corpora.resolve(connection, due.tenant_id, due.spec.run.corpus, corpora_dir=settings.corpora_dir)
    return _file_digest(found, size_of(found), _changed_at(found)) if isinstance(found, Path) else found.sha256


@lru_cache(maxsize=64)
def _file_digest(path: Path, n_bytes: int, changed_at: float) -> str:
    """Return the sha256 of a corpus; gigabytes are read once, not every night or by every schedule."""
    return corpus_digest(path)


def _changed_at(path: Path) -> float:
    found = path.rglob("*") if path.is_dir() else [path]
    return max(file.stat().st_mtime for file in found)
