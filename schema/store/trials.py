"""Trials: asked for, claimed once, and over by a time that was set at the start, whatever becomes of the worker.

Nothing has to move a trial that hangs: one that is not over by its time is read as expired, and no worker can end it.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple
from uuid import UUID

from schema.errors import NotFound, Unavailable
from schema.records import Dictionary
from schema.stages import Queue
from schema.store import features
from schema.store.database import Connection
from schema.store.queries import as_json, load_queries
from schema.trials import (
    MOST_UNFINISHED,
    ActivationsSpec,
    Continuations,
    SteeringSpec,
    TextActivations,
    Trial,
    TrialKind,
)

_queries = load_queries("trials")

KEPT_S = 24 * 3600.0
_SPECS: Mapping[TrialKind, type[ActivationsSpec | SteeringSpec]] = {
    "activations": ActivationsSpec,
    "steering": SteeringSpec,
}
_COLUMNS = (
    *("id", "dictionary_id", "kind", "feature", "spec", "state", "error", "reason"),
    *("created_at", "started_at", "finished_at", "expires_at"),
)
_OF_DICTIONARY = ("id", "spec", "state", "weights_sha256", "digest", "error", "created_at")


class Claimed(NamedTuple):
    """A trial in hand, and the dictionary that it is about."""

    id: UUID
    spec: ActivationsSpec | SteeringSpec
    feature: int | None
    dictionary: Dictionary


def create(
    connection: Connection,
    tenant_id: int,
    id_: UUID,
    dictionary_id: UUID,
    spec: ActivationsSpec | SteeringSpec,
    *,
    feature: int | None = None,
    timeout_s: float,
) -> None:
    """Store a trial that waits for a worker. Raises Unavailable if as many of the tenant's are under way as may be."""
    under_way = _queries.n_unfinished(connection, tenant_id=tenant_id)
    if under_way >= MOST_UNFINISHED:
        raise Unavailable(f"{under_way} trials are under way, and no more go at once; try again in a few seconds")
    _queries.insert(
        connection,
        id=id_,
        tenant_id=tenant_id,
        dictionary_id=dictionary_id,
        kind="activations" if isinstance(spec, ActivationsSpec) else "steering",
        feature=feature,
        spec=as_json(spec.model_dump(mode="json")),
        timeout_s=timeout_s,
    )


def get(connection: Connection, tenant_id: int, id_: UUID) -> Trial:
    """Return a trial with what came of it, its features as they are labelled now.

    Raises: NotFound if this tenant has no such trial, or it was more than a day ago.
    """
    row = _queries.get(connection, tenant_id=tenant_id, id=id_)
    if row is None:
        raise NotFound(f"no trial {id_}; trials are kept for a day")
    *columns, result = row
    fields = dict(zip(_COLUMNS, columns, strict=True))
    fields["spec"] = _SPECS[fields["kind"]].model_validate(fields["spec"])
    if fields["state"] == "expired":
        fields["reason"] = _why_expired(fields)
    trial = Trial.model_validate(fields)
    return trial if result is None else trial.model_copy(update=_results(connection, trial, result))


def is_over(connection: Connection, id_: UUID) -> bool:
    """Return whether nothing more will come of a trial; also of one that is gone."""
    return _queries.is_over(connection, id=id_) is not False


def claim(connection: Connection, beside: UUID | None = None) -> Claimed | None:
    """Take the trial that has waited longest, or return None.

    beside:  the run whose job the worker has in hand; only trials of the same subject are taken then.
    """
    row = _queries.claim(connection, beside=beside)
    if row is None:
        return None
    id_, kind, feature, spec, *dictionary = row
    about = Dictionary.model_validate(dict(zip(_OF_DICTIONARY, dictionary, strict=True)))
    return Claimed(id_, _SPECS[kind].model_validate(spec), feature, about)


def finish(connection: Connection, id_: UUID, result: TextActivations | Continuations) -> bool:
    """Keep what came of a trial, and return whether anybody still wanted it."""
    return _queries.finish(connection, id=id_, result=as_json(result.model_dump(mode="json"))) is not None


def fail(connection: Connection, id_: UUID, *, error: str, reason: str) -> None:
    """Say why nothing came of a trial; one that is over stays as it is."""
    _queries.fail(connection, id=id_, error=error, reason=reason)


def cancel(connection: Connection, tenant_id: int, id_: UUID) -> Trial:
    """End a trial that is not over, and return it. Raises NotFound."""
    _queries.cancel(connection, tenant_id=tenant_id, id=id_)
    return get(connection, tenant_id, id_)


def ready_queues(connection: Connection) -> list[Queue]:
    """Return the queue of subject workers if a trial waits for one."""
    return ["subject"] if _queries.any_waiting(connection) else []


def delete_old(connection: Connection, *, most: int, kept_s: float = KEPT_S) -> None:
    """Delete up to `most` trials that were longer ago than they are kept."""
    _queries.delete_old(connection, kept_s=kept_s, most=most)


def _results(connection: Connection, trial: Trial, result: dict[str, Any]) -> dict[str, Any]:
    if trial.kind == "steering":
        steered = Continuations.model_validate(result)
        index = trial.feature or 0
        found = features.load(connection, trial.dictionary_id, [index])
        return {"steering": steered.model_copy(update={"feature": found.get(index)})}
    text = TextActivations.model_validate(result)
    named = sorted({one.index for token in text.tokens for one in token.features})
    known = features.load(connection, trial.dictionary_id, named)
    return {"activations": text.model_copy(update={"features": tuple(known[index] for index in sorted(known))})}


def _why_expired(fields: Mapping[str, Any]) -> str:
    allowed_s = (fields["expires_at"] - fields["created_at"]).total_seconds()
    if fields["started_at"] is None:
        return f"no subject worker took it within {allowed_s:g} s; they are busy with another subject, or none is up"
    return f"its worker did not finish within {allowed_s:g} s: it died, or had to load a large subject first; try again"
