"""What exports read of a dictionary, some features at a time: their labels as flat rows."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from schema.labels import ScoreKind
from schema.store.database import Connection
from schema.store.queries import load_queries

BATCH = 1024
"""Features that are read at once: what an export holds in memory, whatever the size of the dictionary."""

FACETS: tuple[ScoreKind, ...] = ("input", "output", "output_llm")

_queries = load_queries("exports")


class Range(NamedTuple):
    """Features from `lo` to `hi` - 1."""

    lo: int
    hi: int


class FacetRow(NamedTuple):
    """What is said of one facet of a label."""

    status: str | None = None
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    control: float | None = None
    lift: float | None = None
    lift_low: float | None = None
    lift_high: float | None = None
    success: bool | None = None


class LabelRow(NamedTuple):
    """A feature with its published label, its scores and what it was made from; flat but for the facets."""

    feature: int
    status: str
    label: str | None
    method: str | None
    author: str | None
    trigger: str | None
    effect: str | None
    best_input: str | None
    best_output: str | None
    density: float | None
    max_activation: float | None
    input: FacetRow
    output: FacetRow
    output_llm: FacetRow
    model: str | None
    prompt_id: str | None
    prompt_sha256: str | None
    recipe: str | None
    run_id: UUID | None
    labelled_at: datetime | None


def ranges(n_features: int, size: int = BATCH) -> Iterator[Range]:
    """Yield all features of a dictionary in ranges of at most `size`."""
    for lo in range(0, n_features, size):
        yield Range(lo, min(lo + size, n_features))


def labelled(connection: Connection, dictionary_id: UUID, some: Range) -> list[LabelRow]:
    """Return some features with their current labels, by index; those without a label too."""
    rows = _queries.labelled(connection, dictionary_id=dictionary_id, lo=some.lo, hi=some.hi)
    return [_row(*row) for row in rows]


def _row(
    feature: int,
    status: str,
    density: float | None,
    max_activation: float | None,
    author: str | None,
    run_id: UUID | None,
    labelled_at: datetime | None,
    recipe: str | None,
    label: Mapping[str, Any] | None,
    description: Mapping[str, Any] | None,
) -> LabelRow:
    said, made = label or {}, description or {}
    return LabelRow(
        feature=feature,
        status=status,
        label=said.get("text"),
        method=said.get("method"),
        author=author,
        trigger=made.get("trigger"),
        effect=made.get("effect"),
        best_input=said.get("best_input"),
        best_output=said.get("best_output"),
        density=density,
        max_activation=max_activation,
        input=_facet(said.get("input")),
        output=_facet(said.get("output")),
        output_llm=_facet(said.get("output_llm")),
        model=made.get("model"),
        prompt_id=made.get("prompt_id"),
        prompt_sha256=made.get("prompt_sha256"),
        recipe=recipe,
        run_id=run_id,
        labelled_at=labelled_at,
    )


def _facet(score: Mapping[str, Any] | None) -> FacetRow:
    if score is None:
        return FacetRow()
    estimate, control = score.get("estimate") or {}, score.get("control") or {}
    return FacetRow(
        status=score["status"],
        value=estimate.get("value"),
        low=estimate.get("low"),
        high=estimate.get("high"),
        n=estimate.get("n"),
        control=control.get("value"),
        lift=score.get("lift"),
        lift_low=score.get("lift_low"),
        lift_high=score.get("lift_high"),
        success=score.get("success"),
    )
