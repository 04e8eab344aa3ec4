"""The health of a dictionary: what is measured, and every mistake named, on a planted one and on a real one."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from schema.errors import DoesNotFit, ShapeMismatch
from schema.health import Health
from schema.records import DictionarySpec
from schema.settings import Settings, load_settings
from schema.subjects import BUNDLED
from tests import planted_autoencoder as planted
from tests.dev_data import VARIABLE, dev_data
from tests.tiny import build_subject, make_subject
from workers.dictionary import LoadedDictionary, load_dictionary
from workers.formats.files import Wanted
from workers.formats.readers import convert
from workers.formats.writing import write_converted
from workers.health import CONTEXT_LENGTH, N_CONTEXTS, check_fit, examine
from workers.ingest import sample_contexts
from workers.loading import load_subject
from workers.methods.reconstruction import measure_fit, share_of_twins
from workers.subject import Subject

SETTINGS = Settings()
Examine = Callable[..., Health]

# A mistake, what it is made with, and what is said of it: on the planted autoencoder.
MISTAKES: list[tuple[str, dict[str, Any], str, str]] = [
    ("layer", {"hook": "blocks.1.hook_resid_post"}, "layer", "--site resid_post.2"),
    ("layer", {"hook": "blocks.3.hook_resid_post"}, "layer", "--site resid_post.2"),
    ("layer", {"hook": "blocks.2.hook_resid_pre"}, "layer", "--site resid_pre.3"),
    ("hook", {"hook": "blocks.2.hook_mlp_out"}, "hook", "--site resid_post.2"),
    ("hook", {"hook": "blocks.2.hook_attn_out"}, "hook", "--site resid_post.2"),
    ("scale", {"factor": 0.2}, "scale", "inputs should be multiplied by about"),
    ("scale", {"factor": 9.0}, "scale", "inputs should be multiplied by about"),
    ("bias", {}, "bias", "apply_b_dec_to_input should be true"),
    ("normalisation", {}, "normalisation", "normalize_activations=none"),
    ("transposition", {"name": "W_enc"}, "transposition", "w_enc is transposed"),
    ("transposition", {"name": "W_dec"}, "transposition", "w_dec is transposed"),
    ("swap", {}, "transposition", "w_enc and w_dec stand in each other's place"),
    ("threshold", {"factor": 50.0}, "threshold", "0.0156 times"),
    ("threshold", {"factor": 0.01}, "threshold", "64 times"),
]


@pytest.fixture(scope="module")
def subject() -> Subject:
    """Return a tiny subject whose layers differ."""
    torch.set_num_threads(1)
    return build_subject(block_scale=0.1)


@pytest.fixture(scope="module")
def source(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the planted autoencoder."""
    return planted.save_planted(tmp_path_factory.mktemp("planted") / "sae", subject)


@pytest.fixture
def loaded(subject: Subject, tmp_path: Path) -> Callable[..., LoadedDictionary]:
    """Return what converts and loads a folder."""
    place = make_subject(tmp_path / "subject")  # its sizes are all that is asked of it

    def load(folder: Path, **wanted: Any) -> LoadedDictionary:
        write_converted(convert(str(folder), Wanted(str(place), **wanted), SETTINGS), tmp_path / "out", SETTINGS)
        spec = DictionarySpec.model_validate_json((tmp_path / "out" / "spec.json").read_text())
        return load_dictionary(spec, subject, tmp_path / "out" / "weights.safetensors")

    return load


def test_a_dictionary_that_fits_is_healthy(
    source: Path, subject: Subject, loaded: Callable[..., LoadedDictionary]
) -> None:
    health = check_fit(loaded(source), planted.tiny_contexts(subject))
    assert health is not None
    assert health.fits
    assert health.suspicions == ()
    assert health.fvu is not None
    assert health.fvu < 0.35
    assert health.l0 == pytest.approx(1.0, abs=0.3)
    assert health.dead is not None
    assert health.dead < 0.1
    assert health.sink is not None
    assert "reconstructs resid_post.2" in health.verdict


@pytest.mark.parametrize(("mistake", "made_with", "named", "suggestion"), MISTAKES)
def test_each_mistake_is_named(
    mistake: str,
    made_with: dict[str, Any],
    named: str,
    suggestion: str,
    source: Path,
    subject: Subject,
    loaded: Callable[..., LoadedDictionary],
    tmp_path: Path,
) -> None:
    dictionary = loaded(planted.mistaken(source, tmp_path / "sae", mistake, **made_with))
    health = examine(dictionary, planted.tiny_contexts(subject))
    assert health.suspicions, health.verdict
    assert health.suspicions[0].mistake == named, health
    assert suggestion in health.suspicions[0].suggestion
    assert suggestion in health.verdict


def test_a_run_of_a_dictionary_that_does_not_fit_is_refused(
    source: Path, subject: Subject, loaded: Callable[..., LoadedDictionary], tmp_path: Path
) -> None:
    wrong = loaded(planted.mistaken(source, tmp_path / "sae", "hook", hook="blocks.2.hook_mlp_out"))
    with pytest.raises(
        DoesNotFit, match=r"does not reconstruct mlp_out\.2 .* wrong hook: did you mean --site resid_post"
    ):
        check_fit(wrong, planted.tiny_contexts(subject))


@pytest.mark.parametrize("factor", [0.2, 9.0])
def test_the_suggested_scale_mends_it(
    factor: float, source: Path, subject: Subject, loaded: Callable[..., LoadedDictionary], tmp_path: Path
) -> None:
    contexts = planted.tiny_contexts(subject)
    wrong = planted.mistaken(source, tmp_path / "sae", "scale", factor=factor)
    said = examine(loaded(wrong), contexts).suspicions[0].suggestion
    suggested = float(said.split("about ")[1].split(" ")[0])
    assert suggested == pytest.approx(factor, rel=0.1)
    right, mended = examine(loaded(source), contexts), examine(loaded(wrong, norm_coefficient=suggested), contexts)
    assert right.fvu is not None
    assert mended.fvu == pytest.approx(right.fvu, rel=0.1)
    assert mended.suspicions == ()


def test_directions_are_held_to_nothing(
    source: Path, subject: Subject, loaded: Callable[..., LoadedDictionary], tmp_path: Path
) -> None:
    dictionary = loaded(source)
    spec = dictionary.spec.model_copy(update={"encoder": dictionary.spec.encoder.model_copy(update={"kind": "linear"})})
    rows = dictionary.tensor("w_dec")
    assert rows is not None
    health = examine(LoadedDictionary(spec, subject, {"w_dec": rows}), planted.tiny_contexts(subject))
    assert health.fits
    assert (health.fvu, health.l0, health.suspicions) == (None, None, ())


# ---------------------------------------------------------------------------------------------- the measures


def test_fit_by_hand() -> None:
    """Two features read one coordinate each of four tokens; the third coordinate is never reconstructed."""
    x = torch.tensor([[1.0, 0.0, 2.0], [3.0, 0.0, -2.0], [0.0, 4.0, 2.0], [0.0, 0.0, -2.0]])
    fit = measure_fit(lambda v: v[:, :2], lambda a, _: torch.nn.functional.pad(a, (0, 1)), x, x, 2)
    spread = (x - x.mean(0)).square().sum(0)
    assert fit.fvu == pytest.approx(float(16.0 / spread.sum()))
    assert fit.by_dimension == pytest.approx(1 / 3)
    assert fit.l0 == 0.75
    assert fit.fired.tolist() == [True, True]
    assert fit.errors.tolist() == pytest.approx((4.0 / (x - x.mean(0)).square().sum(1)).tolist())
    with pytest.raises(ShapeMismatch, match="tokens=4 read and 3 written"):
        measure_fit(lambda v: v, lambda a, _: a, x, x[:3], 3)


def test_twins_are_rows_of_one_direction() -> None:
    rows = torch.randn(40, 24, generator=torch.Generator().manual_seed(0))
    assert share_of_twins(rows, torch.Generator().manual_seed(0)) == 0.0
    rows[10:20] = 3.0 * rows[:10]
    rows[39] = 0.0
    assert share_of_twins(rows, torch.Generator().manual_seed(0)) == 0.5


# ---------------------------------------------------------------------------------------------- a real one

_REAL: list[tuple[str, dict[str, Any], str, str]] = [
    ("layer", {"hook": "blocks.13.hook_resid_post"}, "layer", "--site resid_post.14"),
    ("layer", {"hook": "blocks.15.hook_resid_post"}, "layer", "--site resid_post.14"),
    ("layer", {"hook": "blocks.5.hook_resid_post"}, "layer", "--site resid_post.14"),
    ("hook", {"hook": "blocks.14.hook_mlp_out"}, "hook", "--site resid_post.14"),
    ("scale", {"factor": 0.3}, "scale", "inputs should be multiplied by about"),
    ("bias", {}, "bias", "apply_b_dec_to_input should be true"),
    ("normalisation", {}, "normalisation", "normalize_activations=none"),
    ("swap", {}, "transposition", "w_enc and w_dec stand in each other's place"),
]


@pytest.mark.skipif(dev_data() is None, reason=f"{VARIABLE} names no folder of real dictionaries")
@pytest.mark.parametrize(("mistake", "made_with", "named", "suggestion"), [("none", {}, "", ""), *_REAL])
def test_each_mistake_is_named_on_a_real_dictionary(
    mistake: str, made_with: dict[str, Any], named: str, suggestion: str, tmp_path: Path
) -> None:
    source = next((dev_data() or tmp_path).glob("*/cfg.json")).parent
    folder = source if mistake == "none" else planted.mistaken(source, tmp_path / "sae", mistake, **made_with)
    settings = load_settings()
    write_converted(convert(str(folder), Wanted(BUNDLED), settings), tmp_path / "out", settings)
    spec = DictionarySpec.model_validate_json((tmp_path / "out" / "spec.json").read_text())
    real = load_subject(BUNDLED, None, settings)
    corpus = Path(__file__).parents[2] / "schema" / "data" / "corpus.jsonl"
    contexts = sample_contexts(corpus, real, N_CONTEXTS, CONTEXT_LENGTH, seed=0)
    health = examine(load_dictionary(spec, real, tmp_path / "out" / "weights.safetensors"), contexts)
    if mistake == "none":
        assert health.suspicions == ()
        assert health.fits
        return
    assert health.suspicions, health.verdict
    assert health.suspicions[0].mistake == named, json.dumps(health.model_dump(), indent=1)
    assert suggestion in health.suspicions[0].suggestion
