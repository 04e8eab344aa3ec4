"""Labels over HTTP: the current ones of a dictionary, and every one that a feature ever had."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import TypeAdapter

from schema.labels import Label
from schema.store import dictionaries, labels, runs
from schema.store.database import Connection
from schema.wire import LabelPage, LabelQuery
from service import examples
from service.cursors import Pager
from service.deps import Held, Index, Tenant, check_index

router = APIRouter(prefix="/v1/dictionaries/{dictionary_id}", tags=["labels"], responses=examples.PROBLEMS)
_INDEX = TypeAdapter(int)


@router.get("/labels", responses=examples.ok(examples.page(examples.LABEL)))
def list_labels(dictionary_id: UUID, query: Annotated[LabelQuery, Query()], held: Held, tenant_id: Tenant) -> LabelPage:
    """List the current labels of a dictionary with the scores they are reported with, by feature."""

    def work(connection: Connection) -> LabelPage:
        dictionaries.get(connection, tenant_id, dictionary_id)
        if query.run_id is not None:
            runs.get(connection, tenant_id, query.run_id)
        return read_page(connection, dictionary_id, query)

    return held.database.run(work)


@router.get("/features/{index}/labels", responses=examples.ok([examples.LABEL]))
def list_label_history(dictionary_id: UUID, index: Index, held: Held, tenant_id: Tenant) -> tuple[Label, ...]:
    """List every label that a feature ever had, the newest first."""

    def work(connection: Connection) -> tuple[Label, ...]:
        dictionary = dictionaries.get(connection, tenant_id, dictionary_id)
        check_index(dictionary, index)
        return tuple(labels.history(connection, dictionary_id, index))

    return held.database.run(work)


def read_page(connection: Connection, dictionary_id: UUID, query: LabelQuery) -> LabelPage:
    """Return a page of current labels."""
    pager = Pager(["labels", dictionary_id, query.run_id], _INDEX, query.cursor)
    after = -1 if pager.after is None else pager.after
    found = labels.page(connection, dictionary_id, run_id=query.run_id, after=after, limit=query.limit + 1)
    return LabelPage(**pager.cut(found, query.limit, lambda label: label.feature)._asdict())
