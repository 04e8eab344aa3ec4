"""Collections on the command line: a folder of dictionaries is submitted whole, or nothing of it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from schema.collections import Collection, CollectionRun
from schema.reports import RunReport
from schema.store import database, reports
from service import examples
from service.cli import app
from tests.dictionary_files import saelens_config, save_saelens
from tests.service.conftest import D_MODEL, Api

Glossarium = Callable[..., Result]
F = 6


@pytest.fixture
def glossarium(monkeypatch: pytest.MonkeyPatch, api: Api, tiny_subject: str) -> Glossarium:
    """Return a caller of the command whose API is the test's."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("GLOSSARIUM_API_URL", api.url)
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


def save_layer(folder: Path, layer: int, width: int = D_MODEL) -> Path:
    """Save an autoencoder of a layer of the tiny subject."""
    tensors = {"W_enc": torch.ones(width, F), "b_enc": torch.ones(F), "W_dec": torch.ones(F, width)}
    config = saelens_config(width, F, f"blocks.{layer}.hook_resid_post")
    return save_saelens(folder, config, tensors | {"b_dec": torch.ones(width)})


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """Return a folder of two dictionaries, beside files that are none."""
    folder = tmp_path / "release"
    save_layer(folder / "layer_10" / "width_6", 1)
    save_layer(folder / "layer_2" / "width_6", 2)
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text("{}")
    (folder / "README.md").write_text("a release")
    return folder


def names(api: Api) -> list[str]:
    return sorted(one.spec.name for one in api.client.dictionaries())


def test_a_folder_of_dictionaries_becomes_a_collection(
    glossarium: Glossarium, api: Api, release: Path, tiny_subject: str
) -> None:
    result = glossarium("submit", release, "--subject", tiny_subject, "--json")
    assert result.exit_code == 0, result.output
    made = Collection.model_validate_json(result.stdout)
    assert made.name == "release"
    assert [one.spec.name for one in made.dictionaries] == ["release/layer_2/width_6", "release/layer_10/width_6"]
    assert [one.spec.read_site for one in made.dictionaries] == ["resid_post.2", "resid_post.1"]
    assert {one.state for one in made.dictionaries} == {"ready"}
    assert list(api.client.collections()) == [made]
    assert f"release  2 dictionaries, {2 * F} features of {tiny_subject}" in glossarium("collections").stdout
    assert "release/layer_10/width_6" in glossarium("collection", "release").stdout


def test_some_of_a_folder_are_chosen_by_their_paths(
    glossarium: Glossarium, api: Api, release: Path, tiny_subject: str
) -> None:
    result = glossarium("submit", release, "--subject", tiny_subject, "--match", "layer_2/*", "--name", "second")
    assert result.exit_code == 0, result.output
    (made,) = api.client.collections()
    assert (made.name, [one.spec.name for one in made.dictionaries]) == ("second", ["second/layer_2/width_6"])
    none = glossarium("submit", release, "--subject", tiny_subject, "--match", "layer_3/*")
    assert none.exit_code == 2
    assert "--match 'layer_3/*' matches nothing" in none.stderr
    assert "layer_2/width_6, layer_10/width_6, 2 in all" in none.stderr


def test_nothing_of_a_folder_is_left_where_some_are_broken_and_all_of_these_are_named(
    glossarium: Glossarium, api: Api, release: Path, tiny_subject: str
) -> None:
    save_layer(release / "layer_3" / "width_6", 3, width=D_MODEL + 1)
    (release / "layer_7").mkdir()
    (release / "layer_7" / "cfg.json").write_text("{}")
    result = glossarium("submit", release, "--subject", tiny_subject)
    assert result.exit_code == 2
    assert "2 of 4 dictionaries can't be used, and nothing was submitted (layer_3/width_6: " in result.stderr
    assert "layer_7: " in result.stderr
    assert "it has cfg.json but not sae_weights.safetensors" in result.stderr
    assert (names(api), list(api.client.collections())) == ([], [])


def test_the_good_ones_are_submitted_if_asked_for(
    glossarium: Glossarium, api: Api, release: Path, tiny_subject: str
) -> None:
    save_layer(release / "layer_3", 3, width=D_MODEL + 1)
    result = glossarium("submit", release, "--subject", tiny_subject, "--skip-broken")
    assert result.exit_code == 0, result.output
    assert "3/3 layer_10/width_6" in result.stderr
    assert names(api) == ["release/layer_10/width_6", "release/layer_2/width_6"]
    for place in ("layer_2", "layer_10"):
        (release / place / "width_6" / "sae_weights.safetensors").write_bytes(b"")
    empty = glossarium("submit", release, "--subject", tiny_subject, "--skip-broken", "--name", "again")
    assert empty.exit_code == 2
    assert "3 of 3 dictionaries can't be used" in empty.stderr
    assert len(list(api.client.collections())) == 1


def test_a_folder_with_one_dictionary_below_is_a_collection_of_one_and_a_dictionary_is_none(
    glossarium: Glossarium, api: Api, tmp_path: Path, tiny_subject: str
) -> None:
    inside = save_layer(tmp_path / "release" / "layer_1", 1)
    assert glossarium("submit", tmp_path / "release", "--subject", tiny_subject).exit_code == 0
    assert [len(one.dictionaries) for one in api.client.collections()] == [1]
    assert glossarium("submit", inside, "--subject", tiny_subject).exit_code == 0
    assert (len(list(api.client.collections())), len(names(api))) == (1, 2)


def test_an_empty_folder_is_refused(glossarium: Glossarium, api: Api, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = glossarium("submit", tmp_path / "empty")
    assert result.exit_code == 2
    assert "no known format" in result.stderr
    assert names(api) == []


def test_a_collection_is_run_followed_and_ended_by_its_name(
    glossarium: Glossarium, api: Api, release: Path, tiny_subject: str
) -> None:
    assert glossarium("submit", release, "--subject", tiny_subject).exit_code == 0
    asked = ("--features", "0-1", "--methods", "lexical", "--evaluations", "free", "--llm", "none")
    dry = glossarium("run", "release", *asked, "--dry-run", "--json")
    assert [one["n_features"] for one in json.loads(dry.stdout)] == [2, 2]
    assert list(api.client.runs()) == []
    result = glossarium("run", "release", *asked, "--no-wait", "--json")
    assert result.exit_code == 0, result.output
    made = CollectionRun.model_validate_json(result.stdout)
    assert [run.n_features for run in made.runs] == [2, 2]
    assert "release/layer_10/width_6" in glossarium("status", "release").stdout
    paused = glossarium("pause", "release").stdout.splitlines()
    assert paused == [f"run {run.id}: paused" for run in made.runs]
    refused = glossarium("resume", "release", "--budget", "5k tokens")
    assert refused.exit_code == 2
    assert "--budget is of one run, and release has 2 that are paused" in refused.stderr
    assert glossarium("resume", str(made.runs[0].id)[:8]).stdout == f"run {made.runs[0].id}: queued\n"
    assert glossarium("resume", "release").stdout == f"run {made.runs[1].id}: queued\n"
    assert len(glossarium("cancel", "release").stdout.splitlines()) == 2
    assert glossarium("status", "release").exit_code == 1


def test_reports_of_a_collection_are_shown_as_far_as_they_are_made(
    glossarium: Glossarium, api: Api, release: Path, tiny_subject: str
) -> None:
    assert glossarium("submit", release, "--subject", tiny_subject).exit_code == 0
    early = glossarium("report", "release")
    assert early.exit_code == 1
    assert "collection release has no run" in early.stderr
    result = glossarium("run", "release", "--no-wait", "--json")
    first = CollectionRun.model_validate_json(result.stdout).runs[0]
    with database.connect(api.settings.database_url) as connection:
        reports.put(connection, RunReport.model_validate({**examples.RUN_REPORT, "run_id": first.id}))
    shown = glossarium("report", "release")
    assert shown.exit_code == 0
    assert "labels of 24 features" in shown.stdout
    assert "release/layer_10/width_6: " in shown.stderr
    assert [one["run_id"] for one in json.loads(glossarium("report", "release", "--json").stdout)] == [str(first.id)]


def test_dictionaries_that_are_there_are_collected_by_name(
    glossarium: Glossarium, api: Api, tmp_path: Path, tiny_subject: str
) -> None:
    for layer in (1, 2):
        folder = save_layer(tmp_path / f"layer_{layer}", layer)
        assert glossarium("submit", folder, "--subject", tiny_subject).exit_code == 0
    assert glossarium("collect", "both", "layer_2", "layer_1").exit_code == 0
    (made,) = api.client.collections()
    assert [one.spec.name for one in made.dictionaries] == ["layer_2", "layer_1"]
    unknown = glossarium("run", "nothing")
    assert unknown.exit_code == 1
    assert "no dictionary 'nothing'" in unknown.stderr
