"""Pages of runs: all of them, and one with how far it is, what it cost, what failed and what it found."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from schema.records import Run
from schema.store import dictionaries, outcomes, runs
from schema.store.database import Connection
from schema.wire import RunQuery
from service.cursors import NEWEST, Pager, Slice
from service.deps import Held, Tenant
from service.pages import run_view
from service.pages.findings import controls_in_words, overview, tables
from service.pages.rendering import page

router = APIRouter(prefix="/runs")


@router.get("")
def list_runs(request: Request, query: Annotated[RunQuery, Query()], held: Held, tenant_id: Tenant) -> HTMLResponse:
    """Show runs, newest first."""
    pager = Pager(["runs", query.dictionary_id], NEWEST, query.cursor)

    def work(connection: Connection) -> tuple[Slice[Run], dict[UUID, str]]:
        found = runs.page(
            connection, tenant_id, dictionary_id=query.dictionary_id, after=pager.after, limit=query.limit + 1
        )
        shown = pager.cut(found, query.limit, lambda row: (row.created_at, row.id))
        named = [run.dictionary_id for run in shown.items] + [query.dictionary_id or UUID(int=0)]
        return shown, dictionaries.names(connection, tenant_id, named)

    shown, names = held.database.run(work)
    return page(request, "runs.html", runs=shown.items, next_cursor=shown.next_cursor, names=names, query=query)


@router.get("/{run_id}")
def show_run(request: Request, run_id: UUID, held: Held, tenant_id: Tenant) -> HTMLResponse:
    """Show a run; what changes while it goes on is rendered anew whenever it does."""
    view = held.database.run(lambda connection: run_view.read(connection, tenant_id, run_id))
    report = view.report
    made = () if report is None else tables(report)
    return page(
        request,
        "run.html",
        view=view,
        run=view.run,
        report=report,
        tables=made,
        overview=overview(made),
        looked_at=outcomes.LOOKED_AT,
        controls=() if report is None else controls_in_words(report),
    )
