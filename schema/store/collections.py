"""Collections: rows of which dictionaries belong together, and of the runs over all of them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from schema.collections import Collection, CollectionRun, CollectionSpec
from schema.errors import InvalidInput, NotFound
from schema.records import RunSpec, RunTerms
from schema.stages import Queue
from schema.store import dictionaries, runs
from schema.store.database import Connection
from schema.store.queries import as_json, load_queries

_queries = load_queries("collections")
_MOST_NAMED = 8


class Part(NamedTuple):
    """The run of one dictionary within a run over its collection.

    n_features:  None where only the corpus can tell.
    corpus_pass: what the runs share that read the corpus together; None of one that reads it alone.
    """

    spec: RunSpec
    n_features: int | None
    n_shards: int
    corpus_pass: UUID | None


class Submitted(NamedTuple):
    """A new run over a collection, and the queues that have work now: ring them after the commit."""

    run: CollectionRun
    queues: list[Queue]


def create(connection: Connection, tenant_id: int, id_: UUID, spec: CollectionSpec) -> Collection:
    """Store a collection.

    Raises: NotFound if this tenant has not all of its dictionaries; InvalidInput if two are one or have one name.
    """
    known = {one.id: one for one in dictionaries.hold(connection, tenant_id, spec.dictionary_ids)}
    missing = [str(wanted) for wanted in spec.dictionary_ids if wanted not in known]
    if missing:
        raise NotFound(f"no dictionary {_some(missing)}; every dictionary of a collection must be there before")
    _refuse_repeats("dictionary_ids", [str(wanted) for wanted in spec.dictionary_ids])
    _refuse_repeats("names of dictionaries", [known[wanted].spec.name for wanted in spec.dictionary_ids])
    _queries.insert(connection, id=id_, tenant_id=tenant_id, name=spec.name)
    _queries.insert_dictionaries(connection, id=id_, dictionary_ids=list(spec.dictionary_ids))
    return get(connection, tenant_id, id_)


def get(connection: Connection, tenant_id: int, id_: UUID) -> Collection:
    """Return a collection. Raises NotFound if this tenant has no such collection."""
    for collection in _collections(connection, _queries.get(connection, tenant_id=tenant_id, id=id_)):
        return collection
    raise NotFound(f"no collection {id_}")


def name_of(connection: Connection, tenant_id: int, id_: UUID) -> str:
    """Return the name of a collection. Raises NotFound if this tenant has no such collection."""
    for _, name, _ in _queries.get(connection, tenant_id=tenant_id, id=id_):
        return str(name)
    raise NotFound(f"no collection {id_}")


def page(
    connection: Connection, tenant_id: int, *, after: tuple[datetime, UUID] | None = None, limit: int = 50
) -> list[Collection]:
    """Return collections, newest first; `after` is the creation time and id of the last one seen."""
    before, after_id = after or (None, None)
    rows = _queries.page(connection, tenant_id=tenant_id, before=before, after_id=after_id, most=limit)
    return _collections(connection, rows)


def delete(connection: Connection, tenant_id: int, id_: UUID) -> None:
    """Delete a collection; its dictionaries and their runs stay, and runs that go on still share their passes.

    Raises: NotFound if this tenant has no such collection.
    """
    if not _queries.delete(connection, tenant_id=tenant_id, id=id_):
        raise NotFound(f"no collection {id_}")


def submit_run(
    connection: Connection,
    tenant_id: int,
    id_: UUID,
    collection_id: UUID,
    terms: RunTerms,
    parts: Sequence[Part],
    llms: Mapping[str, Any],
) -> Submitted:
    """Store a run over a collection with the runs of its dictionaries, each with the jobs that it starts with.

    llms:  as `runs.submit` takes them.
    """
    body = as_json(terms.model_dump(mode="json"))
    _queries.insert_run(connection, id=id_, tenant_id=tenant_id, collection_id=collection_id, spec=body)
    queues: set[Queue] = set()
    for part in parts:
        run_id = uuid4()
        made = runs.submit(
            connection, tenant_id, run_id, part.spec, n_features=part.n_features, n_shards=part.n_shards, llms=llms
        )
        _queries.join_run(connection, run_id=run_id, collection_run_id=id_, corpus_pass=part.corpus_pass)
        queues.update(made.queues)
    return Submitted(get_run(connection, tenant_id, id_, collection_id), sorted(queues))


def get_run(connection: Connection, tenant_id: int, id_: UUID, collection_id: UUID) -> CollectionRun:
    """Return a run over a collection. Raises NotFound if this tenant has no such run over it."""
    for run in _runs(connection, _queries.get_run(connection, tenant_id=tenant_id, id=id_)):
        if run.collection_id == collection_id:
            return run
    raise NotFound(f"no run {id_} over collection {collection_id}")


def page_of_runs(
    connection: Connection,
    tenant_id: int,
    collection_id: UUID,
    *,
    after: tuple[datetime, UUID] | None = None,
    limit: int = 50,
) -> list[CollectionRun]:
    """Return the runs over a collection, newest first; `after` is the creation time and id of the last one seen."""
    before, after_id = after or (None, None)
    rows = _queries.page_of_runs(
        connection, tenant_id=tenant_id, collection_id=collection_id, before=before, after_id=after_id, most=limit
    )
    return _runs(connection, rows)


def companions(connection: Connection, run_id: UUID) -> list[UUID]:
    """Return the other runs of a run's corpus pass that are not over."""
    return [id_ for (id_,) in _queries.companions(connection, run_id=run_id)]


def _collections(connection: Connection, rows: Any) -> list[Collection]:
    rows = list(rows)
    inside = dictionaries.of_collections(connection, [row[0] for row in rows])
    return [
        Collection(id=id_, name=name, dictionaries=tuple(inside.get(id_, ())), created_at=created_at)
        for id_, name, created_at in rows
    ]


def _runs(connection: Connection, rows: Any) -> list[CollectionRun]:
    rows = list(rows)
    inside = runs.of_collection_runs(connection, [row[0] for row in rows])
    return [
        CollectionRun(
            id=id_,
            collection_id=collection_id,
            spec=RunTerms.model_validate(spec),
            created_at=created_at,
            runs=tuple(inside.get(id_, ())),
        )
        for id_, collection_id, spec, created_at in rows
    ]


def _refuse_repeats(what: str, values: Sequence[str]) -> None:
    repeated = [value for value, n in Counter(values).items() if n > 1]
    if repeated:
        raise InvalidInput(f"{what}: {_some(repeated)} more than once; a collection has each once")


def _some(values: Sequence[str]) -> str:
    more = f" and {len(values) - _MOST_NAMED} more" if len(values) > _MOST_NAMED else ""
    return f"{', '.join(values[:_MOST_NAMED])}{more}"
