"""Writes what an archive holds as a dictionary of its own: under new ids, for the tenant that imports it.

Callers have held every line against its record. All of it is one transaction: a dictionary is imported whole or not.
"""

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from schema.archives import (
    ArchivedContext,
    ArchivedFeature,
    ArchivedLabel,
    ArchivedMember,
    ArchivedRun,
    Manifest,
    label_of,
)
from schema.errors import BadArchive, GlossariumError
from schema.packing import check_packed
from schema.records import Budget
from schema.store import dictionaries, indexing, labels, spending
from schema.store.database import Connection
from schema.store.queries import as_json, load_queries

FACETS = ("input", "output", "output_llm")

_queries = load_queries("archives")


class Target(NamedTuple):
    """Where an archive goes: the new dictionary, the ids of its runs by number, and of its readings by recipe."""

    connection: Connection
    tenant_id: int
    dictionary_id: UUID
    runs: list[UUID]
    readings: dict[str, int]


def open_target(connection: Connection, tenant_id: int, id_: UUID, manifest: Manifest) -> Target:
    """Store the dictionary that an archive is of. Without its weights it waits for those very ones."""
    ready = manifest.has_weights or manifest.weights_sha256 is None
    _queries.put_dictionary(
        connection,
        id=id_,
        tenant_id=tenant_id,
        spec=as_json(manifest.spec.model_dump(mode="json")),
        state="ready" if ready else "awaiting_weights",
        weights_sha256=manifest.weights_sha256,
        digest=dictionaries.digest_of(manifest.spec, manifest.weights_sha256),
        created_at=manifest.created_at,
    )
    return Target(connection, tenant_id, id_, [], {})


def put_run(target: Target, run: ArchivedRun) -> None:
    """Store the next run."""
    connection, id_ = target.connection, uuid4()
    _queries.put_run(
        connection,
        id=id_,
        tenant_id=target.tenant_id,
        dictionary_id=target.dictionary_id,
        spec=as_json({**run.spec, "dictionary_id": str(target.dictionary_id)}),
        state=run.state,
        note=run.note,
        created_at=run.created_at,
        started_at=run.started_at,
        finished_at=run.finished_at,
        n_features=run.n_features,
        llms=None if run.llms is None else as_json(run.llms),
        ingredients=None if run.ingredients is None else as_json(run.ingredients),
    )
    budget = run.spec.get("budget")
    spending.open_account(connection, id_, None if budget is None else Budget.model_validate(budget))
    if run.report is not None:
        names = {"run_id": str(id_), "dictionary_id": str(target.dictionary_id)}
        body = as_json({**run.report, **names})
        _queries.put_report(connection, run_id=id_, body=body, created_at=run.reported_at or run.created_at)
    target.runs.append(id_)


def put_block(target: Target, documents: Sequence[Mapping[str, Any]], some: Sequence[ArchivedFeature]) -> None:
    """Store some features with everything that hangs on them.

    documents:  what their evidence was made from, by place.

    Raises: BadArchive where evidence is damaged.
    """
    connection, id_ = target.connection, target.dictionary_id
    _queries.put_features(
        connection,
        dictionary_id=id_,
        features=[one.feature for one in some],
        densities=[one.density for one in some],
        maxima=[one.max_activation for one in some],
    )
    _put_evidence(target, documents, some)
    described = _put_descriptions(target, some)
    _put_scores(target, some, described)
    labelled = _put_labels(target, some, described)
    members = [(one.feature, member) for one in some for member in one.runs]
    _queries.put_members(
        connection,
        runs=[target.runs[member.run] for _, member in members],
        positions=[member.position for _, member in members],
        features=[feature for feature, _ in members],
        selected=[member.selected for _, member in members],
        pooled=[member.pooled for _, member in members],
        labels=[_id(labelled, one.feature, _given(one, member)) for one in some for member in one.runs],
    )
    labels.tally(connection, target.runs, [one.feature for one in some])


def put_contexts(target: Target, recipe: str, some: Sequence[ArchivedContext]) -> None:
    """Store contexts of a reading that belongs to this dictionary alone: others must not trust what came with it.

    Raises: BadArchive where they are damaged.
    """
    _queries.put_contexts(
        target.connection,
        reading_id=_reading(target, recipe),
        numbers=[one.number for one in some],
        tokens=[_unpacked(f"context {one.number}", one.tokens) for one in some],
    )


def _reading(target: Target, recipe: str) -> int:
    if recipe not in target.readings:
        own = dictionaries.reading_prefix(target.dictionary_id) + recipe
        target.readings[recipe] = _queries.add_reading(target.connection, recipe=own)
    return target.readings[recipe]


def _put_evidence(target: Target, documents: Sequence[Mapping[str, Any]], some: Sequence[ArchivedFeature]) -> None:
    texts = [json.dumps(document) for document in documents]
    ids = sorted(id_ for (id_,) in _queries.put_provenance(target.connection, documents=texts))
    pieces = [(one.feature, piece) for one in some for piece in one.evidence]
    _queries.put_evidence(
        target.connection,
        dictionary_id=target.dictionary_id,
        features=[feature for feature, _ in pieces],
        kinds=[piece.kind for _, piece in pieces],
        recipes=[piece.recipe for _, piece in pieces],
        payloads=[_unpacked(f"{piece.kind} of feature {feature}", piece.payload) for feature, piece in pieces],
        times=[piece.created_at for _, piece in pieces],
        provenance=[ids[piece.provenance] for _, piece in pieces],
        readings=[None if piece.reading is None else _reading(target, piece.reading) for _, piece in pieces],
    )
    indexing.add(target.connection, target.dictionary_id, "tokens", sorted({feature for feature, _ in pieces}))


Placed = dict[tuple[int, int], int]
"""Ids of descriptions, or of labels, by feature and place."""


def _put_descriptions(target: Target, some: Sequence[ArchivedFeature]) -> Placed:
    made = [(one.feature, place, described) for one in some for place, described in enumerate(one.descriptions)]
    rows = _queries.put_descriptions(
        target.connection,
        dictionary_id=target.dictionary_id,
        features=[feature for feature, _, _ in made],
        bodies=[json.dumps(described.body) for _, _, described in made],
        times=[described.created_at for _, _, described in made],
    )
    # Identities are given out in the order in which rows are inserted.
    ids = sorted(id_ for (id_,) in rows)
    written = [
        (id_, sentences) for id_, (_, _, described) in zip(ids, made, strict=True) for sentences in described.sentences
    ]
    _queries.put_sentences(
        target.connection,
        descriptions=[id_ for id_, _ in written],
        bodies=[json.dumps(sentences.body) for _, sentences in written],
        times=[sentences.created_at for _, sentences in written],
    )
    return {(feature, place): id_ for id_, (feature, place, _) in zip(ids, made, strict=True)}


def _put_scores(target: Target, some: Sequence[ArchivedFeature], described: Placed) -> None:
    made = [(one.feature, score) for one in some for score in one.scores]
    _queries.put_scores(
        target.connection,
        dictionary_id=target.dictionary_id,
        features=[feature for feature, _ in made],
        descriptions=[_id(described, feature, score.description) for feature, score in made],
        bodies=[json.dumps(score.body) for _, score in made],
        times=[score.created_at for _, score in made],
    )


def _put_labels(target: Target, some: Sequence[ArchivedFeature], described: Placed) -> Placed:
    made = [(one, place, label) for one in some for place, label in enumerate(one.labels)]
    rows = _queries.put_labels(
        target.connection,
        dictionary_id=target.dictionary_id,
        features=[one.feature for one, _, _ in made],
        runs=[None if label.run is None else target.runs[label.run] for _, _, label in made],
        authors=[label.author for _, _, label in made],
        recipes=[label.recipe for _, _, label in made],
        bodies=[json.dumps(_body(label, _id(described, one.feature, label.description))) for one, _, label in made],
        times=[label.created_at for _, _, label in made],
    )
    ids = sorted(id_ for (id_,) in rows)
    with target.connection.pipeline():
        for id_, (one, place, label) in zip(ids, made, strict=True):
            if one.current == place:
                labels.make_current(target.connection, target.dictionary_id, label_of(one.feature, label), id_)
    return {(one.feature, place): id_ for id_, (one, place, _) in zip(ids, made, strict=True)}


def _given(one: ArchivedFeature, member: ArchivedMember) -> int | None:
    """Return which label a run gave a feature: that which names the run where the archive does not say."""
    named = (place for place, label in enumerate(one.labels) if label.run == member.run)
    return next(named, None) if member.label is None else member.label


def _body(label: ArchivedLabel, description_id: int | None) -> dict[str, Any]:
    """Return the body of a label as it is stored, with the id of its description wherever it belongs."""
    facets = {name: {**label.body[name], "description_id": description_id} for name in FACETS if label.body.get(name)}
    return {**label.body, **facets, "description_id": description_id}


def _id(placed: Placed, feature: int, place: int | None) -> int | None:
    return None if place is None else placed[feature, place]


def _unpacked(what: str, text: str) -> bytes:
    """Return packed bytes, looked at."""
    try:
        data = base64.b64decode(text, validate=True)
        check_packed(data)
    except (binascii.Error, GlossariumError) as exc:
        raise BadArchive(f"{what}: {exc}") from exc
    return data
