"""Evidence: one packed blob a feature, kind and recipe, and the provenance of those that were made together."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar
from uuid import UUID

from schema.packing import pack, unpack
from schema.records import EVIDENCE_RECORDS, AnyEvidence, EvidenceKind, Provenance, Record
from schema.store.database import Connection
from schema.store.queries import as_json, load_queries

_queries = load_queries("evidence")

E = TypeVar("E", bound=Record)


class Stored(NamedTuple):
    """A piece of evidence and what it was made from."""

    record: AnyEvidence
    provenance: Provenance


def put(
    connection: Connection,
    dictionary_id: UUID,
    kind: EvidenceKind,
    provenance: Provenance,
    rows: Mapping[int, AnyEvidence],
) -> None:
    """Write (or write again) the evidence of some features that was made together, under one recipe."""
    if not rows:
        return
    features = sorted(rows)
    _queries.put(
        connection,
        dictionary_id=dictionary_id,
        kind=kind,
        recipe=provenance.recipe,
        provenance_id=_queries.put_provenance(connection, document=as_json(provenance.document)),
        features=features,
        payloads=[pack(rows[feature]) for feature in features],
    )


def load(
    connection: Connection, dictionary_id: UUID, record: type[E], recipe: str, features: Sequence[int]
) -> dict[int, E]:
    """Return the evidence of one kind that some features have under a recipe; missing ones are left out."""
    rows = _queries.load(
        connection, dictionary_id=dictionary_id, kind=kind_of(record), recipe=recipe, features=list(features)
    )
    return {feature: unpack(record, payload) for feature, payload in rows}


def missing(
    connection: Connection, dictionary_id: UUID, kind: EvidenceKind, recipe: str, features: Sequence[int]
) -> list[int]:
    """Return those features that have no evidence of a kind under a recipe, in their order."""
    rows = _queries.present(connection, dictionary_id=dictionary_id, kind=kind, recipe=recipe, features=list(features))
    present = {feature for (feature,) in rows}
    return [feature for feature in features if feature not in present]


def latest(connection: Connection, dictionary_id: UUID, feature: int) -> dict[EvidenceKind, Stored]:
    """Return the newest evidence of every kind that a feature has."""
    rows = _queries.latest(connection, dictionary_id=dictionary_id, feature=feature)
    return {
        kind: Stored(unpack(EVIDENCE_RECORDS[kind], payload), Provenance(recipe=recipe, document=document))
        for kind, payload, recipe, document in rows
    }


def kind_of(record: type[Record]) -> EvidenceKind:
    """Return the name that a record of evidence is stored under."""
    return next(kind for kind, known in EVIDENCE_RECORDS.items() if known is record)
