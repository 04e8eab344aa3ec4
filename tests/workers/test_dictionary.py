"""Dictionaries against a slow reference in float64, and against encode-replace-decode plus error inside the subject."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from schema.errors import BadSelection, BadWeights, NotFinite, ShapeMismatch, UnknownSite
from schema.records import DictionarySpec, Encoder
from schema.subjects import Site
from tests.tiny import (
    D_MLP,
    D_MODEL,
    PlantedDictionary,
    build_subject,
    make_subject,
    planted_dictionary,
    planted_features,
    tiny_corpus,
    word_ids,
)
from workers import dictionary as dictionaries
from workers.batches import Batch
from workers.dictionary import LoadedDictionary, firing_thresholds, load_dictionary
from workers.subject import Subject

N_FEATURES = 24
ENCODERS = {
    "relu": Encoder(kind="relu"),
    "relu-centred": Encoder(kind="relu", subtract_b_dec=True),
    "relu-scaled": Encoder(
        kind="relu", normalize="expected_average_only_in", norm_coefficient=0.3, subtract_b_dec=True
    ),
    "relu-normed-token": Encoder(kind="relu", normalize="constant_norm_rescale"),
    "relu-layer-normed": Encoder(kind="relu", normalize="layer_norm", subtract_b_dec=True),
    "topk": Encoder(kind="topk", k=5, subtract_b_dec=True),
    "topk-rescaled": Encoder(kind="topk", k=5, rescale_acts_by_decoder_norm=True),
    "batchtopk": Encoder(kind="batchtopk", k=5),
    "jumprelu": Encoder(kind="jumprelu"),
    "gated": Encoder(kind="gated", subtract_b_dec=True),
    "linear": Encoder(kind="linear"),
}


@pytest.fixture(scope="module")
def subject() -> Subject:
    """Return a tiny subject with strong blocks."""
    torch.set_num_threads(1)
    return build_subject(block_scale=0.2)


@pytest.fixture(scope="module")
def batch(subject: Subject) -> Batch:
    """Return three rows of unequal length."""
    texts = ("The river saw the old wolf under a bridge.", "A nurse", "it was the miner, at the small oven")
    return subject.batch([[subject.sink_id, *subject.tokenize(text)] for text in texts])


def random_tensors(encoder: Encoder, seed: int = 0) -> dict[str, Tensor]:
    """Return random canonical weights for an encoder kind."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    tensors = {
        "w_dec": normal(N_FEATURES, D_MODEL),
        "w_enc": 0.3 * normal(N_FEATURES, D_MODEL),
        "b_dec": normal(D_MODEL),
    }
    vector = normal(N_FEATURES)
    match encoder.kind:
        case "gated":
            return tensors | {"b_gate": vector, "b_mag": normal(N_FEATURES), "r_mag": 0.3 * normal(N_FEATURES)}
        case "jumprelu" | "batchtopk":
            return tensors | {"b_enc": vector, "threshold": normal(N_FEATURES).abs()}
        case "linear":
            return {"w_dec": tensors["w_dec"], "b_enc": vector}
        case _:
            return tensors | {"b_enc": vector}


def make_spec(encoder: Encoder, read: str = "resid_post.1", write: str | None = None, **fields: Any) -> DictionarySpec:
    """Return a spec of a dictionary on the tiny subject."""
    return DictionarySpec.model_validate(
        {"name": "d", "subject": "tiny", "read_site": read, "write_site": write, "encoder": encoder}
        | {"n_features": N_FEATURES}
        | fields
    )


def load(tmp_path: Path, subject: Subject, spec: DictionarySpec, tensors: dict[str, Tensor]) -> LoadedDictionary:
    """Return a dictionary that went through a file."""
    path = tmp_path / "weights.safetensors"
    save_file(tensors, path)
    return load_dictionary(spec, subject, path)


def slow_encode(encoder: Encoder, tensors: dict[str, Tensor], x: Tensor) -> Tensor:
    """Return activations (F,) of one token x (width,), feature after feature, in float64, as SAELens has them."""
    t = {name: tensor.double() for name, tensor in tensors.items()}
    z = x.double()
    if encoder.normalize == "layer_norm":
        z = (z - z.mean()) / (z.std() + 1e-5)
    if encoder.normalize == "constant_norm_rescale":
        z = z * (len(z) ** 0.5 / z.norm())
    if encoder.normalize == "expected_average_only_in":
        z = z * encoder.norm_coefficient
    if encoder.subtract_b_dec:
        z = z - t["b_dec"]
    activations = []
    for i in range(N_FEATURES):
        row = t.get("w_enc", t["w_dec"])[i]
        if encoder.kind == "gated":
            gate = row @ z + t["b_gate"][i]
            magnitude = (row * t["r_mag"][i].exp()) @ z + t["b_mag"][i]
            activations.append(magnitude.clamp_min(0.0) if gate > 0 else torch.zeros(()).double())
            continue
        pre = row @ z + t["b_enc"][i]
        if encoder.rescale_acts_by_decoder_norm:
            pre = pre * t["w_dec"][i].norm()
        passes = encoder.kind not in ("jumprelu", "batchtopk") or bool(pre > t["threshold"][i])
        activations.append(pre.clamp_min(0.0) if passes else torch.zeros(()).double())
    result = torch.stack(activations)
    if encoder.kind == "topk":
        kept = result.topk(encoder.k or 0).indices
        result = torch.zeros_like(result).index_put((kept,), result[kept])
    return result


def slow_decode(
    encoder: Encoder, tensors: dict[str, Tensor], activations: Tensor, x: Tensor, transcodes: bool = False
) -> Tensor:
    """Return what activations (F,) stand for (width,), in float64, as SAELens has it; x is what was read.

    What a transcoder writes is not scaled as its input was.
    """
    out = tensors["b_dec"].double().clone() if "b_dec" in tensors else torch.zeros(D_MODEL).double()
    for i in range(N_FEATURES):
        row = tensors["w_dec"][i].double()
        out += activations[i] * (row / row.norm() if encoder.rescale_acts_by_decoder_norm else row)
    x = x.double()
    if encoder.normalize == "layer_norm" and not transcodes:
        out = out * (x - x.mean()).std() + x.mean()
    if encoder.normalize == "constant_norm_rescale" and not transcodes:
        out = out / (len(x) ** 0.5 / x.norm())
    if encoder.normalize == "expected_average_only_in":
        out = out / encoder.norm_coefficient
    return out


@pytest.mark.parametrize("name", ENCODERS)
def test_encode_equals_the_slow_reference(name: str, subject: Subject, batch: Batch, tmp_path: Path) -> None:
    encoder, tensors = ENCODERS[name], random_tensors(ENCODERS[name])
    dictionary = load(tmp_path, subject, make_spec(encoder), tensors)
    x = subject.read(batch, dictionary.read_site)
    expected = torch.stack([torch.stack([slow_encode(encoder, tensors, token) for token in row]) for row in x])
    found = dictionary.encode(x)
    assert found.dtype == torch.float32
    assert float((found - expected).abs().max()) < 1e-4 * float(expected.abs().max())
    assert 0.05 < float((found > 0).float().mean()) < 0.95
    some = torch.tensor([7, 0, 23, 7])
    torch.testing.assert_close(dictionary.encode(x, some), found[..., some], rtol=1e-5, atol=1e-5)
    rows = torch.tensor([3, 19, 3])
    expected_rows = torch.stack([found[b, :, i] for b, i in enumerate(rows.tolist())])
    torch.testing.assert_close(dictionary.encode_rows(x, rows), expected_rows, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ENCODERS)
def test_decode_equals_the_slow_reference(name: str, subject: Subject, batch: Batch, tmp_path: Path) -> None:
    encoder, tensors = ENCODERS[name], random_tensors(ENCODERS[name])
    dictionary = load(tmp_path, subject, make_spec(encoder), tensors)
    x = subject.read(batch, dictionary.read_site)[0]
    activations = dictionary.encode(x)
    expected = torch.stack([slow_decode(encoder, tensors, a, t) for a, t in zip(activations, x, strict=True)])
    assert float((dictionary.decode(activations, x) - expected).abs().max()) < 1e-5 * float(expected.abs().max())


@pytest.mark.parametrize("read_write", [("resid_post.1", None), ("mlp_in.1", "mlp_out.1")])
@pytest.mark.parametrize("name", ENCODERS)
def test_set_equals_encode_replace_decode_plus_error(
    name: str, read_write: tuple[str, str | None], subject: Subject, batch: Batch, tmp_path: Path
) -> None:
    """In the model: every token's value becomes decode(a with a_i := α) + (y - decode(a))."""
    encoder, tensors = ENCODERS[name], random_tensors(ENCODERS[name])
    dictionary = load(tmp_path, subject, make_spec(encoder, *read_write), tensors)
    features, values = torch.tensor([3, 19, 8]), torch.tensor([2.5, 0.0, 7.0])
    x = subject.read(batch, dictionary.read_site)
    residual = subject.residual_in(batch, 2).clone()
    for b, i in enumerate(features.tolist()):
        for t in range(1, x.shape[1]):
            before = slow_encode(encoder, tensors, x[b, t])
            after = before.clone()
            after[i] = float(values[b])
            transcodes = read_write[1] is not None
            replaced = slow_decode(encoder, tensors, after, x[b, t], transcodes)
            residual[b, t] += (replaced - slow_decode(encoder, tensors, before, x[b, t], transcodes)).float()
    edited = subject.hidden(batch, dictionary.set(features, values))
    expected = subject.resume(batch, residual, 2)
    torch.testing.assert_close(edited, expected, rtol=1e-4, atol=1e-4)
    assert float((edited - subject.hidden(batch)).abs().max()) > 1e-2


@pytest.mark.parametrize("name", ENCODERS)
def test_add_raises_the_decoded_value_by_alpha_of_the_feature(
    name: str, subject: Subject, batch: Batch, tmp_path: Path
) -> None:
    encoder, tensors = ENCODERS[name], random_tensors(ENCODERS[name])
    dictionary = load(tmp_path, subject, make_spec(encoder), tensors)
    features, alphas = torch.tensor([3, 19, 8]), torch.tensor([2.5, -1.0, 0.0])
    x = subject.read(batch, dictionary.read_site)
    one = torch.eye(N_FEATURES)[features] * alphas[:, None]
    zero = torch.zeros(N_FEATURES)
    residual = subject.residual_in(batch, 2).clone()
    for b in range(3):
        for t in range(1, x.shape[1]):
            moved = slow_decode(encoder, tensors, one[b], x[b, t]) - slow_decode(encoder, tensors, zero, x[b, t])
            residual[b, t] += moved.float()
    edited = subject.hidden(batch, dictionary.add(features, alphas))
    torch.testing.assert_close(edited, subject.resume(batch, residual, 2), rtol=1e-4, atol=1e-4)


def test_hand_computed_encodings() -> None:
    """Four features over a residual whose first two coordinates are (3, 1) and the rest 0."""
    subject = build_subject()
    x = torch.zeros(D_MODEL)
    x[:2] = torch.tensor([3.0, 1.0])
    rows = torch.zeros(4, D_MODEL)
    rows[:, :2] = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [-1.0, 0.0]])
    bias = torch.tensor([-1.0, -2.0, 0.5, 0.0])  # pre-activations 2, -1, 4.5, -3
    base = {"w_enc": rows, "b_enc": bias, "w_dec": rows * 2}

    def encode(encoder: Encoder, **more: Tensor) -> list[float]:
        spec = make_spec(encoder, n_features=4)
        return LoadedDictionary(spec, subject, base | more).encode(x).tolist()

    assert encode(Encoder(kind="relu")) == [2.0, 0.0, 4.5, 0.0]
    assert encode(Encoder(kind="topk", k=1)) == [0.0, 0.0, 4.5, 0.0]
    assert encode(Encoder(kind="jumprelu"), threshold=torch.tensor([2.0, 0.0, 4.0, 0.0])) == [0.0, 0.0, 4.5, 0.0]
    gate = {"b_gate": bias, "b_mag": torch.full((4,), 10.0), "r_mag": torch.zeros(4)}
    assert encode(Encoder(kind="gated"), **gate) == [13.0, 0.0, 14.0, 0.0]


# ---------------------------------------------------------------------------------------------- neurons


def neurons(subject: Subject) -> LoadedDictionary:
    """Return the MLP neurons of layer 1."""
    return load_dictionary(make_spec(Encoder(kind="neurons"), "mlp_hidden.1", n_features=D_MLP), subject, None)


@pytest.fixture(params=["llama", "gpt2", "gpt_neox", "qwen2"])
def any_subject(request: pytest.FixtureRequest) -> Subject:
    """Return a tiny subject of each family."""
    return build_subject(request.param, block_scale=0.2)


def test_neurons_are_the_site_and_set_replaces_them(any_subject: Subject) -> None:
    """Setting a neuron equals replacing its entry before the down projection, which a plain pre-hook does here."""
    subject, dictionary = any_subject, neurons(any_subject)
    batch = subject.batch([[subject.sink_id, *subject.tokenize(" the river saw the wolf")]] * 2)
    x = subject.read(batch, Site("mlp_hidden", 1))
    assert torch.equal(dictionary.encode(x), x)
    assert torch.equal(dictionary.encode(x, torch.tensor([5, 9])), x[..., [5, 9]])
    assert torch.equal(dictionary.encode_rows(x, torch.tensor([5, 9])), torch.stack([x[0, :, 5], x[1, :, 9]]))

    def replace_entries(_module: Any, args: tuple[Tensor, ...]) -> tuple[Tensor]:
        hidden = args[0].clone()
        hidden[0, 1:, 5], hidden[1, 1:, 9] = 4.0, -2.0
        return (hidden,)

    projection = dictionary.subject.anatomy.read_tap(Site("mlp_hidden", 1)).module
    hook = projection.register_forward_pre_hook(replace_entries)
    expected = subject.hidden(batch)
    hook.remove()
    edited = subject.hidden(batch, dictionary.set(torch.tensor([5, 9]), torch.tensor([4.0, -2.0])))
    torch.testing.assert_close(edited, expected, rtol=1e-4, atol=1e-4)


def test_neurons_need_thresholds_and_have_one_polarity(subject: Subject) -> None:
    dictionary = neurons(subject)
    assert dictionary.needs_thresholds
    supplied = dictionary.with_threshold(torch.full((D_MLP,), 0.5))
    assert not supplied.needs_thresholds
    assert float(supplied.threshold.min()) == 0.5
    assert float(dictionary.threshold.max()) == 0.0
    with pytest.raises(ShapeMismatch, match=r"threshold=\(3,\)"):
        dictionary.with_threshold(torch.ones(3))


def test_firing_threshold_is_the_upper_one_percent_quantile() -> None:
    rising = torch.arange(1.0, 1001.0)  # ten of a thousand are above 990
    sparse = torch.zeros(1000)
    sparse[:4] = 7.0  # positive on less than 1 %: fires on all of these
    negative = -rising
    sample = torch.stack([rising[torch.randperm(1000)], sparse, negative], dim=1)
    thresholds = firing_thresholds(sample)
    assert float(thresholds[0]) == 990.0
    assert (sample > thresholds).sum(0).tolist() == [10, 4, 0]
    assert bool((thresholds > 0).all())


def test_firing_thresholds_of_many_features_equal_one_by_one() -> None:
    sample = torch.randn(300, 600, generator=torch.Generator().manual_seed(0))
    expected = torch.stack([column.sort().values[296].clamp_min(torch.finfo().tiny) for column in sample.T])
    assert torch.equal(firing_thresholds(sample), expected)
    with pytest.raises(ShapeMismatch, match="at least 1"):
        firing_thresholds(sample[:0])


# ---------------------------------------------------------------------------------------------- directions


def test_directions_of_heads_and_scaled_inputs_are_effective(subject: Subject, tmp_path: Path) -> None:
    tensors = random_tensors(ENCODERS["relu"])
    heads = load(tmp_path, subject, make_spec(ENCODERS["relu"], "attn_heads.2"), tensors)
    projection: Any = subject.anatomy.blocks[2].get_submodule("self_attn.o_proj")
    expected = tensors["w_dec"][[1, 4]] @ projection.weight.T
    torch.testing.assert_close(heads.directions(torch.tensor([1, 4])), expected)
    scaled = load(tmp_path, subject, make_spec(ENCODERS["relu-scaled"]), tensors)
    torch.testing.assert_close(scaled.directions(torch.tensor([1])), tensors["w_dec"][[1]] / 0.3)
    rescaled = load(tmp_path, subject, make_spec(ENCODERS["topk-rescaled"]), tensors)
    torch.testing.assert_close(rescaled.directions(torch.arange(N_FEATURES)).norm(dim=1), torch.ones(N_FEATURES))
    torch.testing.assert_close(rescaled.decoder(), rescaled.directions(torch.arange(N_FEATURES)))


def test_features_out_of_range_are_refused(subject: Subject, tmp_path: Path) -> None:
    dictionary = load(tmp_path, subject, make_spec(ENCODERS["relu"]), random_tensors(ENCODERS["relu"]))
    with pytest.raises(BadSelection, match=r"features=3\.\.24; d has 0\.\.23"):
        dictionary.directions(torch.tensor([3, 24]))
    with pytest.raises(BadSelection, match="features=-1"):
        dictionary.encode(torch.zeros(2, D_MODEL), torch.tensor([-1]))
    with pytest.raises(ShapeMismatch, match="features=2; x has 3 rows"):
        dictionary.encode_rows(torch.zeros(3, 4, D_MODEL), torch.tensor([1, 2]))


def test_decoding_normed_tokens_needs_what_was_read(subject: Subject, tmp_path: Path) -> None:
    encoder = ENCODERS["relu-layer-normed"]
    dictionary = load(tmp_path, subject, make_spec(encoder), random_tensors(encoder))
    with pytest.raises(ShapeMismatch, match="x=None"):
        dictionary.decode(torch.zeros(N_FEATURES))


# ---------------------------------------------------------------------------------------------- loading


def test_half_precision_weights_are_computed_in_float32(subject: Subject, tmp_path: Path) -> None:
    tensors = {name: tensor.bfloat16() for name, tensor in random_tensors(ENCODERS["relu"]).items()}
    dictionary = load(tmp_path, subject, make_spec(ENCODERS["relu"]), tensors)
    assert dictionary.decoder().dtype == torch.float32
    assert torch.equal(dictionary.decoder(), tensors["w_dec"].float())


def test_weights_that_can_not_be_used_are_refused(subject: Subject, tmp_path: Path) -> None:
    spec, tensors = make_spec(ENCODERS["relu"]), random_tensors(ENCODERS["relu"])
    with pytest.raises(ShapeMismatch, match=r"w_dec=\[24, 96\]; must be \[24, 128\]"):
        load(tmp_path, subject, make_spec(ENCODERS["relu"], "resid_post.1", "mlp_hidden.1"), tensors)
    with pytest.raises(ShapeMismatch, match=r"\[24, 96\]; must be \[25, 96\]"):
        load(tmp_path, subject, spec.model_copy(update={"n_features": 25}), tensors)
    broken = tensors | {"b_enc": tensors["b_enc"].clone()}
    broken["b_enc"][17] = float("nan")
    with pytest.raises(NotFinite, match=r"b_enc\[17\]"):
        load(tmp_path, subject, spec, broken)
    with pytest.raises(BadWeights, match="weights=None"):
        load_dictionary(spec, subject, None)
    with pytest.raises(UnknownSite, match=r"layer=9; tiny-llama has 0\.\.3"):
        load_dictionary(make_spec(ENCODERS["relu"], "resid_post.9"), subject, None)
    with pytest.raises(ShapeMismatch, match=r"n_features=24; .* has 128 neurons"):
        load_dictionary(make_spec(Encoder(kind="neurons"), "mlp_hidden.1"), subject, None)


# ---------------------------------------------------------------------------------------------- planted


@pytest.fixture(scope="module", params=["llama", "gpt2", "gpt_neox"])
def planted(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Subject, PlantedDictionary]:
    """Return a subject and the dictionary that is planted in it."""
    folder = make_subject(tmp_path_factory.mktemp("planted") / request.param, request.param)
    return build_subject(request.param), planted_dictionary(folder / "dictionary", folder)


def test_planted_features_fire_exactly_on_their_triggers(planted: tuple[Subject, PlantedDictionary]) -> None:
    subject, (spec, weights, truth) = planted
    dictionary = load_dictionary(spec, subject, weights)
    batch = subject.batch([[subject.sink_id, *subject.tokenize(document)] for document in tiny_corpus(40)])
    fires = dictionary.encode(subject.read(batch, dictionary.read_site)) > dictionary.threshold
    for i, feature in enumerate(truth):
        triggers = torch.isin(batch.ids, torch.tensor(word_ids(subject.tokenizer, feature.triggers)))
        assert int(triggers.sum()) >= 10
        assert torch.equal(fires[..., i] & batch.counted, triggers & batch.counted)


def test_planted_directions_promote_exactly_their_words(planted: tuple[Subject, PlantedDictionary]) -> None:
    subject, (spec, weights, truth) = planted
    dictionary = load_dictionary(spec, subject, weights)
    directions = dictionary.directions(torch.arange(spec.n_features))
    projected = subject.norm_direction(directions) @ subject.unembedding.T
    texts = tiny_corpus(6)
    batch = subject.batch([[subject.sink_id, *subject.tokenize(text)][:24] for text in texts])
    clean = subject.unembed(subject.hidden(batch))
    for i, feature in enumerate(truth):
        expected = set(word_ids(subject.tokenizer, feature.promoted))
        assert set(projected[i].topk(3).indices.tolist()) == expected
        edit = dictionary.add(torch.full((len(texts),), i), torch.full((len(texts),), 6.0))
        change = (subject.unembed(subject.hidden(batch, edit)) - clean)[batch.counted].mean(0)
        assert set(change.topk(3).indices.tolist()) == expected


def test_a_pool_of_32_fits_and_no_word_is_planted_twice() -> None:
    planted_words = [word for feature in planted_features() for word in (*feature.triggers, *feature.promoted)]
    assert len(planted_features()) >= 40
    assert len(set(planted_words)) == len(planted_words)


def test_a_range_of_features_equals_the_same_columns(subject: Subject, batch: Batch, tmp_path: Path) -> None:
    for name, encoder in ENCODERS.items():
        dictionary = load(tmp_path, subject, make_spec(encoder), random_tensors(encoder))
        x = subject.read(batch, dictionary.read_site)
        found = dictionary.encode(x, torch.arange(3, 9))
        torch.testing.assert_close(found, dictionary.encode(x)[..., 3:9], rtol=1e-5, atol=1e-5, msg=name)
        assert dictionary.encode(x, torch.arange(0)).shape == (*x.shape[:2], 0)


def test_chunks_of_features_together_are_the_encoding(
    subject: Subject, batch: Batch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dictionaries, "FEATURES_AT_ONCE", 10)
    monkeypatch.setattr(dictionaries, "_PRE_ACTIVATIONS_AT_ONCE", 3 * N_FEATURES)  # of a topk encoder: three tokens
    for name, encoder in ENCODERS.items():
        dictionary = load(tmp_path, subject, make_spec(encoder), random_tensors(encoder))
        x = subject.read(batch, dictionary.read_site)
        chunks = [(low, activations.clone()) for low, activations in dictionary.encode_chunks(x)]  # one at a time
        assert [low for low, _ in chunks] == [0, 10, 20]
        joined = torch.cat([activations for _, activations in chunks], dim=-1)
        torch.testing.assert_close(joined, dictionary.encode(x), rtol=1e-5, atol=1e-4, msg=name)
