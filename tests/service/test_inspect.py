"""`glossarium inspect`, and `submit` of several formats, as a user runs them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from schema.health import Inspection
from service.cli import app
from tests import planted_autoencoder as planted
from tests.service.conftest import Api
from tests.tiny import build_subject, make_subject

Glossarium = Callable[..., Result]


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a tiny subject."""
    return make_subject(tmp_path_factory.mktemp("subject") / "tiny")


@pytest.fixture(scope="module")
def sae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of an autoencoder that fits it."""
    torch.set_num_threads(1)
    return planted.save_planted(tmp_path_factory.mktemp("planted") / "sae", build_subject())


@pytest.fixture
def glossarium(monkeypatch: pytest.MonkeyPatch) -> Glossarium:
    """Return a caller of the command."""
    monkeypatch.setenv("COLUMNS", "160")
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_inspect_shows_what_a_dictionary_is_and_how_it_does(glossarium: Glossarium, sae: Path, subject: Path) -> None:
    result = glossarium("inspect", sae, "--subject", subject)
    assert result.exit_code == 0, result.output
    for said in ("SAELens jumprelu", "96 (jumprelu)", "resid_post.2", "less b_dec", "[96, 96] F32", "decoder norms"):
        assert said in result.stdout
    assert "the dictionary reconstructs resid_post.2" in result.stdout


def test_inspect_as_json_is_a_record(glossarium: Glossarium, sae: Path, subject: Path) -> None:
    found = Inspection.model_validate_json(glossarium("inspect", sae, "--subject", subject, "--json").stdout)
    assert found.health is not None
    assert found.health.fits
    assert found.decoder_norms is not None
    assert found.decoder_norms.smallest > 0
    assert {tensor.name for tensor in found.tensors} == {"w_enc", "b_enc", "w_dec", "b_dec", "threshold"}
    assert found.duplicates == 0.0


def test_a_dictionary_of_another_site_ends_with_code_1_and_the_right_site(
    glossarium: Glossarium, sae: Path, subject: Path
) -> None:
    result = glossarium("inspect", sae, "--subject", subject, "--site", "mlp_out.2")
    assert result.exit_code == 1
    assert "wrong hook: did you mean --site resid_post.2?" in " ".join(result.stdout.split())


def test_a_subject_that_is_not_here_leaves_the_health_out(glossarium: Glossarium, sae: Path) -> None:
    result = glossarium("inspect", sae, "--subject", "org/model")
    assert result.exit_code == 0, result.output
    assert "org/model is not on this machine" in result.stdout


def test_files_that_can_not_be_used_end_with_code_2(glossarium: Glossarium, tmp_path: Path) -> None:
    (tmp_path / "cfg.json").write_text("{}")
    result = glossarium("inspect", tmp_path)
    assert result.exit_code == 2
    assert "it has cfg.json but not sae_weights.safetensors" in result.stderr
    result = glossarium("inspect", tmp_path, "--subject", "bundled:other")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1


def test_without_a_hub_a_reference_ends_with_code_1(glossarium: Glossarium) -> None:
    result = glossarium("inspect", "hf:org/release/layer_1")
    assert result.exit_code == 1
    assert "can't be reached and nothing of it is cached" in result.stderr


def test_heads_are_submitted_without_weights(glossarium: Glossarium, api: Api) -> None:
    result = glossarium("submit", "heads", "--layer", "3", "--api", api.url, "--json")
    assert result.exit_code == 0, result.output
    made = json.loads(result.stdout)
    assert (made["state"], made["spec"]["read_site"], made["spec"]["n_features"]) == ("ready", "attn_heads.3", 576)
