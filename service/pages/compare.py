"""The page that compares: two runs of a dictionary, or two methods of a run, feature by feature."""

from typing import Annotated, Any, NamedTuple
from uuid import UUID

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse
from pydantic import BeforeValidator, Field

from schema.comparisons import RunChange
from schema.errors import InvalidInput
from schema.records import Dictionary, Method, Record, Run
from schema.store import contrasts, dictionaries, runs
from schema.store.contrasts import Contrast, Part
from schema.store.database import Connection
from service.deps import Held, Tenant
from service.pages.contrasting import SHOWN, Summed, biggest_first, sum_up, word_changes
from service.pages.rendering import page

router = APIRouter(prefix="/compare")

_LATEST = 50
Choice = Annotated[UUID | None, BeforeValidator(lambda value: value or None)]
"""An id of a form; what is not chosen comes as an empty text."""


class CompareQuery(Record):
    """What is compared, and which part of it is looked at."""

    run: Choice = None
    other: Choice = Field(None, description="the run before")
    methods: tuple[Method, ...] = Field((), max_length=2)
    dictionary_id: Choice = Field(None, description="of the runs to choose from")
    change: tuple[RunChange, ...] = ()
    after: int = Field(-1, ge=-1, le=2**31 - 1, description="the position before the part")
    page: int = Field(1, ge=1, le=1000, description="of the part")


class Choices(NamedTuple):
    """Runs to choose from, newest first, and the names of their dictionaries."""

    runs: tuple[Run, ...]
    names: dict[UUID, str]


class Compared(NamedTuple):
    """What is compared, and what was found in a part of its features."""

    run: Run
    other: Run | None
    dictionary: Dictionary
    part: Part


@router.get("")
def compare(request: Request, query: Annotated[CompareQuery, Query()], held: Held, tenant_id: Tenant) -> HTMLResponse:
    """Show what two runs or two methods say of the same features, the biggest changes first; or ask which."""

    def work(connection: Connection) -> tuple[Compared | None, Choices]:
        compared = _read(connection, tenant_id, query)
        return compared, _choices(connection, tenant_id, query, compared)

    compared, choices = held.database.run(work)
    values: dict[str, Any] = {"query": query, "choices": choices, "compared": compared, "word_changes": word_changes}
    return page(request, "compare.html", **values, **(_shown(compared, query) if compared else {}))


def _read(connection: Connection, tenant_id: int, query: CompareQuery) -> Compared | None:
    """Return what is compared; None where it is not chosen yet. Raises NotFound; InvalidInput for two dictionaries."""
    if query.run is None or (query.other is None and len(set(query.methods)) < 2):
        return None
    run = runs.get(connection, tenant_id, query.run)
    dictionary = dictionaries.get(connection, tenant_id, run.dictionary_id)
    if query.other is None:
        one, other = query.methods
        return Compared(run, None, dictionary, contrasts.of_methods(connection, run, (one, other), after=query.after))
    before = runs.get(connection, tenant_id, query.other)
    if before.dictionary_id != run.dictionary_id:
        raise InvalidInput("these runs are of two dictionaries, whose features have nothing to do with each other")
    return Compared(run, before, dictionary, contrasts.of_runs(connection, run, before, after=query.after))


def _choices(connection: Connection, tenant_id: int, query: CompareQuery, compared: Compared | None) -> Choices:
    """Return the latest runs: of a dictionary, where one is chosen or known by the run."""
    dictionary_id = compared.dictionary.id if compared else query.dictionary_id
    if dictionary_id is None and query.run is not None:
        dictionary_id = runs.get(connection, tenant_id, query.run).dictionary_id
    found = runs.page(connection, tenant_id, dictionary_id=dictionary_id, limit=_LATEST)
    names = dictionaries.names(connection, tenant_id, [run.dictionary_id for run in found])
    chosen = [one for one in (compared.run, compared.other) if one is not None] if compared else []
    return Choices((*(one for one in chosen if one not in found), *found), names)


def _shown(compared: Compared, query: CompareQuery) -> dict[str, Any]:
    """Return the sums of a part and the page of it that is looked at."""
    found: list[Contrast] = biggest_first(compared.part.contrasts, query.change)
    first = (query.page - 1) * SHOWN
    summed: Summed = sum_up(compared.part.contrasts)
    return {
        "summed": summed,
        "rows": found[first : first + SHOWN],
        "first": first,
        "n_found": len(found),
        "n_pages": -(-len(found) // SHOWN),
        "smaller": min((run.n_features or 0 for run in (compared.run, compared.other) if run is not None), default=0),
    }
