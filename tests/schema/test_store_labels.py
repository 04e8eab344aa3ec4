"""Labels in a real Postgres: what is published, what was, and what lists show of it."""

import uuid

import pytest

from schema.edits import SignedEdit
from schema.errors import Conflict, NotFound
from schema.labels import Estimate, Label, Score, ScoreKind, Status
from schema.records import DictionarySpec, Encoder, RunSpec
from schema.store import descriptions, dictionaries, features, labels, runs
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
    assert current.model_copy(update={"created_at": None, "id": None}) == given.model_copy(update={"run_id": run_id})
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
    for run in (run_id, later):
        labels.publish(connection, dictionary_id, run, label(2, "unchanged"), "a")
    assert [(one.feature, one.text) for one in labels.of_run(connection, run_id)] == [(1, "first"), (2, "unchanged")]
    assert [(one.feature, one.text) for one in labels.of_run(connection, later)] == [(1, "second"), (2, "unchanged")]


def test_a_run_keeps_what_it_gave_a_feature_beside_a_persons_label(
    connection: Connection, dictionary_id: uuid.UUID, run_id: uuid.UUID
) -> None:
    edited(connection, dictionary_id, None)
    labels.publish(connection, dictionary_id, run_id, label(1, "rivers"), "a")
    assert [one.text for one in labels.of_run(connection, run_id)] == ["rivers"]
    assert features.get(connection, dictionary_id, 1).label == "the Danube"


def edited(connection: Connection, dictionary_id: uuid.UUID, seen: int | None, text: str = "the Danube") -> int:
    """Edit the label of feature 1 as Ada, and return the id of what stands there then."""
    edit = SignedEdit(text=text, author="ada", note="read forty contexts", seen=seen)
    made = labels.edit(connection, dictionary_id, 1, edit)
    assert (made.text, made.author, made.note, made.status) == (text, "ada", "read forty contexts", Status.OK)
    assert made.id is not None
    return made.id


def test_an_edit_is_a_label_and_a_description_that_competes(
    connection: Connection, dictionary_id: uuid.UUID, run_id: uuid.UUID
) -> None:
    first = labels.publish(connection, dictionary_id, run_id, label(1, "rivers"), "a")
    edited(connection, dictionary_id, first)
    row = features.get(connection, dictionary_id, 1)
    assert (row.label, row.status, row.method, row.input_value) == ("the Danube", "ok", "imported", None)
    ((description,),) = descriptions.imported(connection, dictionary_id, [1]).values()
    current = labels.current(connection, dictionary_id, 1)
    assert current is not None
    assert current.description_id == description.id
    assert (description.text, description.parameters) == ("the Danube", {"origin": "edited here", "author": "ada"})


def test_an_edit_of_what_was_not_seen_is_refused_and_the_same_edit_again_changes_nothing(
    connection: Connection, dictionary_id: uuid.UUID, run_id: uuid.UUID
) -> None:
    first = labels.publish(connection, dictionary_id, run_id, label(1, "rivers"), "a")
    with pytest.raises(Conflict, match=rf"feature 1 has label {first} by glossarium by now, .* \(None\); look again"):
        edited(connection, dictionary_id, None)
    mine = edited(connection, dictionary_id, first)
    assert edited(connection, dictionary_id, first) == mine
    assert len(labels.history(connection, dictionary_id, 1)) == 2
    with pytest.raises(Conflict, match=rf"feature 1 has label {mine} by ada by now"):
        edited(connection, dictionary_id, first, "the Rhine")
    assert edited(connection, dictionary_id, mine, "the Rhine") > mine
    with pytest.raises(NotFound, match="has no feature 4"):
        labels.edit(connection, dictionary_id, 4, SignedEdit(text="t", author="ada", seen=None))


def test_what_is_withdrawn_gives_way_to_the_newest_label_by_a_run(
    connection: Connection, dictionary_id: uuid.UUID, run_id: uuid.UUID
) -> None:
    labels.publish(connection, dictionary_id, run_id, label(1, "rivers"), "a")
    first = labels.publish(connection, dictionary_id, run_id, label(1, "lakes"), "b")
    mine = edited(connection, dictionary_id, first)
    labels.publish(connection, dictionary_id, run_id, label(1, "water", input=score("input", 0.75, 0.25, True)), "c")
    with pytest.raises(Conflict, match=f"feature 1 has label {mine} by ada by now"):
        labels.withdraw(connection, dictionary_id, 1, first)
    labels.withdraw(connection, dictionary_id, 1, mine)
    row = features.get(connection, dictionary_id, 1)
    assert (row.label, row.method, row.input_lift) == ("water", "combined", 0.25)
    with pytest.raises(NotFound, match="feature 1 has no label by a person"):
        labels.withdraw(connection, dictionary_id, 1, mine)
    labels.publish(connection, dictionary_id, run_id, label(1, "rain"), "d")
    assert features.get(connection, dictionary_id, 1).label == "rain"
    assert len(labels.history(connection, dictionary_id, 1)) == 5


def test_a_feature_whose_only_label_is_withdrawn_is_unlabelled(
    connection: Connection, dictionary_id: uuid.UUID
) -> None:
    before = features.get(connection, dictionary_id, 1)
    labels.withdraw(connection, dictionary_id, 1, edited(connection, dictionary_id, None))
    assert labels.current(connection, dictionary_id, 1) is None
    assert features.get(connection, dictionary_id, 1) == before


def test_pages_of_labels_go_by_feature(connection: Connection, dictionary_id: uuid.UUID, run_id: uuid.UUID) -> None:
    for feature in (3, 0, 2):
        labels.publish(connection, dictionary_id, run_id, label(feature, f"l{feature}"), "a")
    assert [one.text for one in labels.page(connection, dictionary_id, limit=2)] == ["l0", "l2"]
    assert [one.text for one in labels.page(connection, dictionary_id, after=2)] == ["l3"]
    assert [one.text for one in labels.page(connection, dictionary_id, run_id=run_id)] == ["l2"]


def test_a_run_counts_the_labels_that_it_gave_by_method_and_status(
    connection: Connection, dictionary_id: uuid.UUID, run_id: uuid.UUID
) -> None:
    earlier = new_run(connection, dictionary_id, [1, 2])

    def publish(run: uuid.UUID, *made: Label) -> list[tuple[str | None, str, int]]:
        for one in made:
            labels.publish(connection, dictionary_id, run, one, f"{run} {one.feature}")
        labels.tally(connection, [run], [one.feature for one in made])
        return [(row.method, row.status, row.n) for row in runs.counts(connection, run)]

    both = publish(earlier, label(1, "rivers"), label(2, None, status=Status.FAILED, method=None))
    assert both == [("combined", "ok", 1), (None, "failed", 1)]
    unlabelled = [(None, "unlabelled", 1)]
    assert publish(run_id, label(0, "only in the pool"), label(1, "lakes")) == [("combined", "ok", 1), *unlabelled]
    assert publish(run_id, label(2, "seas")) == [("combined", "ok", 2)]
