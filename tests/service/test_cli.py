"""The command line against a real API."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from schema.records import Dictionary, RunSpec
from schema.reports import RunReport
from schema.settings import load_settings
from schema.store import database, reports
from service import examples
from service.cli import app
from tests.service.conftest import Api, SpecMaker

Glossarium = Callable[..., Result]


@pytest.fixture
def glossarium(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Glossarium:
    """Return a caller of the command, on an empty data folder."""
    monkeypatch.setenv("GLOSSARIUM_DATA_DIR", str(tmp_path / "nothing"))
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def at_api(glossarium: Glossarium, api: Api, monkeypatch: pytest.MonkeyPatch) -> Glossarium:
    """Return a caller of the command whose API is the test's."""
    monkeypatch.setenv("GLOSSARIUM_API_URL", api.url)
    return glossarium


def test_without_a_stack_the_command_says_how_to_start_one(glossarium: Glossarium, tmp_path: Path) -> None:
    result = glossarium("runs")
    assert result.exit_code == 1
    assert f"no stack is up on {tmp_path / 'nothing'}; start one with `glossarium up`" in result.stderr
    assert "Traceback" not in result.output


def test_an_api_that_does_not_answer_is_one_line(glossarium: Glossarium) -> None:
    result = glossarium("runs", "--api", "http://127.0.0.1:1")
    assert result.exit_code == 1
    assert re.fullmatch(r"error: the API at http://127\.0\.0\.1:1 does not answer.*\n", result.stderr)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["submit", "neurons"], "name it with --layer N"),
        (["submit", "neurons", "--layer", "30"], "layer=30; bundled:smollm2-135m-instruct has 0..29"),
        (["submit", "neurons", "--site", "resid_post.3"], "site=resid_post.3; neurons are at mlp_hidden.LAYER"),
        (["submit", "neurons", "--layer", "1", "--subject", "gpt-9"], "subject='gpt-9'"),
        (["submit", "/does/not/exist"], "no such path"),
    ],
)
def test_unusable_input_ends_with_code_2(at_api: Glossarium, arguments: list[str], message: str) -> None:
    result = at_api(*arguments)
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert result.stdout == ""


def test_neurons_are_submitted_and_listed(at_api: Glossarium) -> None:
    made = json.loads(at_api("submit", "neurons", "--layer", "3", "--name", "third", "--json").stdout)
    assert (made["spec"]["n_features"], made["state"]) == (1536, "ready")
    assert "1536 features of bundled:smollm2-135m-instruct at mlp_hidden.3" in at_api("dictionaries").stdout


def test_a_run_is_asked_for_by_name_and_by_the_beginning_of_an_id(
    at_api: Glossarium, api: Api, neurons: Dictionary
) -> None:
    for name in (neurons.spec.name, str(neurons.id)[:8], str(neurons.id)):
        result = at_api("run", name, "--features", "0-2", "--preset", "small", "--llm", "none", "--no-wait", "--json")
        assert result.exit_code == 0, result.output
        spec = RunSpec.model_validate(json.loads(result.stdout)["spec"])
        assert (spec.dictionary_id, spec.features, spec.options.judge_trials) == (neurons.id, "0-2", 1)
    assert len(list(api.client.runs())) == 3


def test_writer_and_judge_have_profiles_of_their_own(at_api: Glossarium, neurons: Dictionary) -> None:
    spec = json.loads(at_api("run", neurons.id, "--writer", "none", "--judge", "default", "--no-wait", "--json").stdout)
    assert RunSpec.model_validate(spec["spec"]).profiles == ("default", "none", "default")
    refused = at_api("run", neurons.id, "--judge", "huge")
    assert refused.exit_code == 2
    assert "judge='huge'; this installation has the profiles default, none" in refused.stderr


def test_methods_and_options_override_the_presets(at_api: Glossarium, neurons: Dictionary) -> None:
    arguments = ("--preset", "small", "--methods", "lexical, vocabulary", "--evaluations", "free", "--no-wait")
    options = ("--json", "-o", "judge_trials=2", "-o", "kl_targets=[0.5,1.0]")
    spec = json.loads(at_api("run", neurons.id, *arguments, *options).stdout)["spec"]
    assert (spec["methods"], spec["evaluations"]) == (["lexical", "vocabulary"], ["free"])
    assert (spec["options"]["judge_trials"], spec["options"]["kl_targets"]) == (2, [0.5, 1.0])
    assert spec["options"]["judged"] == "label"  # the preset's


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--features", "14-16"], "features='14-16'"),
        (["--methods", "lexical,guess"], "methods.1: Input should be"),
        (["--preset", "huge"], "preset 'huge'; must be one of default, small"),
        (["--option", "judge_trials"], "option 'judge_trials'; must be NAME=VALUE with NAME one of k_exemplars, "),
        (["-o", "judges=1"], "options.judges: Extra inputs are not permitted"),
        (["--seed", "-1"], "seed: Input should be greater than or equal to 0"),
    ],
)
def test_a_run_that_makes_no_sense_ends_with_code_2(
    at_api: Glossarium, neurons: Dictionary, options: list[str], message: str
) -> None:
    result = at_api("run", neurons.id, *options)
    assert result.exit_code == 2, result.output
    assert message in result.stderr


def test_a_corpus_file_is_uploaded_first_but_for_a_dry_run(
    at_api: Glossarium, api: Api, neurons: Dictionary, tmp_path: Path
) -> None:
    corpus = tmp_path / "own.jsonl"
    corpus.write_text('{"text": "one"}\n{"text": "two"}\n')
    dry = at_api("run", neurons.id, "--corpus", corpus, "--dry-run", "--json")
    assert json.loads(dry.stdout)["calls"] > 0
    assert list(api.client.corpora()) == []
    result = at_api("run", neurons.id, "--corpus", corpus, "--no-wait", "--json")
    assert result.exit_code == 0, result.output
    (uploaded,) = api.client.corpora()
    assert json.loads(result.stdout)["spec"]["corpus"] == str(uploaded.id)


def test_a_folder_is_no_corpus_to_upload(at_api: Glossarium, neurons: Dictionary, tmp_path: Path) -> None:
    result = at_api("run", neurons.id, "--corpus", tmp_path)
    assert result.exit_code == 2
    assert "a folder can't be uploaded" in result.stderr


def test_a_run_that_was_paused_or_cancelled_is_printed_as_json(at_api: Glossarium, neurons: Dictionary) -> None:
    run = json.loads(at_api("run", neurons.id, "--no-wait", "--json").stdout)["id"]
    for command, state in (("pause", "paused"), ("resume", "queued"), ("cancel", "cancelled")):
        changed = json.loads(at_api(command, run, "--json").stdout)
        assert [(one["id"], one["state"]) for one in changed] == [(run, state)]


def test_what_is_stored_is_listed_and_deleted_by_its_name(
    at_api: Glossarium, api: Api, neurons: Dictionary, tmp_path: Path
) -> None:
    file = tmp_path / "mails.jsonl"
    file.write_text('{"text": "a mail"}\n')
    corpus = api.client.upload_corpus(file)
    assert f"{corpus.id}  mails.jsonl  {file.stat().st_size} bytes" in at_api("corpora").stdout
    assert json.loads(at_api("corpora", "--json").stdout)[0]["sha256"] == corpus.sha256
    assert at_api("collect", "both", neurons.id).exit_code == 0
    assert "its dictionaries stay" in at_api("delete", "both", "--yes").stdout
    assert list(api.client.collections()) == []
    asked = at_api("delete", neurons.spec.name)  # and nobody answers
    assert asked.exit_code == 1
    assert f"delete dictionary {neurons.id}" in asked.stderr
    assert len(list(api.client.dictionaries())) == 1
    assert at_api("delete", neurons.spec.name, "--yes").exit_code == 0
    assert list(api.client.dictionaries()) == []
    assert "no dictionary" in at_api("delete", neurons.spec.name, "--yes").stderr


def test_a_name_that_is_no_plain_text_moves_no_cursor(at_api: Glossarium, api: Api, spec_of: SpecMaker) -> None:
    api.client.submit_dictionary(spec_of(name="odd\x1b[2J\x07[/]"))
    assert "odd·[2J·[/]" in at_api("dictionaries").stdout


def test_a_cancelled_run_makes_status_fail(at_api: Glossarium, neurons: Dictionary) -> None:
    run = json.loads(at_api("run", neurons.id, "--no-wait", "--json").stdout)["id"]
    assert at_api("cancel", run[:8]).stdout == f"run {run}: cancelled\n"
    result = at_api("status", run)
    assert result.exit_code == 1
    assert f"run {run}: cancelled" in result.stdout


def test_a_report_is_shown_and_printed(at_api: Glossarium, api: Api, neurons: Dictionary) -> None:
    run = json.loads(at_api("run", neurons.id, "--no-wait", "--json").stdout)["id"]
    early = at_api("report", run[:8])
    assert early.exit_code == 1
    assert "has no report yet; it is made when the last label is published" in early.stderr
    made = RunReport.model_validate({**examples.RUN_REPORT, "run_id": run})
    with database.connect(api.settings.database_url) as connection:
        reports.put(connection, made)
    assert "labels of 24 features: 21 ok (88%)" in at_api("report", run[:8]).stdout
    printed = RunReport.model_validate_json(at_api("report", run[:8], "--json").stdout)
    assert printed.model_copy(update={"created_at": made.created_at}) == made


def test_features_are_listed_and_shown(at_api: Glossarium, neurons: Dictionary) -> None:
    listed = json.loads(at_api("features", neurons.id, "--limit", "5", "--json").stdout)
    assert [item["index"] for item in listed] == [0, 1, 2, 3, 4]
    assert "unlabelled" in at_api("features", neurons.id, "--status", "unlabelled").stdout
    assert "no label yet" in at_api("show", neurons.id, "3").stdout
    assert json.loads(at_api("show", neurons.id, "3", "--json").stdout)["summary"]["index"] == 3


def test_a_feature_out_of_range_names_the_range(at_api: Glossarium, neurons: Dictionary) -> None:
    result = at_api("show", neurons.id, "16")
    assert result.exit_code == 2
    assert "feature=16; tiny has 0..15" in result.stderr


def test_migrate_brings_a_database_up_to_date_and_says_so(
    glossarium: Glossarium, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    load_settings.cache_clear()
    try:
        assert glossarium("migrate").stdout == "0 migrations applied: it was up to date\n"
    finally:
        load_settings.cache_clear()


def test_open_names_an_address_that_signs_in(at_api: Glossarium, api: Api) -> None:
    assert at_api("open", "--print").stdout == f"{api.url}/sign-in#{api.key}\n"


def test_an_unknown_name_says_what_lists_the_known(at_api: Glossarium) -> None:
    result = at_api("show", "nobody", "0")
    assert result.exit_code == 1
    assert "no dictionary 'nobody'; `glossarium dictionaries` lists them" in result.stderr


def test_trials_that_make_no_sense_end_with_code_2(at_api: Glossarium, neurons: Dictionary) -> None:
    name = str(neurons.id)[:8]
    for arguments, message in (
        (("steer", name, "16", "--strength", "1", "--prompt", "a"), "feature=16; tiny has 0..15"),
        (("steer", name, "0", "--strength", "1e9", "--prompt", "a"), "strength 1e+09 r: must be in -20..20"),
        (("steer", name, "0", "--strength", "nan", "--prompt", "a"), "finite number"),
        (("activations", name, ""), "at least 1 character"),
    ):
        result = at_api(*arguments)
        assert (result.exit_code, result.output.count("\n")) == (2, 1), result.output
        assert message in result.stderr
