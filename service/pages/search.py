"""Search: labels by word and meaning, and features by token, in all dictionaries or in one."""

from typing import Any, NamedTuple, get_args
from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from pydantic import Field

from schema.errors import LLMUnavailable
from schema.records import Record
from schema.search import LabelFilter, SearchMode, SearchPage, SearchQuery, TokenPage, TokenQuery, TokenSide
from schema.store import overviews
from schema.store.database import Connection
from schema.store.overviews import Named
from service import search as api
from service.deps import Held, Services, Tenant
from service.pages import listing
from service.pages.addresses import address, asked
from service.pages.listing import Row
from service.pages.rendering import page

router = APIRouter()

MOST_NAMED = 100
"""Dictionaries to choose from; any other is chosen by a link from its own page."""


class LabelsAsked(LabelFilter):
    """What the form for labels holds, maybe without a question yet."""

    q: str | None = Field(None, max_length=500)
    mode: SearchMode = "both"


class TokensAsked(Record):
    """What the form for tokens holds, maybe without a token yet."""

    token: str | None = Field(None, max_length=200)
    side: TokenSide = "promoted"
    dictionary_id: UUID | None = None


class _Shown(NamedTuple):
    """What is read for the page: nothing is found before something is asked."""

    found: SearchPage | TokenPage | None
    rows: list[Row]
    dictionaries: list[Named]
    names: dict[UUID, str]


@router.get("/search")
def search(request: Request, held: Held, tenant_id: Tenant) -> HTMLResponse:
    """Show what answers a question to the labels, or what has a token."""
    for_tokens = "token" in request.query_params or "side" in request.query_params
    return _search_tokens(request, held, tenant_id) if for_tokens else _search_labels(request, held, tenant_id)


def _search_labels(request: Request, held: Services, tenant_id: int) -> HTMLResponse:
    form = asked(request, LabelsAsked)
    query = asked(request, SearchQuery) if form.q else None
    found = problem = None
    try:
        found = api.find_labels(held, tenant_id, query) if query else None
    except LLMUnavailable as exc:
        problem = f"Meaning can't be searched now: {exc}"

    def work(connection: Connection) -> _Shown:
        return _shown(connection, tenant_id, found)

    return _page(request, held.database.run(work), form=form, tokens=None, problem=problem, modes=get_args(SearchMode))


def _search_tokens(request: Request, held: Services, tenant_id: int) -> HTMLResponse:
    form = asked(request, TokensAsked, exact=("token",))
    query = asked(request, TokenQuery, exact=("token",)) if form.token else None

    def work(connection: Connection) -> _Shown:
        found = api.read_tokens(connection, tenant_id, query) if query else None
        return _shown(connection, tenant_id, found)

    return _page(request, held.database.run(work), form=form, tokens=form, problem=None, sides=get_args(TokenSide))


def _shown(connection: Connection, tenant_id: int, found: SearchPage | TokenPage | None) -> _Shown:
    hits = found.items if found else ()
    return _Shown(
        found,
        listing.rows(connection, [(hit.dictionary_id, hit.feature) for hit in hits]),
        overviews.dictionary_names(connection, tenant_id, MOST_NAMED),
        overviews.names_of(connection, {hit.dictionary_id for hit in hits}),
    )


def _page(request: Request, shown: _Shown, **values: Any) -> HTMLResponse:
    cursor = shown.found.next_cursor if shown.found else None
    return page(
        request,
        "search.html",
        shown=shown,
        next_url=address(request, cursor=cursor) if cursor else None,
        first_url=address(request) if "cursor" in request.query_params else None,
        address=lambda **changes: address(request, **changes),
        statuses=listing.STATUSES,
        methods=listing.METHODS,
        **values,
    )
