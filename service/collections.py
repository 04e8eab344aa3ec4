"""Collections over HTTP: dictionaries that belong together, and runs over all of them."""

from typing import Annotated
from uuid import UUID, uuid4

from fastapi import APIRouter, BackgroundTasks, Body, Query, Response

from schema import profiles
from schema.collections import (
    Collection,
    CollectionPage,
    CollectionRun,
    CollectionRunPage,
    CollectionSpec,
    Member,
    passes,
    shares,
    spec_for,
)
from schema.errors import Conflict, InvalidInput
from schema.records import Dictionary, RunTerms
from schema.store import collections, quotas
from schema.store.database import Connection
from schema.wire import PageQuery
from service import collection_examples, examples
from service.bodies import Strict
from service.cursors import NEWEST, Pager
from service.deps import Held, Repeatable, Services, Tenant
from service.runs import Sizes, check_spec, sizes_of

router = APIRouter(prefix="/v1/collections", tags=["collections"], responses=examples.PROBLEMS)


@router.post("", status_code=201, responses=examples.created(collection_examples.COLLECTION))
def create_collection(
    spec: Annotated[CollectionSpec, Body(openapi_examples=collection_examples.COLLECTION_SPECS), Strict()],
    held: Held,
    tenant_id: Tenant,
    intent: Repeatable,
    response: Response,
) -> Collection:
    """Make a collection of dictionaries that are there. A dictionary may be in several."""

    def work(connection: Connection) -> Collection:
        id_, fresh = intent.claim(connection, spec.model_dump(mode="json"))
        if fresh:
            return collections.create(connection, tenant_id, id_, spec)
        return collections.get(connection, tenant_id, id_)

    made = held.database.run(work)
    response.headers["Location"] = f"{router.prefix}/{made.id}"
    return made


@router.get("", responses=examples.ok(examples.page(collection_examples.COLLECTION)))
def list_collections(query: Annotated[PageQuery, Query()], held: Held, tenant_id: Tenant) -> CollectionPage:
    """List collections, newest first."""
    pager = Pager("collections", NEWEST, query.cursor)
    found = held.database.run(
        lambda connection: collections.page(connection, tenant_id, after=pager.after, limit=query.limit + 1)
    )
    return CollectionPage(**pager.cut(found, query.limit, lambda row: (row.created_at, row.id))._asdict())


@router.get("/{collection_id}", responses=examples.ok(collection_examples.COLLECTION))
def get_collection(collection_id: UUID, held: Held, tenant_id: Tenant) -> Collection:
    """Look at a collection. Dictionaries that were deleted are no longer in it."""
    return held.database.run(lambda connection: collections.get(connection, tenant_id, collection_id))


@router.delete("/{collection_id}", status_code=204)
def delete_collection(collection_id: UUID, held: Held, tenant_id: Tenant) -> None:
    """Delete a collection. Its dictionaries, their labels and their runs stay."""
    held.database.run(lambda connection: collections.delete(connection, tenant_id, collection_id))


@router.post("/{collection_id}/runs", status_code=201, responses=examples.created(collection_examples.COLLECTION_RUN))
def submit_collection_run(
    collection_id: UUID,
    terms: Annotated[RunTerms, Body(openapi_examples=collection_examples.ALL_RUN_TERMS), Strict()],
    held: Held,
    tenant_id: Tenant,
    intent: Repeatable,
    response: Response,
    background: BackgroundTasks,
) -> CollectionRun:
    """Ask for labels of all dictionaries: a run of each, and those of one subject read the corpus together.

    The budget is divided by the features that each is about. Either all of the runs are stored or none.
    """

    def work(connection: Connection) -> collections.Submitted:
        id_, fresh = intent.claim(connection, terms.model_dump(mode="json"))
        if not fresh:
            return collections.Submitted(collections.get_run(connection, tenant_id, id_, collection_id), [])
        collection = collections.get(connection, tenant_id, collection_id)
        parts = _parts(connection, tenant_id, collection, terms, held)
        quotas.check_runs(connection, tenant_id, len(parts), held.settings.max_unfinished_runs)
        llms = profiles.recipes(terms.profiles, held.settings)
        return collections.submit_run(connection, tenant_id, id_, collection_id, terms, parts, llms)

    submitted = held.database.run(work)
    background.add_task(held.doorbell.ring, submitted.queues)
    response.headers["Location"] = f"{router.prefix}/{collection_id}/runs/{submitted.run.id}"
    return submitted.run


@router.get("/{collection_id}/runs", responses=examples.ok(examples.page(collection_examples.COLLECTION_RUN)))
def list_collection_runs(
    collection_id: UUID, query: Annotated[PageQuery, Query()], held: Held, tenant_id: Tenant
) -> CollectionRunPage:
    """List the runs over a collection, newest first."""
    pager = Pager(["collection runs", collection_id], NEWEST, query.cursor)

    def work(connection: Connection) -> list[CollectionRun]:
        collections.get(connection, tenant_id, collection_id)
        return collections.page_of_runs(connection, tenant_id, collection_id, after=pager.after, limit=query.limit + 1)

    found = held.database.run(work)
    return CollectionRunPage(**pager.cut(found, query.limit, lambda row: (row.created_at, row.id))._asdict())


@router.get("/{collection_id}/runs/{run_id}", responses=examples.ok(collection_examples.COLLECTION_RUN))
def get_collection_run(collection_id: UUID, run_id: UUID, held: Held, tenant_id: Tenant) -> CollectionRun:
    """Follow a run over a collection: in which state the run of each dictionary is."""

    def work(connection: Connection) -> CollectionRun:
        collections.get(connection, tenant_id, collection_id)
        return collections.get_run(connection, tenant_id, run_id, collection_id)

    return held.database.run(work)


def _parts(
    connection: Connection, tenant_id: int, collection: Collection, terms: RunTerms, held: Services
) -> list[collections.Part]:
    """Return the run of each dictionary of a collection.

    Raises: Conflict if none is left; what `check_spec` and `sizes_of` raise, naming the dictionary.
    """
    inside = collection.dictionaries
    if not inside:
        raise Conflict(f"collection {collection.id} has no dictionary any more: all of them were deleted")
    check_spec(spec_for(terms, inside[0].id, terms.budget), held.settings)
    sizes = [_sizes(connection, tenant_id, one, terms, held) for one in inside]
    n_features = [
        one.spec.n_features if size.n_features is None else size.n_features
        for one, size in zip(inside, sizes, strict=True)
    ]
    together = _together(inside)
    return [
        collections.Part(spec_for(terms, one.id, budget), size.n_features, size.n_shards, together.get(position))
        for position, (one, size, budget) in enumerate(
            zip(inside, sizes, shares(terms.budget, n_features), strict=True)
        )
    ]


def _sizes(connection: Connection, tenant_id: int, one: Dictionary, terms: RunTerms, held: Services) -> Sizes:
    """Return the sizes of the run of one dictionary. Raises as `sizes_of`, naming the dictionary."""
    try:
        return sizes_of(connection, tenant_id, spec_for(terms, one.id, None), held)
    except (Conflict, InvalidInput) as exc:
        raise type(exc)(f"{one.spec.name}: {exc}") from exc


def _together(inside: tuple[Dictionary, ...]) -> dict[int, UUID]:
    """Return the corpus pass of each dictionary that shares one, by its position."""
    members = [Member((one.spec.subject, one.spec.revision), one.spec.n_features) for one in inside]
    return {
        position: shared
        for positions, shared in ((positions, uuid4()) for positions in passes(members) if len(positions) > 1)
        for position in positions
    }
