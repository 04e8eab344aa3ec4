"""The first page: dictionaries and how well they are labelled, collections, and the runs that go on."""

from typing import NamedTuple
from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from pydantic import Field

from schema.records import Dictionary, Record
from schema.store import collections, dictionaries, overviews
from schema.store.database import Connection
from schema.store.overviews import CollectionOutline, Overview, Unfinished
from service.cursors import NEWEST, Pager
from service.deps import Held, Tenant
from service.pages.addresses import address, asked
from service.pages.quality import summary_of
from service.pages.rendering import page

router = APIRouter()

N_DICTIONARIES = 20
N_COLLECTIONS = 12
N_RUNS = 10


class HomeQuery(Record):
    """Which dictionaries."""

    cursor: str | None = Field(None, max_length=2000)
    collection_id: UUID | None = None


class _Shown(NamedTuple):
    """What is read for the page, in one transaction."""

    dictionaries: tuple[Dictionary, ...]
    next_cursor: str | None
    overviews: dict[UUID, Overview]
    running: list[Unfinished]
    collections: list[CollectionOutline]
    collection: str | None


@router.get("/")
def home(request: Request, held: Held, tenant_id: Tenant) -> HTMLResponse:
    """Show dictionaries, newest first, those of one collection if that is asked for."""
    query = asked(request, HomeQuery)
    shown = held.database.run(lambda connection: _read(connection, tenant_id, query))
    next_url = address(request, cursor=shown.next_cursor) if shown.next_cursor else None
    return page(
        request,
        "home.html",
        shown=shown,
        query=query,
        next_url=next_url,
        first_url=address(request) if query.cursor else None,
        n_runs=N_RUNS,
        summary_of=summary_of,
    )


def _read(connection: Connection, tenant_id: int, query: HomeQuery) -> _Shown:
    wanted = query.collection_id
    pager = Pager(["home", str(wanted)], NEWEST, query.cursor)
    found = dictionaries.page(connection, tenant_id, collection_id=wanted, after=pager.after, limit=N_DICTIONARIES + 1)
    cut = pager.cut(found, N_DICTIONARIES, lambda row: (row.created_at, row.id))
    begins = query.cursor is None and wanted is None
    return _Shown(
        cut.items,
        cut.next_cursor,
        overviews.of_dictionaries(connection, [one.id for one in cut.items]),
        overviews.unfinished(connection, tenant_id, N_RUNS + 1) if begins else [],
        overviews.collections(connection, tenant_id, N_COLLECTIONS) if begins else [],
        collections.name_of(connection, tenant_id, wanted) if wanted else None,
    )
