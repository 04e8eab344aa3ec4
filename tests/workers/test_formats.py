"""Formats: what is written equals what the project that wrote the files would compute, and the rest is refused."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from schema.errors import BadWeights, InvalidInput, NotFinite, ShapeMismatch, UnknownSite
from schema.records import DictionarySpec
from schema.settings import Settings
from tests.dev_data import VARIABLE, dev_data, real_dictionary
from tests.dictionary_files import converted, saelens_config, save_saelens
from tests.tiny import D_MODEL, build_subject, make_subject
from workers.formats.__main__ import main
from workers.formats.files import Wanted
from workers.formats.readers import convert
from workers.formats.sites import site_of_hook
from workers.formats.writing import write_converted
from workers.subject import Subject

D_SAE = 16
SETTINGS = Settings()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a tiny subject."""
    return make_subject(tmp_path_factory.mktemp("subject") / "tiny")


@pytest.fixture(scope="module")
def subject() -> Subject:
    """Return the same subject, loaded."""
    torch.set_num_threads(1)
    return build_subject()


def config_6(architecture: str = "standard", **changed: Any) -> dict[str, Any]:
    """Return a cfg.json of SAELens 6."""
    metadata = {"model_name": "org/model", "hook_head_index": None, "prepend_bos": True} | changed.pop("metadata", {})
    said = {"dtype": "float32", "device": "cpu", "apply_b_dec_to_input": True, "normalize_activations": "none"}
    said |= {"reshape_activations": "none", "metadata": metadata}
    return saelens_config(D_MODEL, D_SAE, "blocks.2.hook_resid_post", architecture, **said) | changed


def config_5(**changed: Any) -> dict[str, Any]:
    """Return a flat cfg.json of SAELens before 6."""
    return {
        "model_name": "org/model",
        "hook_point": "blocks.2.hook_resid_pre",
        "hook_point_layer": 2,
        "hook_point_head_index": None,
        "d_in": D_MODEL,
        "d_sae": D_SAE,
        "dtype": "torch.float32",
        "activation_fn_str": "relu",
        "prepend_bos": True,
    } | changed


def weights(*more: str) -> dict[str, Tensor]:
    """Return random tensors under SAELens' names."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"W_enc": (D_MODEL, D_SAE), "b_enc": (D_SAE,), "W_dec": (D_SAE, D_MODEL), "b_dec": (D_MODEL,)}
    shapes |= dict.fromkeys(more, (D_SAE,))
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


@pytest.mark.parametrize("flat", [False, True])
def test_a_standard_sae_encodes_and_decodes_as_in_saelens(
    flat: bool, folder: Path, subject: Subject, tmp_path: Path
) -> None:
    t = weights()
    path = save_saelens(tmp_path / "sae", config_5() if flat else config_6(), t)
    dictionary = converted(path, folder, subject, tmp_path / "out")
    x = torch.randn(5, D_MODEL)
    activations = torch.relu((x - t["b_dec"]) @ t["W_enc"] + t["b_enc"])
    torch.testing.assert_close(dictionary.encode(x), activations)
    torch.testing.assert_close(dictionary.decode(activations), activations @ t["W_dec"] + t["b_dec"])
    assert dictionary.spec.read_site == ("resid_pre.2" if flat else "resid_post.2")
    assert (dictionary.spec.name, dictionary.spec.source) == ("sae", "saelens")


@pytest.mark.parametrize(
    "config",
    [
        config_6("topk", k=3, apply_b_dec_to_input=False, rescale_acts_by_decoder_norm=True),
        config_5(activation_fn_str="topk", activation_fn_kwargs={"k": 3}, apply_b_dec_to_input=False),
    ],
)
def test_a_topk_sae_encodes_as_in_saelens(
    config: dict[str, Any], folder: Path, subject: Subject, tmp_path: Path
) -> None:
    t = weights()
    dictionary = converted(save_saelens(tmp_path / "sae", config, t), folder, subject, tmp_path / "out")
    x = torch.randn(5, D_MODEL)
    pre = x @ t["W_enc"] + t["b_enc"]
    rescaled = config.get("rescale_acts_by_decoder_norm", False)
    if rescaled:
        pre = pre * t["W_dec"].norm(dim=-1)
    top = pre.topk(3, dim=-1)
    activations = torch.zeros_like(pre).scatter(-1, top.indices, top.values.relu())
    torch.testing.assert_close(dictionary.encode(x), activations)
    scaled = activations / t["W_dec"].norm(dim=-1) if rescaled else activations
    torch.testing.assert_close(dictionary.decode(activations), scaled @ t["W_dec"] + t["b_dec"])


def test_a_jumprelu_sae_encodes_as_in_saelens(folder: Path, subject: Subject, tmp_path: Path) -> None:
    t = weights("threshold")
    dictionary = converted(save_saelens(tmp_path / "sae", config_6("jumprelu"), t), folder, subject, tmp_path / "out")
    x = torch.randn(5, D_MODEL)
    pre = (x - t["b_dec"]) @ t["W_enc"] + t["b_enc"]
    torch.testing.assert_close(dictionary.encode(x), torch.relu(pre) * (pre > t["threshold"]))


def test_an_expected_average_sae_scales_by_the_given_coefficient(
    folder: Path, subject: Subject, tmp_path: Path
) -> None:
    """SAELens folds c into the weights: W_enc·c, W_dec/c, b_dec/c."""
    t = weights()
    path = save_saelens(tmp_path / "sae", config_6(normalize_activations="expected_average_only_in"), t)
    with pytest.raises(InvalidInput, match="--norm-coefficient"):
        convert(str(path), Wanted(str(folder)), SETTINGS)
    dictionary = converted(path, folder, subject, tmp_path / "out", norm_coefficient=0.25)
    x = torch.randn(5, D_MODEL)
    activations = torch.relu((x - t["b_dec"] / 0.25) @ (t["W_enc"] * 0.25) + t["b_enc"])
    torch.testing.assert_close(dictionary.encode(x), activations, rtol=1e-4, atol=1e-5)
    expected = activations @ (t["W_dec"] / 0.25) + t["b_dec"] / 0.25
    torch.testing.assert_close(dictionary.decode(activations), expected, rtol=1e-4, atol=1e-4)


def test_a_finetuned_scaling_factor_goes_into_the_decoder(folder: Path, subject: Subject, tmp_path: Path) -> None:
    t = weights("scaling_factor")
    dictionary = converted(save_saelens(tmp_path / "sae", config_5(), t), folder, subject, tmp_path / "out")
    torch.testing.assert_close(dictionary.decoder(), t["W_dec"] * t["scaling_factor"][:, None])


def test_half_precision_is_kept_and_double_is_not(folder: Path, subject: Subject, tmp_path: Path) -> None:
    for dtype, kept in ((torch.bfloat16, torch.bfloat16), (torch.float64, torch.float32)):
        path = save_saelens(
            tmp_path / "sae", config_6(), {name: tensor.to(dtype) for name, tensor in weights().items()}
        )
        converted(path, folder, subject, tmp_path / "out")
        assert {t.dtype for t in load_file(tmp_path / "out" / "weights.safetensors").values()} == {kept}


@pytest.mark.parametrize(
    ("hook", "site"),
    [
        ("blocks.14.hook_resid_pre", "resid_pre.14"),
        ("blocks.0.hook_resid_mid", "resid_mid.0"),
        ("blocks.3.hook_resid_post", "resid_post.3"),
        ("blocks.3.hook_mlp_out", "mlp_out.3"),
        ("blocks.3.hook_attn_out", "attn_out.3"),
        ("blocks.3.attn.hook_z", "attn_heads.3"),
        ("blocks.3.mlp.hook_post", "mlp_hidden.3"),
        ("blocks.3.ln2.hook_normalized", "mlp_normed.3"),
    ],
)
def test_hooks_have_sites(hook: str, site: str) -> None:
    assert site_of_hook(hook) == site


def test_an_unknown_hook_is_refused_but_a_site_can_be_given(folder: Path, subject: Subject, tmp_path: Path) -> None:
    path = save_saelens(tmp_path / "sae", config_6(metadata={"hook_name": "hook_embed"}), weights())
    with pytest.raises(UnknownSite, match="hook_name='hook_embed'"):
        convert(str(path), Wanted(str(folder)), SETTINGS)
    given = converted(path, folder, subject, tmp_path / "out", site="resid_pre", layer=0, name="mine")
    assert (given.spec.read_site, given.spec.name) == ("resid_pre.0", "mine")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"architecture": "temporal"}, "architecture='temporal'"),
        ({"architecture": "gated"}, "missing=b_gate, b_mag, r_mag and unknown=b_enc"),
        ({"architecture": "transcoder"}, "hook_name_out=None"),
        ({"d_sae": "16"}, "d_sae='16'; must be a positive whole number"),
        ({"d_sae": 17}, r"W_enc=\[96, 16\] must be \[96, 17\]"),
        ({"d_in": 16, "d_sae": 96}, r"W_enc=\[96, 16\] must be \[16, 96\]; it is transposed"),
        ({"normalize_activations": "covariance_whitening"}, "normalize_activations='covariance_whitening'"),
        ({"metadata": {"hook_head_index": 3}}, "hook_head_index=3"),
        ({"metadata": {"model_from_pretrained_kwargs": {"center_writing_weights": True}}}, "center_writing_weights"),
        ({"reshape_activations": "other"}, "reshape_activations='other'"),
        ({"activation_fn": "tanh-relu"}, "activation_fn='tanh-relu'"),
        ({"d_sae": None}, "d_sae=None"),
        ({"architecture": "topk"}, "k=None"),
    ],
)
def test_what_can_not_be_honoured_is_refused_by_name(
    changed: dict[str, Any], message: str, folder: Path, tmp_path: Path
) -> None:
    path = save_saelens(tmp_path / "sae", config_6(**changed), weights())
    with pytest.raises(InvalidInput, match=message):
        convert(str(path), Wanted(str(folder)), SETTINGS)


def test_tensors_that_do_not_belong_are_refused(folder: Path, tmp_path: Path) -> None:
    path = save_saelens(tmp_path / "sae", config_6(), weights("r_mag"))
    with pytest.raises(BadWeights, match="unknown=r_mag"):
        convert(str(path), Wanted(str(folder)), SETTINGS)
    save_saelens(path, config_6("jumprelu"), weights())
    with pytest.raises(BadWeights, match="missing=threshold"):
        convert(str(path), Wanted(str(folder)), SETTINGS)


def test_a_truncated_file_and_a_pickle_are_refused(folder: Path, tmp_path: Path) -> None:
    path = save_saelens(tmp_path / "sae", config_6(), weights())
    file = path / "sae_weights.safetensors"
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(BadWeights, match="truncated"):
        convert(str(path), Wanted(str(folder)), SETTINGS)
    torch.save(weights(), file)
    with pytest.raises(BadWeights, match="this is a pickle"):
        convert(str(path), Wanted(str(folder)), SETTINGS)


# ---------------------------------------------------------------------------------------------- directions


def test_directions_are_probes_that_also_write(folder: Path, subject: Subject, tmp_path: Path) -> None:
    rows, bias = torch.randn(3, D_MODEL), torch.randn(3)
    save_file({"probes": rows, "bias": bias, "threshold": torch.ones(3)}, tmp_path / "probes.safetensors")
    dictionary = converted(tmp_path / "probes.safetensors", folder, subject, tmp_path / "out", site="resid_post.2")
    x = torch.randn(5, D_MODEL)
    torch.testing.assert_close(dictionary.encode(x), torch.relu(x @ rows.T + bias))
    torch.testing.assert_close(dictionary.directions(torch.arange(3)), rows)
    assert dictionary.threshold.tolist() == [1.0] * 3
    assert not dictionary.needs_thresholds


def test_directions_in_npy_have_no_bias_and_need_thresholds(folder: Path, subject: Subject, tmp_path: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((3, D_MODEL))
    np.save(tmp_path / "rows.npy", rows)
    dictionary = converted(tmp_path / "rows.npy", folder, subject, tmp_path / "out", site="resid_post", layer=1)
    assert dictionary.spec.read_site == "resid_post.1"
    assert dictionary.needs_thresholds
    torch.testing.assert_close(dictionary.decoder(), torch.from_numpy(rows).float())
    np.save(tmp_path / "one.npy", rows[0])
    assert converted(tmp_path / "one.npy", folder, subject, tmp_path / "out", site="resid_post.1").n_features == 1


def test_directions_that_can_not_be_used_are_refused(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "rows.npy"

    def refused(error: type[InvalidInput], message: str, array: Any, site: str | None = "resid_post.1") -> None:
        np.save(file, array, allow_pickle=True)
        with pytest.raises(error, match=message):
            write_converted(convert(str(file), Wanted(str(folder), site=site), SETTINGS), tmp_path / "out", SETTINGS)
        assert not (tmp_path / "out" / "spec.json").exists()

    refused(UnknownSite, "site=None", np.ones((2, D_MODEL)), None)
    refused(UnknownSite, "layer=9", np.ones((2, D_MODEL)), "resid_post.9")
    refused(ShapeMismatch, r"w_dec=\[2, 5\]; must be \[2, 96\]", np.ones((2, 5)))
    refused(ShapeMismatch, r"directions=\[2, 3, 4\]", np.ones((2, 3, 4)))
    refused(BadWeights, "dtype=int64 must be float16", np.ones((2, D_MODEL), int))
    refused(NotFinite, r"w_dec\[1, 4\]", np.where(np.arange(2 * D_MODEL).reshape(2, -1) == D_MODEL + 4, np.nan, 1.0))
    refused(BadWeights, "dtype=object is a pickle of Python objects", np.array([{"a": 1}], dtype=object))
    save_file({"a": torch.ones(2, 3), "b2": torch.ones(2, 3)}, tmp_path / "two.safetensors")
    with pytest.raises(BadWeights, match="tensors=a, b2"):
        convert(str(tmp_path / "two.safetensors"), Wanted(str(folder), site="resid_post.1"), SETTINGS)


# ---------------------------------------------------------------------------------------------- command


def test_the_command_writes_both_files_and_says_what_it_found(folder: Path, tmp_path: Path) -> None:
    path = save_saelens(tmp_path / "sae", config_6("topk", k=3), weights())
    command = [
        sys.executable,
        "-m",
        "workers.formats",
        str(path),
        "--subject",
        str(folder),
        "--out",
        str(tmp_path / "o"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    expected = f"SAELens topk, trained on org/model: {D_SAE} features at resid_post.2 of {folder}\n"
    assert done.stdout == expected
    assert sorted(p.name for p in (tmp_path / "o").iterdir()) == ["spec.json", "weights.safetensors"]


def test_neurons_are_a_spec_without_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    subject = "bundled:smollm2-135m-instruct"
    out = tmp_path / "out"
    out.mkdir()
    (out / "weights.safetensors").write_bytes(b"of another dictionary")
    assert main(["neurons", "--subject", subject, "--layer", "15", "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"MLP neurons: 1536 features at mlp_hidden.15 of {subject}\n"
    assert [p.name for p in out.iterdir()] == ["spec.json"]
    spec = DictionarySpec.model_validate_json((out / "spec.json").read_text())
    assert (spec.encoder.kind, spec.n_features, spec.read_site) == ("neurons", 1536, "mlp_hidden.15")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["neurons", "--layer", "40"], "layer=40; bundled:smollm2-135m-instruct has 0..29"),
        (["neurons"], "layer=None; name it with --layer N, one of 0..29"),
        (["/no/such"], "no such path; must be a SAELens folder"),
        ([str(Path(__file__))], "no known format"),
    ],
)
def test_input_that_can_not_be_used_ends_with_code_2_and_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--subject", "bundled:smollm2-135m-instruct", "--out", str(tmp_path / "out")]
    assert main([*arguments, *out]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.skipif(dev_data() is None, reason=f"{VARIABLE} names no folder of real dictionaries")
def test_a_real_saelens_folder_converts(tmp_path: Path) -> None:
    spec, weights = real_dictionary(dev_data() or tmp_path, tmp_path, SETTINGS)
    assert spec.n_features > 0
    assert weights.is_file()
