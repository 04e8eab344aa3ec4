"""Our encoders against those of the projects that wrote the files: SAELens, sparsify, dictionary_learning.

The files are made by the packages themselves, with random weights; theirs is what their own loader makes of them again.
"""

import json
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.dictionary_files import converted
from tests.tiny import D_MODEL, build_subject, make_subject
from workers.dictionary import LoadedDictionary
from workers.subject import Subject

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of what these packages import
    from dictionary_learning import dictionary as dl
    from dictionary_learning.trainers.batch_top_k import BatchTopKSAE
    from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKSAE
    from dictionary_learning.trainers.top_k import AutoEncoderTopK
    from dictionary_learning.utils import load_dictionary as load_theirs
    from sae_lens import SAE, TrainingSAE
    from sparsify import SparseCoder, SparseCoderConfig

TOLERANCE = 1e-5  # of the largest value
N_FEATURES, K, N_TOKENS = 160, 7, 64
HOOK = "blocks.2.hook_resid_post"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a tiny subject."""
    return make_subject(tmp_path_factory.mktemp("subject") / "tiny")


@pytest.fixture(scope="module")
def subject() -> Subject:
    """Return the same subject, loaded."""
    torch.set_num_threads(1)
    return build_subject()


@pytest.fixture
def ours(folder: Path, subject: Subject, tmp_path: Path) -> Callable[..., LoadedDictionary]:
    """Return what makes a dictionary of ours of files."""

    return partial(converted, subject_folder=folder, subject=subject, out=tmp_path / "canonical")


def values(seed: int = 0, n: int = N_TOKENS) -> Tensor:
    """Return residuals as models have them: some dimensions are far larger than others."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, D_MODEL, generator=generator) * torch.linspace(0.5, 4.0, D_MODEL) + 0.3


@torch.no_grad()
def randomise(module: torch.nn.Module, seed: int = 0) -> None:
    """Give every parameter random values, biases too, of sizes at which about half of the features are positive."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        scale = 0.2 if parameter.ndim == 2 else 0.5
        parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
        if "threshold" in name:
            parameter.abs_()


def difference(a: Tensor, b: Tensor) -> float:
    """Return the largest difference over the largest value."""
    assert a.shape == b.shape
    return float((a - b).abs().max() / b.abs().max())


def assert_same(dictionary: LoadedDictionary, x: Tensor, acts: Tensor, written: Tensor) -> None:
    """Compare activations, one feature's in a row, and what is decoded."""
    assert 0.01 < float((acts > 0).float().mean()) < 0.9, "the case shows nothing: nearly all or no feature fires"
    assert difference(dictionary.encode(x), acts) <= TOLERANCE
    assert difference(dictionary.decode(dictionary.encode(x), x), written) <= TOLERANCE
    some = torch.arange(3, N_FEATURES, 17)
    assert difference(dictionary.encode(x, some), acts[:, some]) <= TOLERANCE
    rows = dictionary.encode_rows(x[None].expand(len(some), -1, -1), some)
    assert difference(rows, acts[:, some].T) <= TOLERANCE


# ---------------------------------------------------------------------------------------------- SAELens

_NORMS = ("none", "constant_norm_rescale", "layer_norm")
_SAES = [
    *[("standard", norm, {"apply_b_dec_to_input": bias}) for norm in _NORMS for bias in (True, False)],
    *[("jumprelu", norm, {"apply_b_dec_to_input": bias}) for norm in _NORMS for bias in (True, False)],
    *[("gated", norm, {}) for norm in _NORMS],
    *[
        ("topk", norm, {"k": K, "rescale_acts_by_decoder_norm": rescale})
        for norm in _NORMS
        for rescale in (True, False)
    ],
    *[
        (architecture, norm, {"d_out": D_MODEL, "apply_b_dec_to_input": False})
        for architecture in ("transcoder", "jumprelu_transcoder", "skip_transcoder", "jumprelu_skip_transcoder")
        for norm in _NORMS
    ],
]


def saelens(architecture: str, normalize: str, more: dict[str, Any], hook: str = HOOK) -> Any:
    """Return a random dictionary of SAELens."""
    metadata = {"model_name": "tiny", "hook_name": hook, "hook_name_out": "blocks.2.hook_mlp_out"}
    config = {"d_in": D_MODEL, "d_sae": N_FEATURES, "normalize_activations": normalize, "metadata": metadata}
    sae = SAE.from_dict({"architecture": architecture, **config, **more})
    randomise(sae)
    return sae


@pytest.mark.parametrize(("architecture", "normalize", "more"), _SAES)
@torch.no_grad()
def test_a_dictionary_of_saelens_computes_the_same(
    architecture: str, normalize: str, more: dict[str, Any], ours: Callable[..., LoadedDictionary], tmp_path: Path
) -> None:
    saelens(architecture, normalize, more).save_model(tmp_path / "sae")
    theirs = SAE.load_from_disk(tmp_path / "sae")
    x = values()
    dictionary = ours(tmp_path / "sae")
    assert_same(dictionary, x, theirs.encode(x), theirs(x))
    assert dictionary.spec.read_site == "resid_post.2"
    assert dictionary.spec.write_site == ("mlp_out.2" if "transcoder" in architecture else None)


@pytest.mark.parametrize("architecture", ["standard", "jumprelu", "gated", "topk", "transcoder"])
@torch.no_grad()
def test_inputs_of_a_constant_scale_are_scaled_as_saelens_folds_it(
    architecture: str, ours: Callable[..., LoadedDictionary], tmp_path: Path
) -> None:
    more = {"k": K} if architecture == "topk" else {}
    more |= {"d_out": D_MODEL, "apply_b_dec_to_input": False} if architecture == "transcoder" else {}
    sae = saelens(architecture, "expected_average_only_in", more)
    sae.save_model(tmp_path / "sae")
    sae.fold_activation_norm_scaling_factor(0.37)
    x = values()
    assert_same(ours(tmp_path / "sae", norm_coefficient=0.37), x, sae.encode(x), sae(x))


@torch.no_grad()
def test_heads_side_by_side_are_what_hook_z_reshapes_to(ours: Callable[..., LoadedDictionary], tmp_path: Path) -> None:
    sae = saelens("standard", "none", {"reshape_activations": "hook_z"}, hook="blocks.2.attn.hook_z")
    sae.save_model(tmp_path / "sae")
    x = values()
    dictionary = ours(tmp_path / "sae")
    heads = x.reshape(len(x), 4, -1)
    assert_same(dictionary, x, sae.encode(heads), sae(heads).flatten(1))
    assert dictionary.spec.read_site == "attn_heads.2"


@pytest.mark.parametrize("architecture", ["batchtopk", "matryoshka_batchtopk"])
@torch.no_grad()
def test_what_is_trained_with_batchtopk_is_saved_as_jumprelu(
    architecture: str, ours: Callable[..., LoadedDictionary], tmp_path: Path
) -> None:
    config = {"d_in": D_MODEL, "d_sae": N_FEATURES, "k": K, "metadata": {"hook_name": HOOK}}
    widths = {"matryoshka_widths": [40, N_FEATURES]} if architecture.startswith("matryoshka") else {}
    training = TrainingSAE.from_dict({"architecture": architecture, **config, **widths})
    randomise(training)
    training.topk_threshold = torch.tensor(1.5, dtype=torch.double)
    training.save_inference_model(tmp_path / "sae")
    theirs = SAE.load_from_disk(tmp_path / "sae")
    x = values()
    assert json.loads((tmp_path / "sae" / "cfg.json").read_text())["architecture"] == "jumprelu"
    assert_same(ours(tmp_path / "sae"), x, theirs.encode(x), theirs(x))


@pytest.mark.parametrize(
    "config",
    [
        {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": K}, "apply_b_dec_to_input": False},
        {"activation_fn_str": "relu", "normalize_activations": "layer_norm"},
        {"architecture": "gated", "normalize_activations": False},
        {"architecture": "jumprelu", "activation_fn_str": "relu", "normalize_activations": None},
    ],
)
@torch.no_grad()
def test_a_flat_configuration_of_before_6_is_read_as_saelens_reads_it(
    config: dict[str, Any], ours: Callable[..., LoadedDictionary], tmp_path: Path
) -> None:
    saved = saelens("topk" if "topk" in config.values() else config.get("architecture", "standard"), "none", {})
    saved.save_model(tmp_path / "sae")
    flat = {"model_name": "tiny", "hook_point": HOOK, "hook_point_layer": 2, "d_in": D_MODEL, "d_sae": N_FEATURES}
    flat |= {"dtype": "float32", "device": "cpu", "hook_point_head_index": None, "prepend_bos": True}
    (tmp_path / "sae" / "cfg.json").write_text(json.dumps(flat | config))
    theirs = SAE.load_from_disk(tmp_path / "sae")
    x = values()
    assert_same(ours(tmp_path / "sae"), x, theirs.encode(x), theirs(x))


# ---------------------------------------------------------------------------------------------- sparsify


@pytest.mark.parametrize("multi_topk", [False, True])
@pytest.mark.parametrize("transcode", [False, True])
@pytest.mark.parametrize("skip", [False, True])
@torch.no_grad()
def test_a_coder_of_sparsify_computes_the_same(
    multi_topk: bool, transcode: bool, skip: bool, ours: Callable[..., LoadedDictionary], tmp_path: Path
) -> None:
    config = SparseCoderConfig(
        num_latents=N_FEATURES, k=K, multi_topk=multi_topk, transcode=transcode, skip_connection=skip
    )
    coder = SparseCoder(D_MODEL, config)
    randomise(coder)
    path = tmp_path / ("layers.2.mlp" if transcode else "layers.2")
    coder.save_to_disk(path)
    theirs = SparseCoder.load_from_disk(path)
    x = values()
    top, indices, _ = theirs.encode(x)
    acts = torch.zeros(len(x), N_FEATURES).scatter(1, indices, top)
    written = theirs.decode(top, indices) + (x @ theirs.W_skip.mT if theirs.W_skip is not None else 0.0)
    dictionary = ours(path)
    assert_same(dictionary, x, acts, written)
    sites = (dictionary.spec.read_site, dictionary.spec.write_site)
    assert sites == (("mlp_in.2", "mlp_out.2") if transcode else ("resid_post.2", None))


# ---------------------------------------------------------------------------------------------- dictionary_learning

_CLASSES: dict[str, Callable[[], Any]] = {
    "AutoEncoder": lambda: dl.AutoEncoder(D_MODEL, N_FEATURES),
    "AutoEncoderNew": lambda: dl.AutoEncoderNew(D_MODEL, N_FEATURES),
    "GatedAutoEncoder": lambda: dl.GatedAutoEncoder(D_MODEL, N_FEATURES),
    "JumpReluAutoEncoder": lambda: dl.JumpReluAutoEncoder(D_MODEL, N_FEATURES),
    "AutoEncoderTopK": lambda: AutoEncoderTopK(D_MODEL, N_FEATURES, K),
    "BatchTopKSAE": lambda: BatchTopKSAE(D_MODEL, N_FEATURES, K),
    "MatryoshkaBatchTopKSAE": lambda: MatryoshkaBatchTopKSAE(D_MODEL, N_FEATURES, K, [40, N_FEATURES - 40]),
}


@pytest.mark.parametrize("name", _CLASSES)
@torch.no_grad()
def test_a_dictionary_of_dictionary_learning_computes_the_same(
    name: str, ours: Callable[..., LoadedDictionary], tmp_path: Path
) -> None:
    made = _CLASSES[name]()
    randomise(made)
    if "threshold" in dict(made.named_buffers()):
        made.threshold.fill_(1.5)
    torch.save(made.state_dict(), tmp_path / "ae.pt")
    trainer = {"dict_class": name, "activation_dim": D_MODEL, "dict_size": N_FEATURES, "k": K, "layer": 2}
    trainer |= {"lm_name": "tiny", "submodule_name": "resid_post_layer_2"}
    (tmp_path / "config.json").write_text(json.dumps({"trainer": trainer, "buffer": {"ctx_len": 128}}))
    theirs, _ = load_theirs(str(tmp_path), "cpu")
    x = values()
    acts = theirs.encode(x)
    dictionary = ours(tmp_path)
    assert_same(dictionary, x, acts, theirs.decode(acts))
    assert dictionary.spec.read_site == "resid_post.2"
