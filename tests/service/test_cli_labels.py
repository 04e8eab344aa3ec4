"""Labels on the command line: looked up, corrected, compared; and what they cost."""

import json

from schema.edits import LabelEdit
from schema.records import Dictionary
from schema.store import calls, database, labels
from tests.service.conftest import Api
from tests.service.test_api_labels import CALL, label, run_of
from tests.service.test_cli import Glossarium, at_api, glossarium

__all__ = ["at_api", "glossarium"]


def test_a_person_writes_a_label_and_withdraws_it(at_api: Glossarium, api: Api, neurons: Dictionary) -> None:
    with database.connect(api.settings.database_url) as connection:
        labels.publish(connection, neurons.id, None, label(3, "boats"), "r")
    made = at_api("label", "tiny", 3, "ships", "--author", "ada", "--note", "they are larger", "--json")
    assert made.exit_code == 0, made.output
    assert (json.loads(made.stdout)["text"], json.loads(made.stdout)["author"]) == ("ships", "ada")
    shown = at_api("labels", "tiny", "2-3").stdout
    assert "ships" in shown
    assert "ada" in shown
    assert [one and one["text"] for one in json.loads(at_api("labels", "tiny", "2-3", "--json").stdout)] == [
        None,
        "ships",
    ]
    late = at_api("label", "tiny", 3, "ferries", "--author", "ben", "--seen", 1)
    assert late.exit_code == 1
    assert "feature 3 has label" in late.stderr
    assert "withdrawn" in at_api("withdraw", "tiny", 3).stdout
    nothing = at_api("withdraw", "tiny", 3)
    assert nothing.exit_code == 1
    assert "feature 3 has no label by a person" in nothing.stderr
    history = at_api("history", "tiny", 3)
    assert "they are larger" in history.stdout
    assert [one["text"] for one in json.loads(at_api("history", "tiny", 3, "--json").stdout)] == ["ships", "boats"]


def test_hostile_labels_and_unknown_features_end_with_code_2(at_api: Glossarium, neurons: Dictionary) -> None:
    for arguments, message in (
        (("label", "tiny", 3, "a\x1b[2J", "--author", "ada"), "text: Value error, holds the control character U+001B"),
        (("label", "tiny", 99, "t", "--author", "ada"), "feature=99; tiny has 0..15"),
        (("similar", "tiny", 99), "feature=99; tiny has 0..15"),
        (("labels", "tiny", "alive"), "features=alive; name them"),
    ):
        result = at_api(*arguments)
        assert result.exit_code == 2, result.output
        assert message in result.stderr


def test_what_could_move_the_cursor_is_shown_as_dots(at_api: Glossarium, api: Api, neurons: Dictionary) -> None:
    api.client.edit_label(neurons.id, 3, LabelEdit(text="[bold]a\u200db", author="ada", seen=None))
    assert "[bold]a·b" in at_api("labels", "tiny", "3").stdout
    assert "[bold]a·b" in at_api("history", "tiny", 3).stdout


def test_similar_features_say_why_there_are_none(at_api: Glossarium, neurons: Dictionary) -> None:
    assert "none: no run has compared" in at_api("similar", "tiny", 3).stdout
    assert json.loads(at_api("similar", "tiny", 3, "--json").stdout)["items"] == []


def test_two_runs_are_compared(at_api: Glossarium, api: Api, neurons: Dictionary) -> None:
    old, new = (run_of(api, neurons, 1, 2) for _ in range(2))
    with database.connect(api.settings.database_url) as connection:
        for run, texts in ((old, ("rivers", "boats")), (new, ("lakes", "boats"))):
            for feature, text in enumerate(texts, 1):
                labels.publish(connection, neurons.id, run, label(feature, text), text)
    shown = at_api("diff", new, old).stdout
    assert "rivers" in shown
    assert "lakes" in shown
    assert "boats" not in shown
    assert [one["change"] for one in json.loads(at_api("diff", new, old, "--json").stdout)] == ["changed"]
    assert "nothing to show" in at_api("diff", old, old).stdout
    assert "boats" in at_api("diff", new, old, "--change", "same").stdout


def test_usage_is_shown_with_all_of_it_in_the_last_line(at_api: Glossarium, api: Api, neurons: Dictionary) -> None:
    run_id = run_of(api, neurons, 1)
    with database.connect(api.settings.database_url) as connection:
        for call in (CALL, CALL._replace(purpose="write", dollars=None)):
            calls.put(connection, 1, run_id, call)
    shown = at_api("usage", "--run", run_id, "--dictionary", "tiny", "--since", "2026-01-01").stdout
    assert "in all" in shown
    assert "not known" in shown
    assert "0.2500" in shown
    assert [row["purpose"] for row in json.loads(at_api("usage", "--json").stdout)] == ["judge", "write"]
    assert json.loads(at_api("usage", "--until", "2026-01-01", "--json").stdout) == []
