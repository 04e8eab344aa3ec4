"""Features: one summary row each, which lists sort and filter by."""

from collections.abc import Sequence
from typing import Any, LiteralString, NamedTuple, cast
from uuid import UUID

from psycopg.sql import SQL

from schema.errors import NotFound
from schema.labels import FeatureSummary
from schema.store.database import Connection
from schema.store.filters import conditions_of
from schema.store.queries import load_queries
from schema.wire import FeatureFilter, FeatureSort

BATCH = 100_000  # rows a statement: well within the statement time-out, few round trips

_queries = load_queries("features")
_COLUMNS = tuple(FeatureSummary.model_fields)
_EVERY = FeatureFilter()


class Position(NamedTuple):
    """Where a page ended: the last feature's value in the sort column, and its index."""

    value: float | None
    feature: int


class _Part(NamedTuple):
    """The SQL of a part of an order: where it starts, where it goes on after a position, and how it is sorted."""

    start: LiteralString
    beyond: LiteralString
    order: LiteralString


def _by_value(column: LiteralString, direction: LiteralString, comparison: LiteralString) -> tuple[_Part, ...]:
    """Return the parts of an order by a column that may be empty: an index serves each of them."""
    position: LiteralString = "CAST(%(value)s AS real), %(feature)s"
    return (
        _Part(
            f"{column} IS NOT NULL",
            f"({column}, index) {comparison} ({position})",
            f"{column} {direction}, index {direction}",
        ),
        _Part(f"{column} IS NULL", f"{column} IS NULL AND index > %(feature)s", "index"),
    )


_ORDERS: dict[FeatureSort, tuple[_Part, ...]] = {
    "index": (_Part("true", "index > %(feature)s", "index"),),
    "-index": (_Part("true", "index < %(feature)s", "index DESC"),),
    "density": _by_value("density", "ASC", ">"),
    "-density": _by_value("density", "DESC", "<"),
    "input_lift": _by_value("input_lift", "ASC", ">"),
    "-input_lift": _by_value("input_lift", "DESC", "<"),
    "output_lift": _by_value("output_lift", "ASC", ">"),
    "-output_lift": _by_value("output_lift", "DESC", "<"),
    "input_value": _by_value("input_value", "ASC", ">"),
    "-input_value": _by_value("input_value", "DESC", "<"),
    "output_value": _by_value("output_value", "ASC", ">"),
    "-output_value": _by_value("output_value", "DESC", "<"),
}


def create(connection: Connection, dictionary_id: UUID, n_features: int) -> None:
    """Make the rows of a dictionary's features; rows that are there stay as they are."""
    for lo in range(0, n_features, BATCH):
        _queries.create(connection, dictionary_id=dictionary_id, lo=lo, hi=min(lo + BATCH, n_features))


def set_density(
    connection: Connection,
    dictionary_id: UUID,
    indices: Sequence[int],
    densities: Sequence[float],
    maxima: Sequence[float],
) -> None:
    """Set the density and the largest activation of many features at once."""
    for lo in range(0, len(indices), BATCH):
        batch = slice(lo, lo + BATCH)
        _queries.set_density(
            connection,
            dictionary_id=dictionary_id,
            indices=list(indices[batch]),
            densities=list(densities[batch]),
            maxima=list(maxima[batch]),
        )


def get(connection: Connection, dictionary_id: UUID, index: int) -> FeatureSummary:
    """Return the summary of a feature.

    Raises: NotFound if the dictionary has no such feature.
    """
    row = _queries.get(connection, dictionary_id=dictionary_id, index=index)
    if row is None:
        raise NotFound(f"dictionary {dictionary_id} has no feature {index}")
    return _summary(row)


def load(connection: Connection, dictionary_id: UUID, indices: Sequence[int]) -> dict[int, FeatureSummary]:
    """Return the summaries of some features by index; those that a dictionary does not have are left out."""
    rows = _queries.load(connection, dictionary_id=dictionary_id, indices=list(indices))
    return {row[0]: _summary(row) for row in rows}


def count_alive(connection: Connection, dictionary_id: UUID) -> int | None:
    """Return how many features of a dictionary fire; None where no run has found out yet."""
    n_alive, n_known = _queries.count_alive(connection, dictionary_id=dictionary_id)
    return int(n_alive) if n_known else None


def position_of(summary: FeatureSummary, sort: FeatureSort) -> Position:
    """Return the position of a feature in an order."""
    column = sort.removeprefix("-")
    return Position(None if column == "index" else getattr(summary, column), summary.index)


def page(
    connection: Connection,
    dictionary_id: UUID,
    *,
    sort: FeatureSort = "index",
    filters: FeatureFilter = _EVERY,
    after: Position | None = None,
    limit: int = 50,
) -> list[FeatureSummary]:
    """Return features after a position. Those without a value of the sort column come last, by index."""
    asked = conditions_of(filters)
    parts = _ORDERS[sort]
    if after is not None and after.value is None:
        parts = parts[-1:]
    found: list[FeatureSummary] = []
    for part in parts:
        position, beyond = (None, part.start) if after is None else (after, part.beyond)
        value, feature = position or (None, None)
        conditions = SQL(" AND ").join(SQL(condition) for condition in (beyond, *asked.parts))
        query = SQL(cast(LiteralString, _queries.page.sql)).format(conditions=conditions, order=SQL(part.order))
        names = {"dictionary_id": dictionary_id, "value": value, "feature": feature, "most": limit - len(found)}
        # What is filtered by decides which index serves, so such a query is planned for its values each time.
        rows = connection.execute(query, {**names, **asked.parameters}, prepare=False if asked.parts else None)
        found += [_summary(row) for row in rows]
        if len(found) == limit:
            break
        after = None
    return found


def _summary(row: tuple[Any, ...]) -> FeatureSummary:
    return FeatureSummary(**dict(zip(_COLUMNS, row, strict=True)))
