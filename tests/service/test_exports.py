"""Exports over HTTP and on the command line: what is in them, and what becomes of the ones that fail."""

import csv
import gzip
import io
import json
import tarfile
import time
from pathlib import Path
from typing import Any

import psycopg
import pyarrow.parquet
import pytest

from schema.contexts import Reference, References, SplitReferences
from schema.errors import Conflict, Unavailable
from schema.labels import Description, Feature, Label, Provenance, Score, Status
from schema.records import Dictionary
from schema.store import contexts, database, descriptions, evidence, features, labels, scores
from schema.store.exports import Range
from schema.wire import ExportFormat
from service import examples, feature_examples
from service.deps import N_LONG
from service.interchange.neuronpedia import NeuronpediaActivation, NeuronpediaExplanation, NeuronpediaFeature
from tests.service.conftest import D_MLP, Api
from tests.service.test_cli import Glossarium, at_api, glossarium

__all__ = ["at_api", "glossarium"]

WHOLE = Feature.model_validate(feature_examples.FEATURE)
DESCRIPTION = {"feature": 3, "method": "combined", "status": "ok", "trigger": "rivers", "model": "m", "recipe": "d"}
TEXT = 'fires on "rivers", boats;\nbridges – and =1+1'


@pytest.fixture
def known(api: Api, neurons: Dictionary) -> Dictionary:
    """Return a dictionary whose feature 3 has a label with everything, and feature 5 a label by a person."""
    fill(api.settings.database_url, neurons)
    return neurons


def fill(database_url: str, dictionary: Dictionary) -> None:
    """Store evidence, a description, scores and labels of a few features."""
    assert WHOLE.vocabulary is not None
    with database.connect(database_url) as connection:
        indices = range(D_MLP)
        features.set_density(connection, dictionary.id, indices, [i / 32 for i in indices], [i / 7 for i in indices])
        made = Provenance(recipe="v", document={"k": 2})
        evidence.put(connection, dictionary.id, "vocabulary", made, {3: WHOLE.vocabulary})
        reading = contexts.Reading("read", lambda numbers: dict.fromkeys(numbers, ("a", " river", " bank", "\n")))
        made = Provenance(recipe="e", document={"seed": 0})
        evidence.put_exemplars(connection, dictionary.id, made, {3: exemplars()}, reading)
        description = descriptions.put(
            connection,
            dictionary.id,
            Description(
                feature=3, method="combined", status=Status.OK, text=TEXT, trigger="rivers", model="m", recipe="d"
            ),
        )
        score = Score.model_validate({**examples.INPUT_SCORE, "feature": 3, "description_id": description.id})
        output = score.model_copy(update={"kind": "output", "method": "combined"})
        free = Score(feature=3, kind="free_input", status=Status.OK, recipe="s")
        scores.put(connection, dictionary.id, [score, output, free])
        made_label = Label(
            feature=3,
            text=TEXT,
            status=Status.OK,
            method="combined",
            description_id=description.id,
            input=score,
            best_input="rivers",
            choice={"standings": []},
        )
        labels.publish(connection, dictionary.id, None, made_label, "l")
        by_hand = made_label.model_copy(update={"feature": 5, "text": "boats", "author": "ada", "description_id": None})
        labels.publish(connection, dictionary.id, None, by_hand.model_copy(update={"input": None}), "h")


def exemplars() -> References:
    """Return exemplars with one window in context 1 of document 0."""
    window = Reference(context=1, position=1, activations=(0.0, 0.5, 2.5, 0.25))
    half = {"top": (window,), "uniform": (window,), "weighted": (), "silent": (), "hard_negatives": ()}
    return References(
        n_tokens=100,
        n_firing=2,
        threshold=0.0,
        sum=3.0,
        max=2.5,
        histogram_edges=(0.0, 1.0, 3.0),
        histogram=(1, 1),
        before=2,
        after=1,
        describe=SplitReferences.model_validate(half),
        score=SplitReferences.model_validate({**half, "top": ()}),
    )


def exported(api: Api, dictionary: Dictionary, format_: ExportFormat, **options: Any) -> bytes:
    """Return what the API sends."""
    response = api.http.get(f"/v1/dictionaries/{dictionary.id}/export", params={"format": format_, **options})
    assert response.status_code == 200, response.text
    return response.content


def test_csv_has_a_row_for_each_feature_with_scores_and_provenance(api: Api, known: Dictionary) -> None:
    rows = list(csv.DictReader(io.StringIO(exported(api, known, "csv").decode(), newline="")))
    assert [int(row["feature"]) for row in rows] == list(range(D_MLP))
    assert (rows[3]["label"], rows[3]["method"], rows[3]["trigger"], rows[3]["model"]) == (
        TEXT,
        "combined",
        "rivers",
        "m",
    )
    assert (rows[3]["input_value"], rows[3]["input_control"], rows[3]["input_success"]) == ("0.92", "0.51", "true")
    assert (rows[3]["density"], rows[3]["recipe"], rows[3]["best_input"]) == ("0.09375", "l", "rivers")
    assert (rows[5]["label"], rows[5]["author"], rows[5]["input_value"]) == ("boats", "ada", "")
    assert (rows[0]["label"], rows[0]["status"]) == ("", "unlabelled")


def test_parquet_has_the_same_rows_with_types(api: Api, known: Dictionary) -> None:
    table = pyarrow.parquet.read_table(io.BytesIO(exported(api, known, "parquet")))
    rows = table.to_pylist()
    assert [row["feature"] for row in rows] == list(range(D_MLP))
    assert (rows[3]["label"], rows[3]["input_lift"], rows[3]["input_n"], rows[3]["input_success"]) == (
        TEXT,
        0.41,
        10,
        True,
    )
    assert rows[3]["labelled_at"].tzinfo is not None
    assert rows[0]["label"] is None


def test_the_static_json_maps_indices_to_labels(api: Api, known: Dictionary) -> None:
    assert json.loads(exported(api, known, "json")) == {"3": TEXT, "5": "boats"}


def test_delphi_has_a_file_for_each_label(api: Api, known: Dictionary, tmp_path: Path) -> None:
    api.client.export(known.id, "delphi", tmp_path / "out", source="../../layers.1.mlp")
    found = {str(path.relative_to(tmp_path / "out")): path.read_text() for path in (tmp_path / "out").rglob("*.txt")}
    name = "explanations/_.._layers.1.mlp_latent{}.txt"
    assert {name: json.loads(text) for name, text in found.items()} == {name.format(3): TEXT, name.format(5): "boats"}


RECORDS = {"features": NeuronpediaFeature, "activations": NeuronpediaActivation, "explanations": NeuronpediaExplanation}


def test_neuronpedia_has_its_three_kinds_of_lines(api: Api, known: Dictionary) -> None:
    content = exported(api, known, "neuronpedia", model="gpt2-small", source="1-mlp")
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        files = {name: gzip.decompress(tar.extractfile(name).read()) for name in tar.getnames()}  # type: ignore[union-attr]
    assert sorted(files) == [f"{part}/batch-0.jsonl.gz" for part in ("activations", "explanations", "features")]
    lines = {name.partition("/")[0]: [json.loads(line) for line in text.splitlines()] for name, text in files.items()}
    for part, found in lines.items():
        for line in found:
            assert set(line) == set(RECORDS[part].model_fields)
            assert (line["modelId"], line["layer"]) == ("gpt2-small", "1-mlp")
    (feature,) = lines["features"]
    assert (feature["index"], feature["maxActApprox"], feature["frac_nonzero"]) == ("3", 2.5, 0.02)
    assert (feature["freq_hist_data_bar_heights"], feature["freq_hist_data_bar_values"]) == ([1, 1], [0.5, 2.0])
    assert WHOLE.vocabulary is not None
    assert feature["pos_str"] == list(WHOLE.vocabulary.promoted.tokens)
    heights, middles = ("logits_hist_data_bar_heights", "logits_hist_data_bar_values")
    assert (feature[heights], feature[middles]) == ([80, 640, 48], [-2.0, 2.0, 6.0])
    (activation,) = lines["activations"]
    assert (activation["tokens"], activation["values"]) == (["a", " river", " bank"], [0.5, 2.5, 0.25])
    assert (activation["maxValue"], activation["maxValueTokenIndex"]) == (2.5, 1)
    described = [
        (line["index"], line["description"], line["typeName"], line["authorId"]) for line in lines["explanations"]
    ]
    assert described == [("3", TEXT, "glossarium_combined", "glossarium"), ("5", "boats", "glossarium_combined", "ada")]


def test_a_part_of_neuronpedias_files_is_enough(api: Api, known: Dictionary) -> None:
    with tarfile.open(fileobj=io.BytesIO(exported(api, known, "neuronpedia", parts="explanations"))) as tar:
        assert tar.getnames() == ["explanations/batch-0.jsonl.gz"]


def test_a_part_that_is_asked_for_twice_comes_once(api: Api, known: Dictionary) -> None:
    twice = exported(api, known, "neuronpedia", parts=["explanations", "features", "explanations"])
    with tarfile.open(fileobj=io.BytesIO(twice)) as tar:
        assert tar.getnames() == ["explanations/batch-0.jsonl.gz", "features/batch-0.jsonl.gz"]


@pytest.mark.parametrize("format_", ["csv", "parquet", "json"])
def test_a_dictionary_without_labels_is_exported_too(api: Api, neurons: Dictionary, format_: ExportFormat) -> None:
    assert exported(api, neurons, format_)


def test_what_is_not_there_or_not_known_is_a_problem(api: Api, known: Dictionary) -> None:
    url = f"/v1/dictionaries/{known.id}/export"
    assert "format" in api.problem(api.http.get(url, params={"format": "xml"}), 422, "InvalidInput")
    missing = api.http.get("/v1/dictionaries/00000000-0000-0000-0000-000000000000/export")
    assert "no dictionary" in api.problem(missing, 404, "NotFound")


def test_the_command_writes_a_file_or_a_folder_and_never_over_one(
    at_api: Glossarium, known: Dictionary, tmp_path: Path
) -> None:
    for format_, name in (("csv", "labels.csv"), ("neuronpedia", "np")):
        result = at_api("export", known.id, "--format", format_, "--out", tmp_path / name)
        assert result.exit_code == 0, result.output
        again = at_api("export", known.id, "--format", format_, "--out", tmp_path / name)
        assert (again.exit_code, "exists; name another place" in again.stderr) == (1, True)
    assert (tmp_path / "labels.csv").read_text().count("\n") > D_MLP
    assert sorted(path.name for path in (tmp_path / "np").iterdir()) == ["activations", "explanations", "features"]
    assert at_api("export", known.id, "--format", "xml", "--out", tmp_path / "x").exit_code == 2
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_progress_is_told_in_features(api: Api, known: Dictionary, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    for format_, done in (("csv", D_MLP), ("delphi", 5)):
        told.clear()
        api.client.export(known.id, format_, tmp_path / format_, lambda *now: told.append(now))
        assert told[-1] == (done, D_MLP)
        assert told == sorted(told)


def test_an_export_that_is_cut_off_leaves_nothing(
    api: Api, known: Dictionary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("schema.store.exports.ranges", lambda n_features: [Range(0, 8), Range(8, "x")])  # type: ignore[arg-type]
    with pytest.raises(Unavailable, match="broke off"):
        api.client.export(known.id, "csv", tmp_path / "labels.csv")
    assert not [path for path in tmp_path.iterdir() if "labels" in path.name]


def test_an_export_whose_client_leaves_frees_its_connection(
    api: Api, known: Dictionary, monkeypatch: pytest.MonkeyPatch
) -> None:
    def endless(*_: object) -> Any:
        while True:
            yield b"x" * 100_000

    monkeypatch.setattr("service.interchange.tables.write_csv", endless)
    for _ in range(2 * N_LONG):
        with api.http.stream("GET", f"/v1/dictionaries/{known.id}/export") as response:
            assert next(response.iter_bytes())
        deadline = time.monotonic() + 10
        while in_transaction(api.settings.database_url) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert in_transaction(api.settings.database_url) == 0


def in_transaction(url: str) -> int:
    """Return how many connections are idle in a transaction."""
    with psycopg.connect(url) as connection:
        query = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in%' AND datname = current_database()"
        row = connection.execute(query).fetchone()
        assert row is not None
        return int(row[0])


def test_no_more_exports_go_at_once_than_leave_connections_for_others(api: Api, known: Dictionary) -> None:
    database_ = api.app.state.services.database
    held = [database_.snapshot() for _ in range(N_LONG)]
    for one in held:
        one.__enter__()
    refused = api.http.get(f"/v1/dictionaries/{known.id}/export")
    assert "exports and imports are under way" in api.problem(refused, 503, "Unavailable")
    for one in held:
        one.__exit__(None, None, None)
    assert api.http.get(f"/v1/dictionaries/{known.id}/export").status_code == 200


def test_an_export_is_of_one_moment(api: Api, known: Dictionary) -> None:
    with api.app.state.services.database.snapshot() as connection:
        assert connection.execute("SELECT count(label) FROM feature").fetchone() == (2,)
        with database.connect(api.settings.database_url) as other:
            other.execute("UPDATE feature SET label = NULL")
        assert connection.execute("SELECT count(label) FROM feature").fetchone() == (2,)


def test_a_place_that_is_taken_is_refused_before_anything_is_asked(api: Api, known: Dictionary, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(Conflict, match="exists"):
        api.client.export(known.id, "csv", tmp_path / "link")
