"""Edits over HTTP: people write labels over those of runs, and withdraw them."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Body, Query

from schema.edits import LabelEdit, Withdrawal
from schema.labels import Label
from schema.store import dictionaries, labels
from schema.store.database import Connection
from service import examples, label_examples
from service.bodies import Strict
from service.deps import Asker, Held, Index, Tenant, check_index

router = APIRouter(
    prefix="/v1/dictionaries/{dictionary_id}/features/{index}/label", tags=["labels"], responses=examples.PROBLEMS
)


@router.put("", responses=examples.ok(label_examples.EDITED))
def edit_label(
    dictionary_id: UUID,
    index: Index,
    edited: Annotated[LabelEdit, Body(openapi_examples=label_examples.EDITS), Strict()],
    held: Held,
    asker: Asker,
) -> Label:
    """Write a label over the one that you saw. It stands until it is withdrawn; what runs find goes to the history.

    `seen` is the `id` of the label that stood there; 409 if another one stands there by now.
    """

    def work(connection: Connection) -> Label:
        check_index(dictionaries.get(connection, asker.tenant_id, dictionary_id), index)
        return labels.edit(connection, dictionary_id, index, edited.signed(asker.name))

    return held.database.run(work)


@router.delete("", status_code=204)
def withdraw_label(
    dictionary_id: UUID, index: Index, query: Annotated[Withdrawal, Query()], held: Held, tenant_id: Tenant
) -> None:
    """Withdraw a label by a person: the newest one by a run stands again. It stays in the history."""

    def work(connection: Connection) -> None:
        check_index(dictionaries.get(connection, tenant_id, dictionary_id), index)
        labels.withdraw(connection, dictionary_id, index, query.seen)

    held.database.run(work)
