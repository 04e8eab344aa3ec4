"""Formats besides SAELens and directions: what is converted computes what their authors say, worked out by hand."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from schema.errors import BadWeights, InvalidInput, ShapeMismatch, UnknownSite
from schema.settings import Settings
from tests.dictionary_files import converted, saelens_config, save_saelens
from tests.tiny import D_MODEL, N_HEADS, build_subject, make_subject
from workers.dictionary import LoadedDictionary
from workers.formats.files import Wanted
from workers.formats.readers import convert
from workers.formats.sites import Sites, sites_of_module
from workers.subject import Subject

F = 16
SETTINGS = Settings()
Reload = Callable[..., LoadedDictionary]


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
def reload(folder: Path, subject: Subject, tmp_path: Path) -> Reload:
    """Return what converts, writes and loads again."""

    return partial(converted, subject_folder=folder, subject=subject, out=tmp_path / "canonical")


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Return random numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def jumprelu(x: Tensor, t: dict[str, Tensor]) -> Tensor:
    """Return activations of a JumpReLU that subtracts nothing."""
    pre = x @ t["W_enc"] + t["b_enc"]
    return torch.relu(pre) * (pre > t["threshold"])


# ---------------------------------------------------------------------------------------------- Gemma Scope


def gemma(place: Path, *, lower: bool = False, **changed: Any) -> dict[str, Tensor]:
    """Save params.npz in a folder, and return what is in it."""
    tensors = {"W_enc": normal(D_MODEL, F), "b_enc": normal(F, seed=1), "W_dec": normal(F, D_MODEL, seed=2)}
    tensors |= {"b_dec": normal(D_MODEL, seed=3), "threshold": normal(F, seed=4).abs()}
    arrays = {(n.replace("W_", "w_") if lower else n): t.numpy() for n, t in tensors.items()} | changed
    place.mkdir(parents=True)
    np.savez(place / "params.npz", **{name: array for name, array in arrays.items() if array is not None})
    return tensors


@pytest.mark.parametrize(
    ("repository", "site"),
    [
        ("gemma-scope-2b-pt-res", "resid_post.3"),
        ("models--google--gemma-scope-9b-it-mlp/snapshots/0a1b", "mlp_out.3"),
        ("gemma-scope-2b-pt-att", "attn_heads.3"),
    ],
)
@pytest.mark.parametrize("lower", [False, True])
def test_gemma_scope_says_its_site_by_its_path(
    repository: str, site: str, lower: bool, reload: Reload, tmp_path: Path
) -> None:
    place = tmp_path / repository / "layer_3" / "width_16k" / "average_l0_71"
    tensors = gemma(place, lower=lower)
    dictionary = reload(place)
    x = normal(9, D_MODEL, seed=5)
    acts = jumprelu(x, tensors)
    torch.testing.assert_close(dictionary.encode(x), acts)
    torch.testing.assert_close(dictionary.decode(acts), acts @ tensors["W_dec"] + tensors["b_dec"])
    assert (dictionary.spec.read_site, dictionary.spec.write_site) == (site, None)
    assert dictionary.spec.name == "layer_3 width_16k average_l0_71"
    assert reload(place / "params.npz").spec == dictionary.spec


def test_a_transcoder_of_gemma_scope_reads_the_normed_residual(reload: Reload, tmp_path: Path) -> None:
    place = tmp_path / "gemma-scope-2b-pt-transcoders" / "layer_1" / "width_16k" / "average_l0_9"
    gemma(place)
    spec = reload(place).spec
    assert (spec.read_site, spec.write_site) == ("mlp_normed.1", "mlp_out.1")


def test_embeddings_of_gemma_scope_are_scaled_by_the_root_of_their_width(reload: Reload, tmp_path: Path) -> None:
    place = tmp_path / "gemma-scope-2b-pt-res" / "embedding" / "width_4k" / "average_l0_9"
    tensors = gemma(place)
    dictionary = reload(place)
    x = normal(5, D_MODEL, seed=6)
    scaled = tensors | {"W_enc": tensors["W_enc"] / D_MODEL**0.5}
    torch.testing.assert_close(dictionary.encode(x), jumprelu(x, scaled))
    assert dictionary.spec.read_site == "resid_pre.0"


def test_gemma_scope_without_a_telling_path_needs_a_site(reload: Reload, folder: Path, tmp_path: Path) -> None:
    gemma(tmp_path / "mine")
    with pytest.raises(UnknownSite, match="--site"):
        convert(str(tmp_path / "mine"), Wanted(str(folder)), SETTINGS)
    assert reload(tmp_path / "mine", site="resid_post.1", name="mine").spec.read_site == "resid_post.1"


# ---------------------------------------------------------------------------------------------- Llama Scope


def test_llama_scope_scales_inputs_and_threshold_by_the_mean_norm(reload: Reload, tmp_path: Path) -> None:
    """SAELens folds c = √d / mean norm into the weights and multiplies the threshold by it."""
    tensors = {"encoder.weight": normal(F, D_MODEL), "encoder.bias": normal(F, seed=1)}
    tensors |= {"decoder.weight": normal(D_MODEL, F, seed=2).contiguous(), "decoder.bias": normal(D_MODEL, seed=3)}
    hook = "blocks.3.hook_resid_post"
    config = {"d_model": D_MODEL, "d_sae": F, "hook_point_in": hook, "hook_point_out": hook, "act_fn": "jumprelu"}
    config |= {"norm_activation": "dataset-wise", "dataset_average_activation_norm": {"in": 17.5, "out": 17.5}}
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "hyperparams.json").write_text(json.dumps(config | {"jump_relu_threshold": 0.75}))
    save_file(tensors, tmp_path / "checkpoints" / "final.safetensors")
    dictionary = reload(tmp_path)
    c = D_MODEL**0.5 / 17.5
    x = 3.0 * normal(9, D_MODEL, seed=5)
    pre = x @ (c * tensors["encoder.weight"].T) + tensors["encoder.bias"]
    acts = torch.relu(pre) * (pre > 0.75 * c)
    torch.testing.assert_close(dictionary.encode(x), acts, rtol=1e-5, atol=1e-5)
    written = acts @ tensors["decoder.weight"].T / c + tensors["decoder.bias"] / c
    torch.testing.assert_close(dictionary.decode(acts), written, rtol=1e-4, atol=1e-4)
    assert dictionary.spec.read_site == "resid_post.3"
    assert reload(tmp_path / "checkpoints" / "final.safetensors").spec.read_site == "resid_post.3"


# ---------------------------------------------------------------------------------------------- sparsify


@pytest.mark.parametrize(
    ("name", "transcodes", "sites"),
    [
        ("layers.7", False, Sites("resid_post.7")),
        ("model.layers.7.mlp", False, Sites("mlp_out.7")),
        ("h.3.attn", False, Sites("attn_out.3")),
        ("gpt_neox.layers.3.attention", False, Sites("attn_out.3")),
        ("embed_tokens", False, Sites("resid_pre.0")),
        ("layers.7.mlp", True, Sites("mlp_in.7", "mlp_out.7")),
    ],
)
def test_modules_have_sites(name: str, transcodes: bool, sites: Sites) -> None:
    assert sites_of_module(name, transcodes, None) == sites


def test_modules_without_a_site_are_refused() -> None:
    with pytest.raises(UnknownSite, match="hookpoint='lm_head'"):
        sites_of_module("lm_head", False, None)
    with pytest.raises(UnknownSite, match="transcoder is of an MLP"):
        sites_of_module("layers.3", True, None)


@pytest.mark.parametrize(
    ("changed", "message"), [({"activation": "groupmax"}, "groupmax"), ({"signed": True}, "signed")]
)
def test_other_activations_of_sparsify_are_refused(
    changed: dict[str, Any], message: str, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "cfg.json").write_text(json.dumps({"d_in": D_MODEL, "num_latents": F, "k": 3} | changed))
    save_file({"W_dec": normal(F, D_MODEL)}, tmp_path / "sae.safetensors")
    with pytest.raises(InvalidInput, match=message):
        convert(str(tmp_path), Wanted(str(folder)), SETTINGS)


# ---------------------------------------------------------------------------------------------- AxBench


def axbench(place: Path, rows: Tensor, concepts: list[dict[str, Any]]) -> Path:
    """Save weight.pt and metadata.jsonl."""
    place.mkdir(exist_ok=True)
    torch.save(rows, place / "weight.pt")
    (place / "metadata.jsonl").write_text("".join(json.dumps(concept) + "\n" for concept in concepts))
    return place


def test_concepts_of_axbench_are_directions_with_labels(reload: Reload, folder: Path, tmp_path: Path) -> None:
    rows = normal(3, D_MODEL)
    concepts = [{"concept_id": i, "concept": f"concept {i}", "threshold": 0.5 * i} for i in (2, 0, 1)]
    place = axbench(tmp_path / "ax", rows, concepts)
    torch.save(torch.tensor([0.1, 0.2, 0.3]), place / "bias.pt")
    dictionary = reload(place, site="resid_post.2")
    x = normal(5, D_MODEL, seed=1)
    torch.testing.assert_close(dictionary.encode(x), torch.relu(x @ rows.T + torch.tensor([0.1, 0.2, 0.3])))
    torch.testing.assert_close(dictionary.directions(torch.arange(3)), rows)
    assert dictionary.threshold.tolist() == [0.0, 0.5, 1.0]
    labels = [json.loads(line) for line in (tmp_path / "canonical" / "labels.jsonl").read_text().splitlines()]
    assert labels == [{"feature": i, "text": f"concept {i}"} for i in range(3)]
    with pytest.raises(UnknownSite, match="site=None"):
        convert(str(place), Wanted(str(folder)), SETTINGS)


@pytest.mark.parametrize(
    ("concepts", "error", "message"),
    [
        ([{"concept_id": 0}], ShapeMismatch, "has concepts of 1 rows; the weights have 3"),
        ([{"concept_id": 0}, {"concept_id": 1}, {"concept_id": 5}], ShapeMismatch, "the weights have 3"),
        ([{"concept_id": "a"}] * 3, BadWeights, "line 1 must be a JSON object"),
    ],
)
def test_metadata_that_does_not_fit_is_refused(
    concepts: list[dict[str, Any]], error: type[InvalidInput], message: str, folder: Path, tmp_path: Path
) -> None:
    place = axbench(tmp_path / "ax", normal(3, D_MODEL), concepts)
    with pytest.raises(error, match=message):
        convert(str(place), Wanted(str(folder), site="resid_post.2"), SETTINGS)


# ---------------------------------------------------------------------------------------------- subspaces


class Rotation(nn.Module):
    """A low-rank rotation as pyvene has it: columns."""

    def __init__(self, d: int, k: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(d, k))
        nn.init.orthogonal_(self.weight)


def test_rows_of_loreft_fire_as_far_as_its_edit_moves_them(reload: Reload, tmp_path: Path) -> None:
    """LoReFT adds R^T (W h + b - R h): the sum over rows of activation times row, where the edit is positive."""
    rotation = Rotation(D_MODEL, 4).weight.detach()
    saved = {"rotate_layer": rotation, "weight": normal(4, D_MODEL, seed=1), "bias": normal(4, seed=2)}
    torch.save(saved, tmp_path / "intkey_layer.2.bin")
    dictionary = reload(tmp_path / "intkey_layer.2.bin", site="resid_post.2")
    x = normal(6, D_MODEL, seed=3)
    edit = x @ saved["weight"].T + saved["bias"] - x @ rotation
    torch.testing.assert_close(dictionary.encode(x), torch.relu(edit), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(dictionary.directions(torch.arange(4)), rotation.T)
    assert dictionary.spec.source == "loreft"


@pytest.mark.parametrize("k", [4, D_MODEL])
def test_a_parametrized_rotation_of_das_is_made_whole_again(k: int, reload: Reload, tmp_path: Path) -> None:
    torch.manual_seed(0)
    layer = nn.utils.parametrizations.orthogonal(Rotation(D_MODEL, k))
    with torch.no_grad():
        learnt = layer.parametrizations.weight.original  # its diagonal holds signs where it is not square
        learnt += (0.1 * torch.randn_like(learnt)).fill_diagonal_(0.0)
    state = {f"rotate_layer.{name}": tensor for name, tensor in layer.state_dict().items()}
    torch.save(state, tmp_path / "das.pt")
    dictionary = reload(tmp_path / "das.pt", site="resid_post.2")
    torch.testing.assert_close(dictionary.decoder(), layer.weight.detach().T, rtol=1e-4, atol=1e-5)
    assert dictionary.spec.source == "das"


def test_a_rotation_whose_rows_are_not_orthonormal_is_refused(folder: Path, tmp_path: Path) -> None:
    save_file({"R": normal(4, D_MODEL)}, tmp_path / "r.safetensors")
    with pytest.raises(BadWeights, match="must be orthonormal"):
        convert(str(tmp_path / "r.safetensors"), Wanted(str(folder), site="resid_post.2"), SETTINGS)


# ---------------------------------------------------------------------------------------------- heads


def test_outputs_of_heads_are_the_coordinates_of_their_site(reload: Reload, subject: Subject) -> None:
    dictionary = reload("heads", layer=1)
    assert (dictionary.spec.read_site, dictionary.spec.n_features) == ("attn_heads.1", D_MODEL)
    projection = subject.effective_directions(dictionary.write_site, torch.eye(D_MODEL))
    torch.testing.assert_close(dictionary.directions(torch.arange(D_MODEL)), projection)


def test_a_dictionary_of_one_head_sees_and_moves_only_that_head(reload: Reload, tmp_path: Path) -> None:
    d_head, head = D_MODEL // N_HEADS, 2
    t = {"W_enc": normal(d_head, F), "b_enc": normal(F, seed=1), "W_dec": normal(F, d_head, seed=2)}
    t["b_dec"] = normal(d_head, seed=3)

    def of_head(index: int) -> Path:
        config = saelens_config(d_head, F, "blocks.1.attn.hook_z", metadata={"hook_head_index": index})
        return save_saelens(tmp_path, config, t)

    dictionary = reload(of_head(head))
    x = normal(5, D_MODEL, seed=4)
    mine = slice(head * d_head, (head + 1) * d_head)
    acts = torch.relu((x[:, mine] - t["b_dec"]) @ t["W_enc"] + t["b_enc"])
    torch.testing.assert_close(dictionary.encode(x), acts, rtol=1e-4, atol=1e-5)
    written = dictionary.decode(acts)
    torch.testing.assert_close(written[:, mine], acts @ t["W_dec"] + t["b_dec"], rtol=1e-4, atol=1e-4)
    assert float(written.abs().sum() - written[:, mine].abs().sum()) == pytest.approx(0.0, abs=1e-3)
    with pytest.raises(ShapeMismatch, match="hook_head_index=4"):
        reload(of_head(4))
