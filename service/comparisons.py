"""Comparisons over HTTP: what two runs of a dictionary said of the same features."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import TypeAdapter

from schema.comparisons import RunDiffPage, RunDiffQuery
from schema.errors import InvalidInput
from schema.store import comparisons, runs
from schema.store.database import Connection
from service import examples, label_examples
from service.cursors import Pager
from service.deps import Held, Tenant

router = APIRouter(prefix="/v1/runs", tags=["runs"], responses=examples.PROBLEMS)
_INDEX = TypeAdapter(int)


@router.get("/{run_id}/diff", responses=examples.ok(label_examples.RUN_DIFF))
def compare_runs(run_id: UUID, query: Annotated[RunDiffQuery, Query()], held: Held, tenant_id: Tenant) -> RunDiffPage:
    """Compare the labels of a run with those of another of its dictionary, by feature: those that both selected.

    They are the labels that each run gave, whatever stands there by now.
    """
    pager = Pager(["run diff", run_id, query.against, query.change], _INDEX, query.cursor)

    def work(connection: Connection) -> RunDiffPage:
        ours, theirs = (runs.get(connection, tenant_id, id_).dictionary_id for id_ in (run_id, query.against))
        if ours != theirs:
            raise InvalidInput(f"run {run_id} is of dictionary {ours} and run {query.against} of {theirs}")
        after = -1 if pager.after is None else pager.after
        found = comparisons.between(connection, run_id, query.against, query.change, after=after, limit=query.limit + 1)
        return RunDiffPage(**pager.cut(found, query.limit, lambda row: row.feature)._asdict())

    return held.database.run(work)
