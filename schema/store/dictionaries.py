"""Dictionaries: rows of what users submitted. Whether weights fit their subject is checked before they come here."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from schema import recipes
from schema.errors import Conflict, NotFound
from schema.health import MeasuredHealth
from schema.records import Dictionary, DictionarySpec
from schema.store import features
from schema.store.database import Connection
from schema.store.queries import as_json, load_queries

_queries = load_queries("dictionaries")
_REMOVALS = (
    _queries.delete_scores,
    _queries.delete_labels,
    _queries.delete_descriptions,
    _queries.delete_evidence,
    _queries.delete_tokens,
    _queries.delete_features,
)


def digest_of(spec: DictionarySpec, weights_sha256: str | None) -> str:
    """Return the sha256 of what decides activations and directions: names do not, weights do."""
    parts = spec.model_dump(mode="json", exclude={"name", "source"})
    return recipes.digest({**parts, "write_site": spec.write_site or spec.read_site, "weights": weights_sha256})


def create(connection: Connection, tenant_id: int, id_: UUID, spec: DictionarySpec) -> Dictionary:
    """Store a new dictionary: `ready`, with its features, where it needs no weights."""
    needs_weights = spec.encoder.kind != "neurons"
    dictionary = _one(
        _queries.insert(
            connection,
            id=id_,
            tenant_id=tenant_id,
            spec=as_json(spec.model_dump(mode="json")),
            state="awaiting_weights" if needs_weights else "ready",
            digest=digest_of(spec, None),
        )
    )
    if not needs_weights:
        features.create(connection, id_, spec.n_features)
    return dictionary


def get(connection: Connection, tenant_id: int, id_: UUID) -> Dictionary:
    """Return a dictionary.

    Raises: NotFound if this tenant has no such dictionary.
    """
    return _found(_queries.get(connection, tenant_id=tenant_id, id=id_), id_)


def health(connection: Connection, id_: UUID) -> MeasuredHealth | None:
    """Return how a dictionary does on its subject, as the newest run that measured it found it; None if none did."""
    row = _queries.health(connection, dictionary_id=id_)
    if row is None:
        return None
    run_id, measured_at, found = row
    return MeasuredHealth(run_id=run_id, measured_at=measured_at, **found)


def page(
    connection: Connection,
    tenant_id: int,
    *,
    collection_id: UUID | None = None,
    after: tuple[datetime, UUID] | None = None,
    limit: int = 50,
) -> list[Dictionary]:
    """Return dictionaries, newest first; `after` is the creation time and id of the last one seen."""
    before, after_id = after or (None, None)
    names = {"tenant_id": tenant_id, "collection_id": collection_id, "before": before, "after_id": after_id}
    rows = _queries.page(connection, **names, most=limit)
    return [_dictionary(row) for row in rows]


def names(connection: Connection, tenant_id: int, ids: Iterable[UUID]) -> dict[UUID, str]:
    """Return the names of those of some dictionaries that this tenant has."""
    return dict(_queries.names(connection, tenant_id=tenant_id, ids=list(set(ids))))


def hold(connection: Connection, tenant_id: int, ids: Sequence[UUID]) -> list[Dictionary]:
    """Return those of some dictionaries that this tenant has; none is deleted before the caller's transaction ends."""
    return [_dictionary(row) for row in _queries.hold(connection, tenant_id=tenant_id, ids=list(ids))]


def of_collections(connection: Connection, collection_ids: Sequence[UUID]) -> dict[UUID, list[Dictionary]]:
    """Return the dictionaries of some collections, in their order."""
    found: dict[UUID, list[Dictionary]] = {}
    for collection_id, *row in _queries.of_collections(connection, collection_ids=list(collection_ids)):
        found.setdefault(collection_id, []).append(_dictionary(tuple(row)))
    return found


def set_weights(connection: Connection, tenant_id: int, id_: UUID, sha256: str, *, n_bytes: int = 0) -> Dictionary:
    """Give a dictionary its (checked) weights and its features; the same weights once more change nothing.

    Raises: NotFound if this tenant has no such dictionary; Conflict if its state forbids weights.
    """
    dictionary = _found(_queries.lock(connection, tenant_id=tenant_id, id=id_), id_)
    refuse_weights(dictionary, sha256)
    if dictionary.state == "ready":
        return dictionary
    features.create(connection, id_, dictionary.spec.n_features)
    digest = digest_of(dictionary.spec, sha256)
    return _one(_queries.set_weights(connection, id=id_, sha256=sha256, digest=digest, n_bytes=n_bytes))


def set_size(connection: Connection, id_: UUID, n_bytes: int) -> None:
    """Note how large the weights are that a dictionary came with."""
    _queries.set_size(connection, id=id_, n_bytes=n_bytes)


def refuse_weights(dictionary: Dictionary, sha256: str | None = None) -> None:
    """Refuse where weights can't be taken; sha256 None asks before they are known.

    Raises: Conflict if the encoder has no weights, or the dictionary has other weights already.
    """
    name = f"dictionary {dictionary.id}"
    if dictionary.spec.encoder.kind == "neurons":
        raise Conflict(f"{name} is of neurons: its weights are the subject's, and none can be uploaded")
    if dictionary.state == "failed":
        raise Conflict(f"{name} failed ({dictionary.error}); submit a new dictionary")
    known = dictionary.weights_sha256  # before they come, too, where the dictionary was imported without them
    if known is not None and sha256 is not None and sha256 != known:
        raise Conflict(f"{name} has weights {known} and not {sha256}; submit a new dictionary")


def fail(connection: Connection, id_: UUID, error: str) -> Dictionary:
    """Mark a dictionary as unusable, with the reason."""
    return _one(_queries.fail(connection, id=id_, error=error))


def delete(connection: Connection, tenant_id: int, id_: UUID) -> None:
    """Delete a dictionary with its runs, evidence and labels.

    Raises: NotFound if this tenant has no such dictionary; Conflict while one of its runs is not finished.
    """
    dictionary = _found(_queries.lock(connection, tenant_id=tenant_id, id=id_), id_)
    run_id = _queries.unfinished_run(connection, id=id_)
    if run_id is not None:
        raise Conflict(f"run {run_id} of dictionary {id_} is not finished; cancel it first")
    _queries.delete_dependencies(connection, id=id_)
    _queries.delete_jobs(connection, id=id_)
    for lo in range(0, dictionary.spec.n_features, features.BATCH):
        for remove in _REMOVALS:
            remove(connection, id=id_, lo=lo, hi=lo + features.BATCH)
    _queries.delete_contexts(connection, prefix=reading_prefix(id_))
    _queries.delete_readings(connection, prefix=reading_prefix(id_))
    _queries.delete(connection, tenant_id=tenant_id, id=id_)


def reading_prefix(id_: UUID) -> str:
    """Return how the recipes of the readings begin that were imported with a dictionary, and belong to it alone."""
    return f"imported:{id_}:"


def _found(rows: Any, id_: UUID) -> Dictionary:
    for row in rows:
        return _dictionary(row)
    raise NotFound(f"no dictionary {id_}")


def _one(rows: Any) -> Dictionary:
    (row,) = rows
    return _dictionary(row)


def _dictionary(row: tuple[Any, ...]) -> Dictionary:
    id_, spec, state, weights_sha256, digest, error, created_at = row
    return Dictionary(
        id=id_,
        spec=DictionarySpec.model_validate(spec),
        state=state,
        weights_sha256=weights_sha256,
        digest=digest,
        error=error,
        created_at=created_at,
    )
