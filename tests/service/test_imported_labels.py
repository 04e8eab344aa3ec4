"""Others' labels: from the files of their tools to descriptions, and what is refused of them."""

import gzip
import json
import pickle
from pathlib import Path

import pytest

from schema.errors import BadLabels, NotFound
from schema.records import Dictionary
from schema.store import database
from schema.wire import ImportedLabel
from service.interchange.label_files import one_source, open_labels
from tests.service.conftest import D_MLP, Api
from tests.service.test_cli import Glossarium, at_api, glossarium
from tests.service.test_exports import TEXT, fill

__all__ = ["at_api", "glossarium"]

LINE = {
    "id": "clx1",
    "modelId": "gpt2-small",
    "layer": "6-res-jb",
    "index": "3",
    "description": " names of\nrivers ",
    "authorId": "clk",
    "typeName": "oai_token-act-pair",
    "explanationModelName": "gpt-4o-mini",
    "scoreV2": None,
}


def lines(*changes: dict[str, object]) -> bytes:
    """Return lines of Neuronpedia's."""
    return b"".join(json.dumps({**LINE, **change}).encode() + b"\n" for change in changes)


def read(path: Path) -> list[tuple[int, str]]:
    """Return the labels of a file."""
    return [(one.label.feature, one.label.text) for one in one_source(open_labels(path).labels)]


def test_neuronpedias_explanations_are_read_with_who_made_them(tmp_path: Path) -> None:
    content = lines({}, {"index": 4, "description": "boats"}, {"index": "5", "description": ""})
    for name, data in (("batch-0.jsonl.gz", gzip.compress(content)), ("labels.csv", content)):
        (tmp_path / name).write_bytes(data)
        first, second = one_source(open_labels(tmp_path / name).labels)
        made_by = ("clk", "gpt-4o-mini", "oai_token-act-pair")
        assert (first.label.author, first.label.model, first.label.method) == made_by
        assert (first.label.feature, first.label.text, first.source) == (3, "names of rivers", "gpt2-small/6-res-jb")
        assert (second.label.feature, second.label.text) == (4, "boats")


def test_every_other_form_is_recognised_by_what_is_in_it(tmp_path: Path) -> None:
    expected = [(3, "rivers"), (12, "boats, ships")]
    files = {
        "labels.csv": 'feature,label\n3,rivers\n12,"boats, ships"\n',
        "spreadsheet.csv": '\ufeffindex,density,explanation\r\n3,0.1,rivers\r\n12,0.2,"boats, ships"\r\n',
        "static.json": '{\n"3": "rivers",\n"12": "boats, ships"\n}\n',
        "line.json": '{"3": "rivers", "12": "boats, ships"}',
        "array.json": json.dumps([{**LINE, "index": i, "description": text} for i, text in expected]),
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text, "utf-8")
        assert read(tmp_path / name) == expected, name
    folder = tmp_path / "results" / "explanations"
    folder.mkdir(parents=True)
    for index, text in expected:
        (folder / f"layers.6.mlp_latent{index}.txt").write_text(json.dumps(text))
    assert sorted(read(tmp_path / "results")) == expected
    assert read(folder / "layers.6.mlp_latent3.txt") == [expected[0]]


PICKLE = pickle.dumps({3: "rivers"})
BAD: dict[str, tuple[bytes, str]] = {
    "empty.csv": (b"", "is empty"),
    "blank.csv": (b"\n \n", "nothing but blanks"),
    "page.csv": (b"<!doctype html><title>404</title>", "is HTML or XML"),
    "labels.jsonl": (PICKLE, "is a pickle"),
    "labels.csv": (b"PAR1" + bytes(40), "is parquet"),
    "labels.jsonl.gz": (b"PK\x03\x04" + bytes(40), "is a zip"),
    "pointer.jsonl.gz": (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of git LFS"),
    "binary.csv": (b"feature,label\n\0\0\0", "is no text"),
    "cut.jsonl.gz": (gzip.compress(lines(*[{"index": i} for i in range(3000)]))[:-200], "cut or damaged gzip"),
    "cut.jsonl": (lines({}, {})[:-20], "line 2 is not JSON"),
    "cut.json": (b'{"3": "rivers", "4"', "is not JSON"),
    "others.csv": (b"a,b\n1,2\n", "has no column feature or index"),
    "index.csv": (b"feature,label\n3.5,rivers\n", "'3.5' is no index"),
    "columns.csv": (b"feature,label\n3,rivers,boats\n", "another number of columns"),
    "quote.csv": (b'feature,label\n3,"rivers\n', "no CSV"),
    "latin.csv": ("feature,label\n3,Flüsse\n".encode("latin-1"), "no CSV in UTF-8"),
    "keys.json": (b'{"3": {"label": "rivers"}}', "has no text"),
    "fields.jsonl": (b'{"index": 3, "text": "rivers"}\n', "modelId: Field required"),
    "minus.jsonl": (lines({"index": "-1"}), "index: Input should be greater"),
    "layers.6_latent3.txt": (b'["rivers"]', "is a JSON string, and not list"),
    "two.jsonl": (lines({}, {"layer": "7-res-jb"}), "labels of gpt2-small/6-res-jb and of gpt2-small/7-res-jb"),
    "long.jsonl": (lines({"description": "x" * 3000}), "at most 2000 characters"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_not_what_it_seems_is_named(tmp_path: Path, name: str) -> None:
    content, said = BAD[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadLabels, match=said.replace("'", ".")):
        read(tmp_path / name)


def test_a_folder_without_labels_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(BadLabels, match="holds no labels that are known"):
        read(tmp_path)


def test_imported_labels_are_descriptions_with_their_origin(api: Api, neurons: Dictionary) -> None:
    labels = [ImportedLabel(feature=3, text="rivers", model="m"), ImportedLabel(feature=3, text="water", author="ada")]
    made = api.client.import_labels(neurons.id, [*labels, ImportedLabel(feature=5, text="boats")], "theirs")
    assert (made.n_labels, made.n_features, made.n_new) == (3, 2, 3)
    found = api.client.feature(neurons.id, 3).descriptions
    assert {(one.method, one.text, one.model, one.parameters.get("origin")) for one in found} == {
        ("imported", "rivers", "m", "theirs"),
        ("imported", "water", None, "theirs"),
    }
    assert api.client.feature(neurons.id, 3).summary.label is None
    again = api.client.import_labels(neurons.id, labels, "theirs")
    assert (again.n_labels, again.n_new) == (2, 0)
    assert api.client.import_labels(neurons.id, labels, "others'").n_new == 2


REFUSED = [
    (b'{"feature": 16, "text": "x"}', "line 1: feature=16; tiny has 0..15"),
    (b'{"feature": 1, "text": "x"}\n{"feature": -1, "text": "x"}', "line 2: feature: Input should be greater"),
    (b'{"feature": 1, "text": "x"}\n\n{"feature": 1, "tex', "line 3: line: Invalid JSON"),
    (b'{"feature": 1, "text": "a\\u0000"}', "holds the control character U+0000"),
    (b'{"feature": 1, "text": "a\\u202eb"}', "holds the control character U+202E"),
    (b'{"feature": 1, "text": "  "}', "is blank"),
    (b'{"feature": 1, "text": "x", "html": "y"}', "html: Extra inputs are not permitted"),
    (b'{"feature": 1, "text": "' + b"x" * 70_000 + b'"}', "line 1"),
    (gzip.compress(b'{"feature": 1, "text": "x"}'), "line 1: line: Invalid JSON"),
    (b"", "holds no labels"),
]


def test_bad_lines_are_refused_by_number_and_nothing_is_kept(api: Api, neurons: Dictionary) -> None:
    url = f"/v1/dictionaries/{neurons.id}/descriptions"
    for content, said in REFUSED:
        response = api.http.put(url, params={"origin": "o"}, content=content)
        assert said in api.problem(response, 422, "BadLabels"), content[:80]
    api.problem(api.http.put(url, content=b"{}"), 422, "InvalidInput")
    assert api.files() == []
    with database.connect(api.settings.database_url) as connection:
        assert connection.execute("SELECT count(*) FROM description").fetchone() == (0,)


def test_labels_of_a_dictionary_of_others_are_not_taken(api: Api) -> None:
    url = "/v1/dictionaries/00000000-0000-0000-0000-000000000000/descriptions"
    api.problem(api.http.put(url, params={"origin": "o"}, content=b"{}"), 404, NotFound.__name__)


def test_what_we_export_for_other_tools_comes_in_again(
    at_api: Glossarium, api: Api, neurons: Dictionary, tmp_path: Path
) -> None:
    fill(api.settings.database_url, neurons)
    for format_ in ("csv", "json", "delphi", "neuronpedia"):
        out = tmp_path / format_
        assert at_api("export", neurons.id, "--format", format_, "--out", out).exit_code == 0
        result = at_api("import-labels", neurons.id, out, "--origin", format_, "--json")
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout) == {"origin": format_, "n_labels": 2, "n_features": 2, "n_new": 2}
    said = {one.text for one in api.client.feature(neurons.id, 3).descriptions if one.method == "imported"}
    assert said == {" ".join(TEXT.split())}


def test_a_feature_is_shown_with_where_its_labels_are_from(at_api: Glossarium, api: Api, neurons: Dictionary) -> None:
    api.client.import_labels(neurons.id, [ImportedLabel(feature=3, text="rivers")], "neuronpedia 6-res-jb")
    shown = at_api("show", neurons.id, 3).stdout
    assert "rivers" in shown
    assert "from neuronpedia 6-res-jb" in shown


def test_the_command_names_what_is_wrong_and_ends_with_code_2(
    at_api: Glossarium, neurons: Dictionary, tmp_path: Path
) -> None:
    (tmp_path / "labels.csv").write_text(f"feature,label\n{D_MLP},x\n")
    for path, said in ((tmp_path / "labels.csv", "tiny has 0..15"), (tmp_path / "nothing.csv", "no file")):
        result = at_api("import-labels", neurons.id, path)
        assert (result.exit_code, said in result.stderr) == (2, True), result.stderr
