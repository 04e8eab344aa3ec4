"""Usage over HTTP: what the LLM calls of a tenant used and cost."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import TypeAdapter

from schema.store import calls, dictionaries, runs
from schema.store.calls import Group
from schema.store.database import Connection
from schema.usage import UsageFilter, UsagePage, UsageQuery
from service import examples, label_examples
from service.cursors import Pager
from service.deps import Held, Tenant

router = APIRouter(prefix="/v1/usage", tags=["usage"], responses=examples.PROBLEMS)
_GROUP = TypeAdapter(Group)


@router.get("", responses=examples.ok(label_examples.USAGE))
def list_usage(query: Annotated[UsageQuery, Query()], held: Held, tenant_id: Tenant) -> UsagePage:
    """List what LLM calls used and cost by day, purpose and model, the latest day first, and all of it together."""
    filters = UsageFilter(**{name: getattr(query, name) for name in UsageFilter.model_fields})
    pager = Pager(["usage", filters.model_dump(mode="json")], _GROUP, query.cursor)

    def work(connection: Connection) -> UsagePage:
        if query.run_id is not None:
            runs.get(connection, tenant_id, query.run_id)
        if query.dictionary_id is not None:
            dictionaries.get(connection, tenant_id, query.dictionary_id)
        found = calls.daily(connection, tenant_id, filters, after=pager.after, limit=query.limit + 1)
        cut = pager.cut(found, query.limit, lambda row: Group(row.day, row.purpose, row.model))
        return UsagePage(total=calls.totals(connection, tenant_id, filters), **cut._asdict())

    return held.database.run(work)
