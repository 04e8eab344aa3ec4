"""Labels: what is published of each feature, and what was published before."""

from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

from schema.edits import SignedEdit
from schema.errors import Conflict, NotFound
from schema.labels import MACHINE, Label, Score, Status
from schema.lookups import Place
from schema.recipes import digest
from schema.store import descriptions
from schema.store.database import Connection
from schema.store.queries import as_array, as_json, load_queries

_queries = load_queries("labels")
_KEPT_IN_COLUMNS = {"id", "feature", "run_id", "author", "created_at"}


def publish(connection: Connection, dictionary_id: UUID, run_id: UUID | None, label: Label, recipe: str) -> int:
    """Store a label, make it the feature's current one and return its id.

    The same recipe replaces its own label. A label by a human stays current when a machine's comes after it; the run
    keeps that one as what it gave the feature.

    Raises: NotFound if the dictionary has no such feature.
    """
    standing = _lock(connection, dictionary_id, label.feature)
    names = {"dictionary_id": dictionary_id, "feature": label.feature}
    body = as_json(label.model_dump(mode="json", exclude=_KEPT_IN_COLUMNS))
    label_id = _queries.upsert(connection, **names, run_id=run_id, author=label.author, recipe=recipe, body=body)
    if label.author != MACHINE or standing.author in (None, MACHINE):
        make_current(connection, dictionary_id, label, label_id)
    return int(label_id)


def tally(connection: Connection, run_ids: Sequence[UUID], features: Sequence[int]) -> None:
    """Count the labels that some runs gave features, in the transaction that stores them and once."""
    _queries.tally(connection, run_ids=list(run_ids), features=list(features))


def make_current(connection: Connection, dictionary_id: UUID, label: Label, label_id: int) -> None:
    """Make a stored label the current one of its feature, whoever wrote it."""
    names = {"dictionary_id": dictionary_id, "feature": label.feature}
    _queries.summarise(connection, **names, label_id=label_id, **_summary(label))


def edit(connection: Connection, dictionary_id: UUID, feature: int, edited: SignedEdit) -> Label:
    """Store a person's label, make it the feature's current one and return it; the same edit again changes nothing.

    What it says is a description as well, which competes with others in runs with the method `imported`.

    Raises: NotFound if the dictionary has no such feature; Conflict if another label stands there than was seen.
    """
    standing = _lock(connection, dictionary_id, feature)
    recipe = digest({"kind": "edit", **edited.model_dump()})
    if (standing.author, standing.recipe) != (edited.author, recipe):
        _check_seen(feature, standing, edited.seen)
        described = descriptions.put_edited(connection, dictionary_id, feature, edited)
        label = Label(
            feature=feature,
            text=edited.text,
            status=Status.OK,
            method=described.method,
            description_id=described.id,
            author=edited.author,
            note=edited.note,
        )
        publish(connection, dictionary_id, None, label, recipe)
    return _label(_queries.current(connection, dictionary_id=dictionary_id, feature=feature))


def withdraw(connection: Connection, dictionary_id: UUID, feature: int, seen: int) -> None:
    """Make the newest label by a run the current one of a feature again, or none where there is none.

    Raises: NotFound if no label by a person stands there; Conflict if it is another one than was seen.
    """
    standing = _lock(connection, dictionary_id, feature)
    if standing.author in (None, MACHINE):
        raise NotFound(f"feature {feature} has no label by a person; there is nothing to withdraw")
    _check_seen(feature, standing, seen)
    names = {"dictionary_id": dictionary_id, "feature": feature}
    row = _queries.newest_by(connection, **names, author=MACHINE)
    if row is None:
        _queries.clear(connection, **names)
    else:
        label = _label(row)
        make_current(connection, dictionary_id, label, label.id or 0)


def brief(connection: Connection, tenant_id: int, places: Sequence[Place]) -> str:
    """Return the current labels of features of any of a tenant's dictionaries: a JSON list of BriefLabel, in order.

    It has null where there is none.

    Raises: NotFound naming the first that is no feature of a dictionary of this tenant.
    """
    numbers: dict[UUID, int] = {}
    nth = [numbers.setdefault(one.dictionary_id, len(numbers)) for one in places]
    known = dict(_queries.sizes(connection, tenant_id=tenant_id, dictionaries=list(numbers)))
    sizes = [known.get(dictionary_id, 0) for dictionary_id in numbers]
    unknown = next((place for place, number in zip(places, nth, strict=True) if place.feature >= sizes[number]), None)
    if unknown is not None:
        raise NotFound(f"no feature {unknown.feature} of a dictionary {unknown.dictionary_id}")
    names = {"dictionaries": list(numbers), "nth": as_array(nth), "machine": MACHINE}
    found: str = _queries.brief(connection, **names, features=as_array(place.feature for place in places))
    return found


def current(connection: Connection, dictionary_id: UUID, feature: int) -> Label | None:
    """Return the published label of a feature, or None where there is none yet."""
    row = _queries.current(connection, dictionary_id=dictionary_id, feature=feature)
    return None if row is None else _label(row)


def history(connection: Connection, dictionary_id: UUID, feature: int) -> list[Label]:
    """Return every label that a feature ever had, the newest first."""
    return [_label(row) for row in _queries.history(connection, dictionary_id=dictionary_id, feature=feature)]


def page(
    connection: Connection, dictionary_id: UUID, *, run_id: UUID | None = None, after: int = -1, limit: int = 50
) -> list[Label]:
    """Return current labels by feature; `after` is the last feature seen; `run_id` keeps what that run selected."""
    rows = _queries.page(connection, dictionary_id=dictionary_id, run_id=run_id, after=after, most=limit)
    return [_label(row) for row in rows]


def of_run(connection: Connection, run_id: UUID) -> list[Label]:
    """Return the labels that a run gave the features it selected, by feature, whatever is current by now."""
    return [_label(row) for row in _queries.of_run(connection, run_id=run_id)]


def made_by(connection: Connection, run_id: UUID, recipe: str, features: Sequence[int]) -> list[Label]:
    """Return the labels that a run made of some features, by feature; those without one are left out.

    They come without how they were chosen and without the items that they were scored on. Where another run did the
    same since, and the label names that one, it is found by the recipe of its scores.
    """
    names = {"run_id": run_id, "author": MACHINE, "recipe": recipe, "features": list(features)}
    return [_label(row) for row in _queries.made_by(connection, **names)]


class _Standing(NamedTuple):
    """The current label of a feature; nothing where it has none."""

    id: int | None
    author: str | None
    recipe: str | None


def _lock(connection: Connection, dictionary_id: UUID, feature: int) -> _Standing:
    """Lock a feature for the caller's transaction, and return what stands there. Raises NotFound."""
    row = _queries.lock_feature(connection, dictionary_id=dictionary_id, feature=feature)
    if row is None:
        raise NotFound(f"dictionary {dictionary_id} has no feature {feature}")
    return _Standing(*row)


def _check_seen(feature: int, standing: _Standing, seen: int | None) -> None:
    if standing.id != seen:
        now = "no label" if standing.id is None else f"label {standing.id} by {standing.author}"
        raise Conflict(f"feature {feature} has {now} by now, and not the one that was seen ({seen}); look again")


def _summary(label: Label) -> dict[str, Any]:
    """Return what lists show of a label; the embedding judge's output score goes before the LLM judge's."""
    output = label.output or label.output_llm
    return {
        "status": str(label.status),
        "label": None if label.text is None else label.text.replace("\0", "\ufffd"),
        "method": label.method,
        **_columns("input", label.input),
        **_columns("output", output),
    }


def _columns(facet: str, score: Score | None) -> dict[str, Any]:
    estimate = score.estimate if score else None
    return {
        f"{facet}_success": score.success if score else None,
        f"{facet}_value": estimate.value if estimate else None,
        f"{facet}_lift": score.lift if score else None,
    }


def _label(row: tuple[Any, ...]) -> Label:
    id_, feature, run_id, author, created_at, body = row
    return Label(id=id_, feature=feature, run_id=run_id, author=author, created_at=created_at, **body)
