"""Others' labels in a run: they compete with ours, are tested like ours, and none is missing where there is none."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from schema.labels import Status
from schema.store import database, descriptions, reports
from schema.wire import ImportedLabel
from tests.llm_server import LLMServer
from tests.tiny import planted_features
from tests.workers.house import SMALL, House, open_house

FEW = SMALL.model_copy(update={"pool_size": 4})


@pytest.fixture
def house(tmp_path: Path, database_url: str) -> Iterator[House]:
    with LLMServer() as server, open_house(tmp_path, database_url, server.base_url) as opened:
        yield opened


def quoted(tokens: Iterable[str]) -> str:
    """Return tokens as the LLM server takes them for what a description names."""
    return ", ".join(f'"{token}"' for token in tokens)


def test_an_imported_label_that_is_right_wins_and_one_that_is_wrong_does_not(house: House) -> None:
    planted = planted_features()
    right = {i: f"{quoted(planted[i].triggers)}; promotes {quoted(planted[i].promoted)}" for i in (0, 1)}
    wrong = {i: quoted(planted[i + 8].triggers) for i in (0, 1)}
    given = [ImportedLabel(feature=i, text=text) for i, text in right.items()]
    other = [ImportedLabel(feature=i, text=text) for i, text in wrong.items()]
    with database.lend(house.pool) as connection:
        descriptions.put_imported(connection, house.dictionary_id, other, "bad")
        descriptions.put_imported(connection, house.dictionary_id, given, "good")
    run_id = house.submit(features="0-3", methods=("imported",), options=FEW)
    house.work()
    run, labels = house.run(run_id), house.labels(run_id)
    assert (run.state, run.note) == ("done", None)
    for feature in (0, 1):
        label = labels[feature]
        assert (label.text, label.method, label.status) == (right[feature], "imported", Status.OK)
        assert label.input is not None
        assert label.input.success
        standings = label.choice["standings"]
        assert isinstance(standings, list)
        assert {standing["candidate"] for standing in standings} == {"imported (good)", "imported (bad)"}
        kinds = {score.kind for score in house.scores(feature) if score.description_id == label.description_id}
        assert {"input", "output", "output_llm", "embedding_auroc"} <= kinds
    for feature in (2, 3):
        assert (labels[feature].text, labels[feature].status) == (None, Status.NOT_APPLICABLE)
    with database.lend(house.pool) as connection:
        (method,) = reports.get(connection, 1, run_id).methods
    assert (method.method, method.descriptions) == ("imported", {Status.OK: 4})


def test_where_the_pool_has_none_other_descriptions_are_the_control(house: House) -> None:
    with database.lend(house.pool) as connection:
        label = ImportedLabel(feature=0, text=quoted(planted_features()[0].triggers))
        descriptions.put_imported(connection, house.dictionary_id, [label], "theirs")
    run_id = house.submit(features="0-3", methods=("lexical", "imported"), options=FEW)
    house.work()
    assert house.run(run_id).state == "done"
    (score,) = [one for one in house.scores(0) if one.kind == "output" and one.method == "imported"]
    assert score.details["control_is"] == "measured"
