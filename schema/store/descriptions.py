"""Descriptions, and the sentences that the writer wrote from them."""

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from schema.edits import SignedEdit
from schema.labels import Description, Sentences, Status
from schema.recipes import digest
from schema.schedules import RETRIED
from schema.store.database import Connection
from schema.store.queries import as_json, load_queries
from schema.wire import ImportedLabel

EDITED = "edited here"
"""The origin of descriptions that are a person's label."""

_queries = load_queries("descriptions")


def put(connection: Connection, dictionary_id: UUID, description: Description) -> Description:
    """Write (or write again) a description under its recipe and return it with its id."""
    body = description.model_dump(mode="json", exclude={"id", "created_at"})
    (id_,) = _queries.put(
        connection,
        dictionary_id=dictionary_id,
        feature=description.feature,
        method=description.method,
        recipe=description.recipe,
        status=description.status,
        body=as_json(body),
    )
    return description.model_copy(update={"id": id_})


def find(connection: Connection, dictionary_id: UUID, feature: int, recipe: str, *, run_id: UUID) -> Description | None:
    """Return a feature's description under a recipe, if a run need not ask for it: None where there is none.

    A status that another try may mend is final only for the run that came to it: a job that is carried out again
    repeats no call, and a later run asks again.
    """
    names = {"dictionary_id": dictionary_id, "feature": feature, "recipe": recipe, "run_id": run_id}
    row = _queries.find(connection, **names, retried=[str(status) for status in RETRIED])
    return None if row is None else _description(row)


def load(connection: Connection, ids: Iterable[int]) -> dict[int, Description]:
    """Return descriptions by id."""
    return {row[0]: _description(row) for row in _queries.load(connection, ids=list(ids))}


def of_feature(connection: Connection, dictionary_id: UUID, feature: int) -> list[Description]:
    """Return the newest description of every method that a feature has, and all that were imported."""
    return [_description(row) for row in _queries.of_feature(connection, dictionary_id=dictionary_id, feature=feature)]


def imported(connection: Connection, dictionary_id: UUID, features: Iterable[int]) -> dict[int, list[Description]]:
    """Return what others say of some features, by feature, in the order in which it came."""
    found: dict[int, list[Description]] = {}
    for row in _queries.imported(connection, dictionary_id=dictionary_id, features=list(features)):
        description = _description(row)
        found.setdefault(description.feature, []).append(description)
    return found


def put_imported(connection: Connection, dictionary_id: UUID, labels: Sequence[ImportedLabel], origin: str) -> int:
    """Store others' labels as descriptions, and return how many of them were not there yet."""
    made = [_imported(label, origin) for label in labels]
    rows = _queries.put_imported(
        connection,
        dictionary_id=dictionary_id,
        features=[description.feature for description in made],
        recipes=[description.recipe for description in made],
        bodies=[description.model_dump_json(exclude={"id", "created_at"}) for description in made],
    )
    return len(list(rows))


def put_edited(connection: Connection, dictionary_id: UUID, feature: int, edited: SignedEdit) -> Description:
    """Store what a person's label says as a description, one of those that are imported, and return it with its id."""
    said = ImportedLabel(feature=feature, text=edited.text, author=edited.author)
    return put(connection, dictionary_id, _imported(said, EDITED))


def put_sentences(connection: Connection, sentences: Sentences) -> None:
    """Write (or write again) the sentences of a description."""
    _queries.put_sentences(
        connection,
        description_id=sentences.description_id,
        recipe=sentences.recipe,
        body=as_json(sentences.model_dump(mode="json")),
    )


def load_sentences(connection: Connection, ids: Iterable[int], recipe: str) -> dict[int, Sentences]:
    """Return the sentences of descriptions by description id, as far as they exist under a recipe."""
    rows = _queries.load_sentences(connection, ids=list(ids), recipe=recipe)
    found = [Sentences.model_validate(body) for (body,) in rows]
    return {sentences.description_id: sentences for sentences in found}


def latest_sentences(connection: Connection, ids: Iterable[int]) -> dict[int, Sentences]:
    """Return the newest sentences of descriptions by description id, whatever their recipe."""
    found = [Sentences.model_validate(body) for (body,) in _queries.latest_sentences(connection, ids=list(ids))]
    return {sentences.description_id: sentences for sentences in found}


def _imported(label: ImportedLabel, origin: str) -> Description:
    """Return a label as a description: its recipe is where it is from and what it says."""
    said = {"origin": origin, "author": label.author, "method": label.method}
    return Description(
        feature=label.feature,
        method="imported",
        status=Status.OK,
        text=label.text,
        model=label.model,
        parameters={name: value for name, value in said.items() if value is not None},
        recipe=digest({"kind": "imported", "text": label.text, "model": label.model, **said}),
    )


def _description(row: Any) -> Description:
    id_, body, created_at = row
    return Description.model_validate({**body, "id": id_, "created_at": created_at})
