"""Architectures without a layout: sites are module paths, and everything runs on the whole forward."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from schema.errors import UnknownSite, UnknownSubject
from schema.evidence import SteeredTexts, TokenChange, VocabularyProjection
from schema.settings import Settings
from schema.subjects import Site
from tests.llm_server import LLMServer
from tests.tiny import D_MODEL, build_subject, make_subject, planted_dictionary, planted_directions, planted_features
from tests.workers.house import SMALL, open_house
from workers.batches import Batch
from workers.loading import load_subject
from workers.methods.calibration import calibrate
from workers.methods.interventions import run_clean, run_steered
from workers.subject import Edit, Subject

# A block and a module inside it, as they are called in each architecture.
PATHS = {
    "opt": ("model.decoder.layers.1", "model.decoder.layers.1.self_attn"),
    "bloom": ("transformer.h.1", "transformer.h.1.self_attention"),
    "phi": ("model.layers.1", "model.layers.1.mlp"),
    "mixtral": ("model.layers.1", "model.layers.1.mlp"),
    "olmo2": ("model.layers.1", "model.layers.1.post_feedforward_layernorm"),
    "cohere": ("model.layers.1", "model.layers.1.mlp"),
}
LAST_NORMS = {
    "opt": "model.decoder.final_layer_norm",
    "bloom": "transformer.ln_f",
    "phi": "model.final_layernorm",
    "mixtral": "model.norm",
    "olmo2": "model.norm",
    "cohere": "model.norm",
}


# Flat enough that its scale tells, and steep enough that steering does.
CONFIGS: dict[str, dict[str, Any]] = {"cohere": {"logit_scale": 0.5}}
FEW = SMALL.model_copy(update={"pool_size": 4})


class Case(NamedTuple):
    """A subject with strong blocks, and some rows of unequal length."""

    arch: str
    subject: Subject
    batch: Batch

    @property
    def model(self) -> Any:
        """Return the model itself."""
        return self.subject._model


def make_case(arch: str) -> Case:
    """Return an architecture's case."""
    subject = build_subject(arch, block_scale=0.2, **CONFIGS.get(arch, {}))
    texts = ("The river saw the old wolf under a bridge.", "A nurse", "it was the miner, at the small oven")
    return Case(arch, subject, subject.batch([[subject.sink_id, *subject.tokenize(text)] for text in texts]))


@pytest.fixture(scope="module", params=PATHS)
def case(request: pytest.FixtureRequest) -> Case:
    """Return one case an architecture."""
    return make_case(request.param)


@pytest.fixture(scope="module")
def opt() -> Case:
    """Return the case of one architecture, for what does not depend on it."""
    return make_case("opt")


def by_hand(case: Case, path: str, change: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Return what a module gave and the model's logits, where a hook of this test changes what it gave."""
    seen: list[Tensor] = []

    def hook(_module: nn.Module, _args: Any, out: Any) -> Any:
        value = out if isinstance(out, Tensor) else out[0]
        seen.append(value.clone())
        return change(value) if isinstance(out, Tensor) else (change(value), *out[1:])

    handle = case.model.get_submodule(path).register_forward_hook(hook)
    try:
        with torch.no_grad():
            logits = case.model(case.batch.ids).logits
        return seen[0], logits
    finally:
        handle.remove()


def close(a: Tensor, b: Tensor, tolerance: float = 2e-5) -> None:
    """Assert that two tensors are equal up to float32 rounding, relative to their size."""
    assert a.shape == b.shape
    assert float((a - b).abs().max()) <= tolerance * max(1.0, float(b.abs().max()))


@pytest.mark.parametrize("which", [0, 1])
def test_a_module_path_reads_what_a_hook_sees(case: Case, which: int) -> None:
    path = PATHS[case.arch][which]
    site = Site.parse(f"module:{path}")
    value, logits = by_hand(case, path, lambda x: x)
    assert case.subject.width(site) == value.shape[-1] == D_MODEL
    assert torch.equal(case.subject.read(case.batch, site), value)
    close(case.subject.unembed(case.subject.hidden(case.batch)), logits)


@pytest.mark.parametrize("which", [0, 1])
def test_an_edit_at_a_module_path_acts_there_and_only_there(case: Case, which: int) -> None:
    path = PATHS[case.arch][which]
    directions = torch.randn(3, D_MODEL, generator=torch.Generator().manual_seed(1))
    strengths = torch.tensor([2.0, -1.0, 0.5])
    shift = (strengths[:, None] * directions)[:, None].repeat(1, case.batch.ids.shape[1], 1)
    shift[:, 0] = 0.0
    _, expected = by_hand(case, path, lambda x: x + shift)
    edit = Edit.add(Site.parse(f"module:{path}"), directions, strengths)
    logits = case.subject.unembed(case.subject.hidden(case.batch, edit))
    clean = case.subject.unembed(case.subject.hidden(case.batch))
    close(logits, expected)
    assert torch.equal(logits[:, 0], clean[:, 0])
    assert float((logits[:, 1] - clean[:, 1]).abs().max()) > 1e-2
    close(clean, by_hand(case, path, lambda x: x)[1])


def test_a_set_edit_makes_the_component_what_it_says(case: Case) -> None:
    site = Site.parse(f"module:{PATHS[case.arch][0]}")
    w = torch.zeros(3, D_MODEL)
    w[:, 5] = 1.0
    edit = Edit.set(site, w, torch.tensor([3.0, 0.0, -4.0]), site, lambda x: x[..., 5])

    def put(x: Tensor) -> Tensor:
        x = x.clone()
        x[:, 1:, 5] = torch.tensor([3.0, 0.0, -4.0])[:, None]
        return x

    close(case.subject.unembed(case.subject.hidden(case.batch, edit)), by_hand(case, PATHS[case.arch][0], put)[1])


def test_everything_runs_on_the_whole_forward_and_says_so(case: Case) -> None:
    assert not case.subject.resumable
    assert case.subject.fingerprint["path"] == "whole"
    site = Site.parse(f"module:{PATHS[case.arch][1]}")
    vectors = torch.randn(2, D_MODEL, generator=torch.Generator().manual_seed(2))
    clean = run_clean(case.subject, site, case.batch)
    steered = torch.cat([part.hidden for part in run_steered(clean, vectors)])
    for vector, hidden in zip(vectors, steered, strict=True):
        edit = Edit.add(site, vector.expand(3, -1), torch.ones(3))
        close(hidden, case.subject.hidden(case.batch, edit))


def test_prefill_and_steps_equal_the_whole_forward_under_the_edit(case: Case) -> None:
    subject = case.subject
    ids = case.batch.ids[:, :9].clone()
    ids[~case.batch.attention[:, :9]] = 300
    edit = Edit.add(Site.parse(f"module:{PATHS[case.arch][0]}"), torch.ones(3, D_MODEL), torch.tensor([2.0, 0.0, -2.0]))
    whole = subject.unembed(subject.hidden(subject.batch(ids.tolist()), edit))
    decoded = subject.prefill(subject.batch(ids[:, :4].tolist()), edit)
    close(decoded.logits, whole[:, 3], 5e-5)
    for t in range(4, 9):
        decoded = subject.step(ids[:, t], decoded.cache, edit)
        close(decoded.logits, whole[:, t], 5e-5)


def test_calibration_reaches_its_targets(case: Case) -> None:
    directions = torch.randn(2, D_MODEL, generator=torch.Generator().manual_seed(3))
    found = calibrate(case.subject, Site.parse(f"module:{PATHS[case.arch][0]}"), directions, [0.1, -0.1])
    for calibration in found:
        assert [point.reached for point in calibration.targets] == [True, True]


def test_the_scale_of_logits_is_in_the_unembedding() -> None:
    """What is linear in the unembedding, such as token change, then needs to know of no scale."""
    subject = build_subject("cohere", logit_scale=1 / 16)
    head: Any = subject._model.get_output_embeddings()
    close(subject.unembedding, head.weight / 16)


def test_directions_go_through_the_norm_before_the_head(case: Case) -> None:
    norm: Any = case.model.get_submodule(LAST_NORMS[case.arch])
    x = torch.randn(4, D_MODEL, generator=torch.Generator().manual_seed(5))
    bias = norm.bias if hasattr(norm, "bias") else 0.0
    close(case.subject.norm_direction(x) + bias, norm(x), 1e-5)


def test_without_a_norm_before_the_head_directions_stay_as_they_are() -> None:
    subject = build_subject("opt", _remove_final_layer_norm=True)
    x = torch.randn(4, D_MODEL)
    assert torch.equal(subject.norm_direction(x), x)


def test_a_named_site_is_refused_with_paths_that_exist(case: Case) -> None:
    with pytest.raises(UnknownSite, match=rf"site=resid_post\.3; .*'{case.arch}'.* give a module's path") as caught:
        case.subject.width(Site("resid_post", 3))
    paths = str(caught.value).partition("such as ")[2].split(", ")
    assert len(paths) == 3
    for path in paths:
        assert case.model.get_submodule(path.removeprefix("module:")) is not case.model


def test_a_path_that_is_no_module_or_gives_no_rows_is_refused(opt: Case) -> None:
    with pytest.raises(UnknownSite, match="no such module"):
        opt.subject.width(Site.parse("module:model.decoder.layers.9"))
    with pytest.raises(UnknownSite, match="does not run this module"):
        opt.subject.width(Site.parse("module:lm_head"))
    with pytest.raises(UnknownSite, match=r"must be \(rows, tokens, width\), not \(2, 96\)"):
        opt.subject.width(Site.parse("module:model.decoder.layers.1.fc2"))


@pytest.mark.parametrize(
    ("arch", "config", "reason"),
    [
        ("bert", {"is_decoder": True}, "logits must be its head's product with its last hidden state"),
        ("mamba", {"state_size": 4}, "must return past_key_values"),
    ],
)
def test_a_model_that_cannot_be_steered_is_refused_with_the_reason(
    arch: str, config: dict[str, Any], reason: str
) -> None:
    with pytest.raises(UnknownSubject, match=reason):
        build_subject(arch, **config)


def test_a_folder_of_any_architecture_loads(tmp_path: Path) -> None:
    folder = make_subject(tmp_path / "tiny", "bloom")
    subject = load_subject(str(folder), None, Settings(dtype="float32", device="cpu"))
    batch = subject.batch([[subject.sink_id, *subject.tokenize("The river saw the wolf")]])
    assert torch.equal(subject.hidden(batch), build_subject("bloom").hidden(batch))


# ---------------------------------------------------------------------------------------------- whole runs


@pytest.fixture
def server() -> Iterator[LLMServer]:
    with LLMServer() as running:
        yield running


def test_a_run_on_a_module_path_recovers_what_is_planted(tmp_path: Path, database_url: str, server: LLMServer) -> None:
    plant = partial(planted_dictionary, site=f"module:{PATHS['opt'][0]}")
    with open_house(tmp_path, database_url, server.base_url, "opt", plant) as house:
        run_id = house.submit(features="0-1", methods=("lexical", "max_activating"), options=FEW)
        house.work()
        assert (house.run(run_id).state, house.run(run_id).note) == ("done", None)
        labels = house.labels(run_id)
        for feature, planted in enumerate(planted_features()[:2]):
            change = house.evidence(feature)["token_change"]
            assert isinstance(change.record, TokenChange)
            assert {token.strip() for token in change.record.amplified_raised.tokens[:3]} == set(planted.promoted)
            assert change.provenance.document["path"] == "whole"
            assert labels[feature].input is not None
            assert labels[feature].input.success


def test_a_run_of_plain_directions_on_a_module_path(tmp_path: Path, database_url: str, server: LLMServer) -> None:
    plant = partial(planted_directions, site=f"module:{PATHS['phi'][0]}")
    with open_house(tmp_path, database_url, server.base_url, "phi", plant) as house:
        run_id = house.submit(features="0-1", llm="none", methods=("lexical",), options=FEW)
        house.work()
        assert (house.run(run_id).state, house.run(run_id).note) == ("done", None)
        assert len(house.labels(run_id)) == 2
        for feature, planted in enumerate(planted_features()[:2]):
            found = {kind: stored.record for kind, stored in house.evidence(feature).items()}
            projection, texts = found["vocabulary"], found["steered_texts"]
            assert isinstance(projection, VocabularyProjection)
            assert {token.strip() for token in projection.promoted.tokens[:3]} == set(planted.promoted)
            assert isinstance(texts, SteeredTexts)


def test_weights_that_do_not_fit_the_module_fail_the_run_with_the_reason(
    tmp_path: Path, database_url: str, server: LLMServer
) -> None:
    plant = partial(planted_directions, site=f"module:{PATHS['opt'][0]}.fc1")
    with open_house(tmp_path, database_url, server.base_url, "opt", plant) as house:
        run_id = house.submit(features="0-1", llm="none", methods=("lexical",), options=FEW)
        house.work()
        run = house.run(run_id)
        assert run.state == "failed"
        assert run.note is not None
        assert run.note.startswith("ingest: ")
