"""Labels in a real Postgres: what is published, what was, and what lists show of it."""

import uuid

import pytest

from schema.errors import NotFound
from schema.labels import Estimate, Label, Score, ScoreKind, Status
from schema.records import DictionarySpec, Encoder, RunSpec
from schema.store import dictionaries, features, labels, runs
from schema.store.database import Connection


@pytest.fixture
def dictionary_id(connection: Connection) -> uuid.UUID:
    spec = DictionarySpec(
        name="d", subject="s", read_site="mlp_hidden.1", n_features=4, encoder=Encoder(kind="neurons")
    )
    return dictionaries.create(connection, 1, uuid.uuid4(), spec).id


@pytest.fixture
def run_id(connection: Connection, dictionary_id: uuid.UUID) -> uuid.UUID:
    return new_run(connection, dictionary_id, [1, 2])


def new_run(connection: Connection, dictionary_id: uuid.UUID, selected: list[int]) -> uuid.UUID:
    """Store a run that selected some features and keeps feature 0 for its pool only."""
    id_ = uuid.uuid4()
    runs.submit(connection, 1, id_, RunSpec(dictionary_id=dictionary_id), n_features=len(selected), n_shards=1)
    for position, feature in enumerate([0, *selected]):
        connection.execute(
            "INSERT INTO run_feature (run_id, position, feature, selected, pooled) VALUES (%s, %s, %s, %s, %s)",
            (id_, position, feature, position > 0, position == 0),
        )
    return id_


def score(kind: ScoreKind, value: float, lift: float, success: bool) -> Score:
    estimate = Estimate(value=value, low=value, high=value, n=10)
    return Score(feature=1, kind=kind, status=Status.OK, estimate=estimate, lift=lift, success=success, recipe="r")


def label(feature: int, text: str | None = "rivers", **changes: object) -> Label:
    fields = {"feature": feature, "text": text, "status": Status.OK, "method": "combined", "description_id": 7}
    return Label.model_validate({**fields, **changes})


def test_a_published_label_is_current_and_shown_in_lists(
    connection: Connection, dictionary_id: uuid.UUID, run_id: uuid.UUID
) -> None:
    given = label(1, input=score("input", 0.75, 0.25, True), output=score("output", 0.5, 0.125, False))
    labels.publish(connection, dictionary_id, run_id, given, "recipe")
    current = labels.current(connection, dictionary_id, 1)
    assert current is not None
    assert current.created_at is not None
    assert current.model_copy(update={"created_at": None}) == given.model_copy(update={"run_id": run_id})
    row = features.get(connection, dictionary_id, 1)
    assert (row.status, row.label, row.method) == ("ok", "rivers", "combined")
    assert (row.input_success, row.input_value, row.input_lift) == (True, 0.75, 0.25)
    assert (row.output_success, row.output_value, row.output_lift) == (False, 0.5, 0.125)
    assert labels.current(connection, dictionary_id, 2) is None
    assert features.get(connection, dictionary_id, 2).status == "unlabelled"


def test_the_llm_judge_is_shown_only_where_there_is_no_other(
    connection: Connection, dictionary_id: uuid.UUID, run_id: uuid.UUID
) -> None:
    embedding, llm = score("output", 0.5, 0.125, False), score("output_llm", 1.0, 0.75, True)
    labels.publish(connection, dictionary_id, run_id, label(1, output=embedding, output_llm=llm), "a")
    labels.publish(connection, dictionary_id, run_id, label(2, output_llm=llm), "a")
    assert features.get(connection, dictionary_id, 1).output_value == 0.5
    assert features.get(connection, dictionary_id, 2).output_value == 1.0


def test_a_newer_label_replaces_the_summary_whole_and_keeps_history(
    connection: Connection, dictionary_id: uuid.UUID, run_id: uuid.UUID
) -> None:
    labels.publish(connection, dictionary_id, run_id, label(1, input=score("input", 0.75, 0.25, True)), "old")
    newer = label(1, None, status=Status.NO_PATTERN, method=None, description_id=None)
    labels.publish(connection, dictionary_id, run_id, newer, "new")
    row = features.get(connection, dictionary_id, 1)
    assert (row.status, row.label, row.method, row.input_value) == ("no_pattern", None, None, None)
    assert [one.text for one in labels.history(connection, dictionary_id, 1)] == [None, "rivers"]


def test_the_same_recipe_again_is_one_row_and_current_again(
    connection: Connection, dictionary_id: uuid.UUID, run_id: uuid.UUID
) -> None:
    first = labels.publish(connection, dictionary_id, run_id, label(1, "rivers"), "a")
    labels.publish(connection, dictionary_id, run_id, label(1, "lakes"), "b")
    again = labels.publish(connection, dictionary_id, new_run(connection, dictionary_id, [1]), label(1, "rivers"), "a")
    assert first == again
    assert [one.text for one in labels.history(connection, dictionary_id, 1)] == ["rivers", "lakes"]
    current = labels.current(connection, dictionary_id, 1)
    assert current is not None
    assert current.text == "rivers"


def test_a_human_label_wins_over_a_later_machine(
    connection: Connection, dictionary_id: uuid.UUID, run_id: uuid.UUID
) -> None:
    labels.publish(connection, dictionary_id, run_id, label(1, "rivers"), "a")
    labels.publish(connection, dictionary_id, None, label(1, "the Danube", author="ada"), "b")
    labels.publish(connection, dictionary_id, run_id, label(1, "water"), "c")
    current = labels.current(connection, dictionary_id, 1)
    assert current is not None
    assert (current.text, current.author, current.run_id) == ("the Danube", "ada", None)
    assert features.get(connection, dictionary_id, 1).label == "the Danube"
    assert [one.text for one in labels.history(connection, dictionary_id, 1)] == ["water", "the Danube", "rivers"]


def test_a_label_may_quote_a_token_with_a_zero_byte(
    connection: Connection, dictionary_id: uuid.UUID, run_id: uuid.UUID
) -> None:
    labels.publish(connection, dictionary_id, run_id, label(1, "fires on a\0b"), "a")
    assert features.get(connection, dictionary_id, 1).label == "fires on a\ufffdb"
    current = labels.current(connection, dictionary_id, 1)
    assert current is not None
    assert current.text == "fires on a\ufffdb"


def test_a_label_of_an_unknown_feature_is_refused(
    connection: Connection, dictionary_id: uuid.UUID, run_id: uuid.UUID
) -> None:
    with pytest.raises(NotFound, match="has no feature 4"):
        labels.publish(connection, dictionary_id, run_id, label(4), "a")


def test_a_run_has_labels_of_what_it_selected_and_its_own_first(
    connection: Connection, dictionary_id: uuid.UUID, run_id: uuid.UUID
) -> None:
    later = new_run(connection, dictionary_id, [1, 2, 3])
    labels.publish(connection, dictionary_id, run_id, label(0, "only in the pool"), "a")
    labels.publish(connection, dictionary_id, run_id, label(1, "first"), "a")
    labels.publish(connection, dictionary_id, later, label(1, "second"), "b")
    labels.publish(connection, dictionary_id, run_id, label(2, "unchanged"), "a")
    assert [(one.feature, one.text) for one in labels.of_run(connection, run_id)] == [(1, "first"), (2, "unchanged")]
    assert [(one.feature, one.text) for one in labels.of_run(connection, later)] == [(1, "second"), (2, "unchanged")]


def test_pages_of_labels_go_by_feature(connection: Connection, dictionary_id: uuid.UUID, run_id: uuid.UUID) -> None:
    for feature in (3, 0, 2):
        labels.publish(connection, dictionary_id, run_id, label(feature, f"l{feature}"), "a")
    assert [one.text for one in labels.page(connection, dictionary_id, limit=2)] == ["l0", "l2"]
    assert [one.text for one in labels.page(connection, dictionary_id, after=2)] == ["l3"]
    assert [one.text for one in labels.page(connection, dictionary_id, run_id=run_id)] == ["l2"]


def test_a_run_counts_its_features_by_method_and_status(
    connection: Connection, dictionary_id: uuid.UUID, run_id: uuid.UUID
) -> None:
    labels.publish(connection, dictionary_id, run_id, label(0, "only in the pool"), "a")
    labels.publish(connection, dictionary_id, run_id, label(1, "rivers"), "a")
    counts = [(row.method, row.status, row.n) for row in runs.counts(connection, run_id)]
    assert counts == [("combined", "ok", 1), (None, "unlabelled", 1)]
