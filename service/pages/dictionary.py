"""A dictionary: what it is, how good its labels are, and its features to sort and filter."""

from typing import NamedTuple
from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from pydantic import Field

from schema.health import MeasuredHealth
from schema.records import Dictionary, Run
from schema.store import dictionaries, overviews, runs
from schema.store.database import Connection
from schema.store.overviews import Findings, Named, Sample
from schema.wire import FeatureFilter, FeaturePage, FeatureQuery
from service.deps import Held, Tenant
from service.features import read_page
from service.pages import listing
from service.pages.addresses import address, asked
from service.pages.listing import Row
from service.pages.quality import quality_of
from service.pages.rendering import page

router = APIRouter(prefix="/dictionaries/{dictionary_id}")

N_RUNS = 3
N_COLLECTIONS = 3
N_SAMPLED = 2000
EXPORTS = ("csv", "json", "parquet", "delphi", "neuronpedia", "archive")


class ListQuery(FeatureQuery):
    """A page of features, as the API has it, but of no more rows than a page can hold."""

    limit: int = Field(50, ge=1, le=200)


class Head(NamedTuple):
    """A column that can be sorted by: where its link leads, and how it is sorted now."""

    url: str
    order: str | None


class Given(NamedTuple):
    """A filter that is asked for, in words, and the page's address without it."""

    text: str
    url: str


class _Shown(NamedTuple):
    """What is read for the page, in one transaction."""

    dictionary: Dictionary
    health: MeasuredHealth | None
    collections: list[Named]
    runs: list[Run]
    findings: Findings | None
    any_lift: bool
    features: FeaturePage
    rows: list[Row]


@router.get("")
def dictionary(request: Request, dictionary_id: UUID, held: Held, tenant_id: Tenant) -> HTMLResponse:
    """Show a dictionary and a page of its features, filtered and sorted as the API does."""
    query = asked(request, ListQuery)
    shown = held.database.run(lambda connection: _read(connection, tenant_id, dictionary_id, query))
    cursor = shown.features.next_cursor
    return page(
        request,
        "dictionary.html",
        shown=shown,
        query=query,
        given=_given(request, query),
        quality=quality_of(shown.findings),
        heads={column: _head(request, query, column) for column in ("index", "input_lift", "output_lift", "density")},
        next_url=address(request, cursor=cursor) if cursor else None,
        first_url=address(request) if query.cursor else None,
        statuses=listing.STATUSES,
        methods=listing.METHODS,
        exports=EXPORTS,
        n_runs=N_RUNS,
    )


@router.get("/scatter")
def scatter(request: Request, dictionary_id: UUID, held: Held, tenant_id: Tenant) -> HTMLResponse:
    """Show input lift against output lift, of some features: a part of the dictionary's page that is loaded later."""

    def work(connection: Connection) -> tuple[Dictionary, Sample]:
        found = dictionaries.get(connection, tenant_id, dictionary_id)
        return found, overviews.sample(connection, dictionary_id, found.spec.n_features, N_SAMPLED)

    found, sample = held.database.run(work)
    return page(request, "scatter.html", dictionary=found, sample=sample, n_sampled=N_SAMPLED)


def _read(connection: Connection, tenant_id: int, dictionary_id: UUID, query: ListQuery) -> _Shown:
    found = dictionaries.get(connection, tenant_id, dictionary_id)
    if query.run_id is not None:
        runs.get(connection, tenant_id, query.run_id)
    features = read_page(connection, dictionary_id, query)
    return _Shown(
        found,
        dictionaries.health(connection, dictionary_id),
        overviews.collections_of(connection, dictionary_id, N_COLLECTIONS),
        runs.page(connection, tenant_id, dictionary_id=dictionary_id, limit=N_RUNS + 1),
        overviews.findings(connection, [dictionary_id]).get(dictionary_id),
        overviews.has_lifts(connection, dictionary_id),
        features,
        listing.rows_of(connection, dictionary_id, features.items),
    )


def _given(request: Request, query: ListQuery) -> list[Given]:
    """Return the filters that are asked for, in the order of the API."""
    asked_for = {name: getattr(query, name) for name in FeatureFilter.model_fields}
    return [
        Given(_in_words(name, value), address(request, **{name: None}))
        for name, value in asked_for.items()
        if value not in (None, ())
    ]


def _in_words(name: str, value: object) -> str:
    """Return a filter in words: `input lift at least 0.5`."""
    least_or_most, _, column = name.partition("_")
    match name, value:
        case "q", _:
            return f"label contains \u201c{value}\u201d"
        case "run_id", _:
            return "of one run"
        case _, tuple():
            return f"{name}: {', '.join(map(str, value))}".replace("_", " ")
        case _, bool():
            return f"{name.removesuffix('_success')} {'succeeds' if value else 'does not succeed'}"
    measure = column.replace("_value", " score").replace("_", " ")
    return f"{measure} at {'least' if least_or_most == 'min' else 'most'} {value}"


def _head(request: Request, query: ListQuery, column: str) -> Head:
    """Return a column's head. Sorted by it, the link turns the order; else it asks for the likelier one."""
    first, second = (column, f"-{column}") if column == "index" else (f"-{column}", column)
    order = {column: "ascending", f"-{column}": "descending"}.get(query.sort)
    return Head(address(request, sort=second if query.sort == first else first), order)
