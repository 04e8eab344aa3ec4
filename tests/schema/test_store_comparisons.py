"""Comparisons of two runs in a real Postgres: what each said of the same features, whatever stands there by now."""

import uuid

from schema.comparisons import RunChange
from schema.edits import SignedEdit
from schema.labels import Status
from schema.store import comparisons, labels
from schema.store.database import Connection
from tests.schema.test_store_labels import dictionary_id, label, new_run, score

__all__ = ["dictionary_id"]


def changes(connection: Connection, run_id: uuid.UUID, against: uuid.UUID, *wanted: RunChange) -> list[tuple[int, str]]:
    return [(one.feature, one.change) for one in comparisons.between(connection, run_id, against, wanted)]


def test_runs_differ_where_they_said_something_else(connection: Connection, dictionary_id: uuid.UUID) -> None:
    old, new, silent = (new_run(connection, dictionary_id, [1, 2, 3]) for _ in range(3))
    weak, strong = (label(1, "rivers", input=score("input", 0.75, lift, True)) for lift in (0.25, 0.5))
    nothing = label(3, None, status=Status.UNPARSED, method=None, description_id=None)
    for run, given in ((old, (weak, label(2, "ships"), nothing)), (new, (strong, label(2, "boats"), label(3, "rain")))):
        for one in given:
            labels.publish(connection, dictionary_id, run, one, f"{run} {one.feature}")
    assert changes(connection, new, old) == [(1, "rescored"), (2, "changed"), (3, "new")]
    assert changes(connection, old, new) == [(1, "rescored"), (2, "changed"), (3, "lost")]
    assert changes(connection, silent, new) == [(1, "lost"), (2, "lost"), (3, "lost")]
    assert changes(connection, new, old, "changed", "lost") == [(2, "changed")]
    assert changes(connection, new, new, "same") == [(1, "same"), (2, "same"), (3, "same")]
    rescored, _, made = comparisons.between(connection, new, old)
    assert rescored.before is not None
    assert rescored.after is not None
    assert (rescored.before.label, rescored.before.input_lift, rescored.after.input_lift) == ("rivers", 0.25, 0.5)
    assert made.before is not None
    assert (made.before.status, made.before.label) == ("unparsed", None)
    assert [one.after for one in comparisons.between(connection, silent, new)] == [None, None, None]
    first = comparisons.between(connection, new, old, limit=2)
    assert [one.feature for one in comparisons.between(connection, new, old, after=first[-1].feature)] == [3]


def test_only_what_both_selected_is_compared(connection: Connection, dictionary_id: uuid.UUID) -> None:
    old, new = new_run(connection, dictionary_id, [1, 2]), new_run(connection, dictionary_id, [2, 3])
    for run, features in ((old, (0, 1, 2)), (new, (0, 2, 3))):
        for feature in features:
            labels.publish(connection, dictionary_id, run, label(feature, f"{run}"), f"{run}")
    assert changes(connection, new, old) == [(2, "changed")]


def test_a_run_keeps_what_it_said_when_others_came_to_the_same_or_people_edit(
    connection: Connection, dictionary_id: uuid.UUID
) -> None:
    first, second, third = (new_run(connection, dictionary_id, [1]) for _ in range(3))
    labels.publish(connection, dictionary_id, first, label(1, "rivers"), "a")
    labels.publish(connection, dictionary_id, second, label(1, "rivers"), "a")
    standing = labels.publish(connection, dictionary_id, third, label(1, "lakes"), "b")
    labels.edit(connection, dictionary_id, 1, SignedEdit(text="seas", author="ada", seen=standing))
    assert changes(connection, second, first) == []
    (same,) = comparisons.between(connection, second, first, ["same"])
    assert same.before is not None
    assert (same.change, same.before.label, same.after) == ("same", "rivers", same.before)
    (difference,) = comparisons.between(connection, third, first)
    assert difference.before is not None
    assert difference.after is not None
    assert (difference.before.label, difference.after.label) == ("rivers", "lakes")


def test_the_output_lift_is_the_llm_judges_only_where_there_is_no_other(
    connection: Connection, dictionary_id: uuid.UUID
) -> None:
    old, new = (new_run(connection, dictionary_id, [1]) for _ in range(2))
    embedding, llm = score("output", 0.5, 0.125, False), score("output_llm", 1.0, 0.75, True)
    labels.publish(connection, dictionary_id, old, label(1, output_llm=llm), "a")
    labels.publish(connection, dictionary_id, new, label(1, output=embedding, output_llm=llm), "b")
    ((before, after),) = [(one.before, one.after) for one in comparisons.between(connection, new, old)]
    assert before is not None
    assert after is not None
    assert (before.output_lift, after.output_lift) == (0.75, 0.125)
