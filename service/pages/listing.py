"""Rows of features as pages list them: what lists have, with the intervals of the scores and how activations spread."""

from collections.abc import Sequence
from typing import NamedTuple, get_args
from uuid import UUID

from schema.labels import FeatureSummary, Status
from schema.records import Method
from schema.store import evidence, overviews
from schema.store.database import Connection
from schema.store.overviews import Measured
from schema.store.search import Key

METHODS: tuple[str, ...] = get_args(Method)
STATUSES: tuple[str, ...] = (*map(str, Status), "unlabelled")


class Row(NamedTuple):
    """A feature in a list. `measured` is None without a label; `histogram` is empty where nothing was counted."""

    dictionary_id: UUID
    summary: FeatureSummary
    measured: Measured | None
    histogram: tuple[int, ...] = ()


def rows(connection: Connection, found: Sequence[tuple[UUID, FeatureSummary]]) -> list[Row]:
    """Return rows of features of any dictionaries, in their order, without histograms."""
    measured = overviews.measured(connection, [Key(id_, summary.index) for id_, summary in found])
    return [Row(id_, summary, measured.get(Key(id_, summary.index))) for id_, summary in found]


def rows_of(connection: Connection, dictionary_id: UUID, found: Sequence[FeatureSummary]) -> list[Row]:
    """Return rows of features of one dictionary, in their order."""
    histograms = evidence.histograms(connection, dictionary_id, [one.index for one in found])
    plain = rows(connection, [(dictionary_id, one) for one in found])
    return [row._replace(histogram=histograms.get(row.summary.index, ())) for row in plain]
