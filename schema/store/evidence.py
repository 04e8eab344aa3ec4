"""Evidence: one packed blob a feature, kind and recipe, and the provenance of those that were made together.

Exemplars are written as references to contexts, and read as what they refer to.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeVar, cast
from uuid import UUID

from schema.contexts import References, unfold
from schema.evidence import EVIDENCE_RECORDS, AnyEvidence, EvidenceKind
from schema.labels import Provenance
from schema.packing import pack, unpack, unpack_fields
from schema.records import Record
from schema.store import contexts, indexing
from schema.store.contexts import Reading
from schema.store.database import Connection
from schema.store.queries import as_json, load_queries

_queries = load_queries("evidence")

E = TypeVar("E", bound=Record)

_STORED_AS: dict[EvidenceKind, type[References]] = {"exemplars": References}
_WITH_TOKENS: tuple[EvidenceKind, ...] = ("exemplars", "vocabulary", "token_change")


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
    """Write (or write again) the evidence of some features that was made together, under one recipe; not exemplars."""
    if rows:
        _put(connection, dictionary_id, kind, provenance, rows, None)


def put_exemplars(
    connection: Connection,
    dictionary_id: UUID,
    provenance: Provenance,
    rows: Mapping[int, References],
    reading: Reading,
) -> None:
    """Write (or write again) the exemplars of some features, and those contexts that they are the first to refer to."""
    if rows:
        reading_id = contexts.put(connection, reading, {n for references in rows.values() for n in references.contexts})
        _put(connection, dictionary_id, "exemplars", provenance, rows, reading_id)


def load(
    connection: Connection, dictionary_id: UUID, record: type[E], recipe: str, features: Sequence[int]
) -> dict[int, E]:
    """Return the evidence of one kind that some features have under a recipe; missing ones are left out."""
    kind = kind_of(record)
    rows = list(
        _queries.load(connection, dictionary_id=dictionary_id, kind=kind, recipe=recipe, features=list(features))
    )
    packed = [_Packed(kind, payload, reading_id) for _, payload, reading_id in rows]
    return dict(zip((row[0] for row in rows), cast(list[E], _opened(connection, packed)), strict=True))


def missing(
    connection: Connection, dictionary_id: UUID, kind: EvidenceKind, recipe: str, features: Sequence[int]
) -> list[int]:
    """Return those features that have no evidence of a kind under a recipe, in their order."""
    rows = _queries.present(connection, dictionary_id=dictionary_id, kind=kind, recipe=recipe, features=list(features))
    present = {feature for (feature,) in rows}
    return [feature for feature in features if feature not in present]


def latest(connection: Connection, dictionary_id: UUID, feature: int) -> dict[EvidenceKind, Stored]:
    """Return the newest evidence of every kind that a feature has."""
    rows = list(_queries.latest(connection, dictionary_id=dictionary_id, feature=feature))
    found = _opened(connection, [_Packed(*row[:3]) for row in rows])
    return {
        kind: Stored(record, Provenance(recipe=recipe, document=document))
        for record, (kind, _, _, recipe, document) in zip(found, rows, strict=True)
    }


def latest_of(
    connection: Connection, dictionary_id: UUID, lo: int, hi: int, kinds: Sequence[EvidenceKind]
) -> dict[int, dict[EvidenceKind, AnyEvidence]]:
    """Return the newest evidence of some kinds that the features lo..hi-1 have, by feature."""
    rows = _queries.latest_of(connection, dictionary_id=dictionary_id, lo=lo, hi=hi, kinds=list(kinds))
    return _by_feature(connection, list(rows))


def latest_with_tokens(
    connection: Connection, dictionary_id: UUID, features: Sequence[int]
) -> dict[int, dict[EvidenceKind, AnyEvidence]]:
    """Return the newest evidence of some features that names tokens, by feature."""
    rows = _queries.latest_among(
        connection, dictionary_id=dictionary_id, features=list(features), kinds=list(_WITH_TOKENS)
    )
    return _by_feature(connection, list(rows))


def histograms(connection: Connection, dictionary_id: UUID, features: Sequence[int]) -> dict[int, tuple[int, ...]]:
    """Return the newest histogram of activations that each of some features has; nothing else of it is unpacked."""
    rows = _queries.latest_among(connection, dictionary_id=dictionary_id, features=list(features), kinds=["exemplars"])
    return {feature: tuple(unpack_fields(payload, {"histogram"})["histogram"]) for feature, _, payload, _ in rows}


def kind_of(record: type[Record]) -> EvidenceKind:
    """Return the name that a record of evidence is stored under."""
    return next(kind for kind, known in EVIDENCE_RECORDS.items() if known is record)


class _Packed(NamedTuple):
    """A piece of evidence as it is stored; exemplars name the reading whose contexts they refer to."""

    kind: EvidenceKind
    payload: bytes
    reading_id: int | None


def _put(
    connection: Connection,
    dictionary_id: UUID,
    kind: EvidenceKind,
    provenance: Provenance,
    rows: Mapping[int, Record],
    reading_id: int | None,
) -> None:
    made = _made(connection, provenance, rows)
    _queries.put(connection, dictionary_id=dictionary_id, kind=kind, reading_id=reading_id, **made)
    if kind in _WITH_TOKENS:
        indexing.add(connection, dictionary_id, "tokens", made["features"])


def _by_feature(connection: Connection, rows: Sequence[tuple[Any, ...]]) -> dict[int, dict[EvidenceKind, AnyEvidence]]:
    found: dict[int, dict[EvidenceKind, AnyEvidence]] = {}
    for (feature, kind, *_), record in zip(rows, _opened(connection, [_Packed(*row[1:]) for row in rows]), strict=True):
        found.setdefault(feature, {})[kind] = record
    return found


def _made(connection: Connection, provenance: Provenance, rows: Mapping[int, Record]) -> dict[str, Any]:
    """Return what is bound for rows that were made together, and write their provenance."""
    features = sorted(rows)
    return {
        "recipe": provenance.recipe,
        "provenance_id": _queries.put_provenance(connection, document=as_json(provenance.document)),
        "features": features,
        "payloads": [pack(rows[feature]) for feature in features],
    }


def _opened(connection: Connection, packed: Sequence[_Packed]) -> list[AnyEvidence]:
    """Return the records of what was packed, in order; the contexts of one reading are read together."""
    forms: list[type[AnyEvidence | References]]
    forms = [_STORED_AS.get(one.kind, EVIDENCE_RECORDS[one.kind]) for one in packed]
    made = [unpack(form, one.payload) for form, one in zip(forms, packed, strict=True)]
    wanted: dict[int, set[int]] = {}
    for one, record in zip(packed, made, strict=True):
        if isinstance(record, References):
            wanted.setdefault(one.reading_id or 0, set()).update(record.contexts)
    texts = {reading_id: contexts.load(connection, reading_id, numbers) for reading_id, numbers in wanted.items()}
    return [
        unfold(record, texts[one.reading_id or 0]) if isinstance(record, References) else record
        for one, record in zip(packed, made, strict=True)
    ]
