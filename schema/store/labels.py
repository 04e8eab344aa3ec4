"""Labels: what is published of each feature, and what was published before."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from schema.errors import NotFound
from schema.labels import Label, Score
from schema.store.database import Connection
from schema.store.queries import as_json, load_queries

MACHINE = "glossarium"

_queries = load_queries("labels")
_KEPT_IN_COLUMNS = {"feature", "run_id", "author", "created_at"}


def publish(connection: Connection, dictionary_id: UUID, run_id: UUID | None, label: Label, recipe: str) -> int:
    """Store a label, make it the feature's current one and return its id.

    The same recipe replaces its own label. A label by a human stays current when a machine's comes after it.

    Raises: NotFound if the dictionary has no such feature.
    """
    names = {"dictionary_id": dictionary_id, "feature": label.feature}
    row = _queries.lock_feature(connection, **names)
    if row is None:
        raise NotFound(f"dictionary {dictionary_id} has no feature {label.feature}")
    body = as_json(label.model_dump(mode="json", exclude=_KEPT_IN_COLUMNS))
    label_id = _queries.upsert(connection, **names, run_id=run_id, author=label.author, recipe=recipe, body=body)
    (author,) = row
    if label.author != MACHINE or author in (None, MACHINE):
        make_current(connection, dictionary_id, label, label_id)
    return int(label_id)


def make_current(connection: Connection, dictionary_id: UUID, label: Label, label_id: int) -> None:
    """Make a stored label the current one of its feature, whoever wrote it."""
    names = {"dictionary_id": dictionary_id, "feature": label.feature}
    _queries.summarise(connection, **names, label_id=label_id, **_summary(label))


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
    """Return a label of every feature that a run selected and that has one, by feature.

    It is the run's own; where the run found its work already done, or another run did the same since, the newest.
    """
    return [_label(row) for row in _queries.of_run(connection, run_id=run_id)]


def made_by(connection: Connection, run_id: UUID, recipe: str, features: Sequence[int]) -> list[Label]:
    """Return the labels that a run made of some features, by feature; those without one are left out.

    They come without how they were chosen and without the items that they were scored on. Where another run did the
    same since, and the label names that one, it is found by the recipe of its scores.
    """
    names = {"run_id": run_id, "author": MACHINE, "recipe": recipe, "features": list(features)}
    return [_label(row) for row in _queries.made_by(connection, **names)]


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
    feature, run_id, author, created_at, body = row
    return Label(feature=feature, run_id=run_id, author=author, created_at=created_at, **body)
