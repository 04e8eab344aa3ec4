"""Lists of features in a real Postgres: every order and filter against sorting in Python."""

import random
import uuid
from collections.abc import Callable
from typing import Any, get_args

import pytest

from schema.errors import NotFound
from schema.labels import FeatureSummary
from schema.records import DictionarySpec, Encoder
from schema.store import dictionaries, features
from schema.store.database import Connection
from schema.wire import FeatureFilter, FeatureSort

N = 60
EVERY = FeatureFilter()


@pytest.fixture
def dictionary_id(connection: Connection) -> uuid.UUID:
    """Return a dictionary with seeded summaries: values with ties, and a third of them empty."""
    spec = DictionarySpec(
        name="d", subject="s", read_site="mlp_hidden.1", n_features=N, encoder=Encoder(kind="neurons")
    )
    id_ = dictionaries.create(connection, 1, uuid.uuid4(), spec).id
    draw = random.Random(0)

    def value() -> float | None:
        return draw.choice([None, 0.0, 0.1, 0.3, round(draw.uniform(-1, 1), 3)])

    for index in range(N):
        connection.execute(
            "UPDATE feature SET status = %s, method = %s, label = %s, density = %s, input_lift = %s, output_lift = %s,"
            " input_value = %s, output_value = %s, input_success = %s, output_success = %s"
            " WHERE dictionary_id = %s AND index = %s",
            (
                draw.choice(["ok", "refused", "unlabelled"]),
                draw.choice([None, "lexical", "combined"]),
                draw.choice([None, "rivers of Europe", "100% sure_thing", r"C:\new"]),
                value(),
                value(),
                value(),
                value(),
                value(),
                draw.choice([None, True, False]),
                draw.choice([None, True, False]),
                id_,
                index,
            ),
        )
    return id_


def all_of(connection: Connection, id_: uuid.UUID) -> list[FeatureSummary]:
    return features.page(connection, id_, limit=N)


def walk(
    connection: Connection, id_: uuid.UUID, sort: FeatureSort, limit: int, filters: FeatureFilter = EVERY
) -> list[FeatureSummary]:
    seen: list[FeatureSummary] = []
    after = None
    while page := features.page(connection, id_, sort=sort, filters=filters, after=after, limit=limit):
        assert len(page) <= limit
        seen += page
        after = features.position_of(page[-1], sort)
    return seen


def in_order(rows: list[FeatureSummary], sort: FeatureSort) -> list[int]:
    """Sort in Python: rows with a value first, ties in the direction of the order, then the rest by index."""
    column, falling = sort.removeprefix("-"), sort.startswith("-")
    valued = [row for row in rows if getattr(row, column) is not None]
    rest = [row for row in rows if getattr(row, column) is None]
    valued.sort(key=lambda row: (getattr(row, column), row.index), reverse=falling)
    return [row.index for row in valued + sorted(rest, key=lambda row: row.index)]


def test_pages_of_every_order_hold_every_feature_once(connection: Connection, dictionary_id: uuid.UUID) -> None:
    rows = all_of(connection, dictionary_id)
    for sort in get_args(FeatureSort):
        for limit in (1, 7, N):
            found = [row.index for row in walk(connection, dictionary_id, sort, limit)]
            assert found == in_order(rows, sort), (sort, limit)


def at_least(value: float | None, limit: float) -> bool:
    return value is not None and value >= limit


def at_most(value: float | None, limit: float) -> bool:
    return value is not None and value <= limit


FILTERS: list[tuple[dict[str, Any], Callable[[FeatureSummary], bool]]] = [
    ({"status": ("ok", "refused")}, lambda row: row.status in ("ok", "refused")),
    ({"status": ("unlabelled",)}, lambda row: row.status == "unlabelled"),
    ({"method": ("lexical",)}, lambda row: row.method == "lexical"),
    ({"input_success": False}, lambda row: row.input_success is False),
    ({"output_success": True}, lambda row: row.output_success is True),
    ({"min_density": 0.1}, lambda row: at_least(row.density, 0.1)),
    ({"min_density": 0.1, "max_density": 0.3}, lambda row: at_least(row.density, 0.1) and at_most(row.density, 0.3)),
    ({"min_input_lift": 0.1}, lambda row: at_least(row.input_lift, 0.1)),
    ({"max_input_lift": 0.1}, lambda row: at_most(row.input_lift, 0.1)),
    ({"min_output_lift": 0.0}, lambda row: at_least(row.output_lift, 0.0)),
    ({"max_output_lift": 0.0}, lambda row: at_most(row.output_lift, 0.0)),
    ({"min_input_value": 0.3}, lambda row: at_least(row.input_value, 0.3)),
    ({"max_input_value": 0.3}, lambda row: at_most(row.input_value, 0.3)),
    ({"min_output_value": 0.3}, lambda row: at_least(row.output_value, 0.3)),
    ({"max_output_value": 0.3}, lambda row: at_most(row.output_value, 0.3)),
    ({"q": "EUROPE"}, lambda row: row.label == "rivers of Europe"),
    ({"q": "0% s"}, lambda row: row.label == "100% sure_thing"),
    ({"q": "%"}, lambda row: row.label == "100% sure_thing"),
    ({"q": "_"}, lambda row: row.label == "100% sure_thing"),
    ({"q": r":\n"}, lambda row: row.label == r"C:\new"),
]


def test_filters_keep_what_they_say(connection: Connection, dictionary_id: uuid.UUID) -> None:
    rows = all_of(connection, dictionary_id)
    for filters, holds in FILTERS:
        kept = [row for row in rows if holds(row)]
        assert 0 < len(kept) < N
        for sort in ("index", "-input_lift"):
            found = walk(connection, dictionary_id, sort, 4, FeatureFilter(**filters))
            assert [row.index for row in found] == in_order(kept, sort), filters


def test_a_filter_is_never_read_as_sql(connection: Connection, dictionary_id: uuid.UUID) -> None:
    assert walk(connection, dictionary_id, "index", 4, FeatureFilter(q="x' OR 'a'='a")) == []


def test_densities_are_set_for_many_features_at_once(connection: Connection, dictionary_id: uuid.UUID) -> None:
    before = all_of(connection, dictionary_id)
    features.set_density(connection, dictionary_id, [3, 1], [0.25, 0.0], [8.5, 0.0])
    after = all_of(connection, dictionary_id)
    assert (after[3].density, after[3].max_activation) == (0.25, 8.5)
    assert (after[1].density, after[1].max_activation) == (0.0, 0.0)
    assert [row for row in after if row.index not in (1, 3)] == [row for row in before if row.index not in (1, 3)]


def test_creating_features_again_keeps_what_is_known_of_them(connection: Connection, dictionary_id: uuid.UUID) -> None:
    before = all_of(connection, dictionary_id)
    features.create(connection, dictionary_id, N)
    assert all_of(connection, dictionary_id) == before


def test_more_features_than_a_batch_are_made_and_measured(
    connection: Connection, dictionary_id: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "BATCH", 7)
    features.create(connection, dictionary_id, N + 5)
    indices = list(range(N + 5))
    features.set_density(connection, dictionary_id, indices, [i / 100 for i in indices], [1.0] * len(indices))
    found = features.page(connection, dictionary_id, limit=100)
    assert [(row.index, row.density) for row in found] == [(i, pytest.approx(i / 100)) for i in indices]


def test_one_summary_is_found_by_index(connection: Connection, dictionary_id: uuid.UUID) -> None:
    assert features.get(connection, dictionary_id, 7) == all_of(connection, dictionary_id)[7]
    with pytest.raises(NotFound, match=f"has no feature {N}"):
        features.get(connection, dictionary_id, N)
