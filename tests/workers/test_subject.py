"""The subject against transformers' own hidden states and hand-written arithmetic, on a tiny model an architecture."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import workers.subject
from schema.errors import ShapeMismatch, UnknownSite
from schema.subjects import ARCHITECTURES as ARCHITECTURES_WITH_NAMES
from schema.subjects import SITE_KINDS, Site
from tests.tiny import D_MODEL, N_LAYERS, build_subject
from workers.architecture import LAYOUTS
from workers.batches import Batch
from workers.subject import Edit, Subject

LAYER = 1
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {},
    "qwen2": {},
    "qwen3": {},
    "gpt2": {},
    "gpt_neox": {},
    "gpt_neox-sequential": {"use_parallel_residual": False},
    "gemma2": {"query_pre_attn_scalar": 24},
    "gemma3_text": {"query_pre_attn_scalar": 24},
}


class Case(NamedTuple):
    """A subject with strong blocks, some rows of unequal length, and Hugging Face's own forward of them."""

    arch: str
    subject: Subject
    batch: Batch
    residuals: Sequence[Tensor]
    hidden: Tensor
    logits: Tensor

    @property
    def block(self) -> Any:
        """Return the block at LAYER."""
        return self.subject.anatomy.blocks[LAYER]

    @property
    def parallel(self) -> bool:
        """Return whether the blocks are parallel."""
        return self.subject.facts.blocks.parallel

    def read(self, kind: str) -> Tensor:
        """Return a site at LAYER."""
        return self.subject.read(self.batch, Site(kind, LAYER))


def make_case(arch: str) -> Case:
    """Return an architecture's case."""
    torch.set_num_threads(1)
    subject = build_subject(arch.partition("-")[0], block_scale=0.2, **ARCHITECTURES[arch])
    texts = ("The river saw the old wolf under a bridge.", "A nurse", "it was the miner, at the small oven")
    batch = subject.batch([[subject.sink_id, *subject.tokenize(text)] for text in texts])
    with torch.no_grad():
        out = subject._model(batch.ids, output_hidden_states=True)
    return Case(arch, subject, batch, out.hidden_states, out.hidden_states[-1], out.logits)


@pytest.fixture(scope="module", params=ARCHITECTURES)
def case(request: pytest.FixtureRequest) -> Case:
    """Return one case an architecture."""
    return make_case(request.param)


@pytest.fixture(scope="module")
def llama() -> Case:
    """Return the case of one architecture, for what does not depend on it."""
    return make_case("llama")


def close(a: Tensor, b: Tensor, tolerance: float = 2e-5) -> None:
    """Assert that two tensors are equal up to float32 rounding, relative to their size."""
    assert a.shape == b.shape
    assert float((a - b).abs().max()) <= tolerance * max(1.0, float(b.abs().max()))


# ---------------------------------------------------------------------------------------------- forwards


def test_hidden_states_and_logits_are_the_models_own(case: Case) -> None:
    hidden = case.subject.hidden(case.batch)
    close(hidden, case.hidden)
    close(case.subject.unembed(hidden), case.logits)


def test_truncated_read_of_the_residual_is_the_models_own(case: Case) -> None:
    for layer in range(N_LAYERS):
        close(case.subject.read(case.batch, Site("resid_pre", layer)), case.residuals[layer])
        close(case.subject.residual_in(case.batch, layer), case.residuals[layer])
    for layer in range(N_LAYERS - 1):
        close(case.subject.read(case.batch, Site("resid_post", layer)), case.residuals[layer + 1])
    last = case.subject.read(case.batch, Site("resid_post", N_LAYERS - 1))
    close(case.subject.anatomy.final_norm(last), case.hidden)


def test_truncated_forward_runs_no_block_above_its_site(case: Case) -> None:
    ran: list[int] = []
    hooks = [
        block.register_forward_hook(lambda *_, i=i: ran.append(i))
        for i, block in enumerate(case.subject.anatomy.blocks)
    ]
    try:
        case.read("resid_post")
        assert ran == [0, 1]
        ran.clear()
        case.subject.read_many(case.batch, [Site("resid_pre", 1), Site("mlp_out", 0)])
        assert ran == [0]
    finally:
        for hook in hooks:
            hook.remove()


def test_resumed_forward_equals_the_whole_one_from_every_layer(case: Case) -> None:
    assert case.subject.resumable
    for layer in range(N_LAYERS + 1):
        residual = case.subject.residual_in(case.batch, layer)
        close(case.subject.resume(case.batch, residual, layer), case.hidden, 1e-6)


def test_no_hook_and_no_patch_outlives_a_call() -> None:
    subject = build_subject()
    batch = subject.batch([[0, 260, 270]])
    edit = Edit.add(Site("resid_post", 2), torch.ones(1, D_MODEL), torch.ones(1))
    subject.resume(batch, subject.residual_in(batch, 2), 2, edit)
    for module in subject._model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
        assert "forward" not in vars(module)


def test_a_failed_forward_leaves_no_hook(llama: Case) -> None:
    wrong = Edit.add(Site("resid_post", LAYER), torch.ones(3, 7), torch.ones(3))
    with pytest.raises(ShapeMismatch, match="direction=7"):
        llama.subject.hidden(llama.batch, wrong)
    close(llama.subject.hidden(llama.batch), llama.hidden, 1e-6)


# ---------------------------------------------------------------------------------------------- sites


def _norms(case: Case) -> tuple[nn.Module, nn.Module | None, nn.Module | None]:
    """Return the norm before the MLP, and the ones after attention and MLP where there are any."""
    block = case.block
    if case.arch.startswith("gemma"):
        return block.pre_feedforward_layernorm, block.post_attention_layernorm, block.post_feedforward_layernorm
    return (block.ln_2 if case.arch == "gpt2" else block.post_attention_layernorm), None, None


def _mlp_hidden(case: Case, mlp_in: Tensor) -> Tensor:
    mlp = case.block.mlp
    if case.arch == "gpt2":
        return mlp.act(mlp.c_fc(mlp_in))
    if case.arch.startswith("gpt_neox"):
        return mlp.act(mlp.dense_h_to_4h(mlp_in))
    return mlp.act_fn(mlp.gate_proj(mlp_in)) * mlp.up_proj(mlp_in)


def _project(case: Case, mlp_hidden: Tensor) -> Tensor:
    mlp = case.block.mlp
    if case.arch == "gpt2":
        return mlp_hidden @ mlp.c_proj.weight + mlp.c_proj.bias
    down = mlp.dense_4h_to_h if case.arch.startswith("gpt_neox") else mlp.down_proj
    return F.linear(mlp_hidden, down.weight, down.bias)


def _heads_out(case: Case, heads: Tensor) -> Tensor:
    if case.arch == "gpt2":
        return heads @ case.block.attn.c_proj.weight + case.block.attn.c_proj.bias
    dense = case.block.attention.dense if case.arch.startswith("gpt_neox") else case.block.self_attn.o_proj
    return F.linear(heads, dense.weight, dense.bias)


def _maybe(norm: nn.Module | None) -> Callable[[Tensor], Tensor]:
    return norm if norm is not None else lambda x: x


def test_every_site_has_its_place_in_the_blocks_arithmetic(case: Case) -> None:
    """Each site follows from the ones before it by the block's own modules, from one residual to the next."""
    mlp_norm, after_attention, after_mlp = _norms(case)
    pre, post = case.residuals[LAYER], case.residuals[LAYER + 1]
    mlp_in, mlp_hidden = case.read("mlp_in"), case.read("mlp_hidden")
    middle = pre if case.parallel else case.read("resid_mid")
    close(mlp_in, mlp_norm(middle))
    close(mlp_hidden, _mlp_hidden(case, mlp_in))
    close(case.read("mlp_out"), _maybe(after_mlp)(_project(case, mlp_hidden)))
    close(case.read("attn_out"), _maybe(after_attention)(_heads_out(case, case.read("attn_heads"))))
    close(pre + case.read("attn_out") + case.read("mlp_out"), post)
    if not case.parallel:
        close(pre + case.read("attn_out"), middle)


def test_mlp_normed_is_the_norm_without_gain_and_bias(case: Case) -> None:
    mlp_norm = _norms(case)[0]
    x = case.read("mlp_normed")
    close(x.pow(2).mean(-1), torch.ones(x.shape[:2]), 1e-3)
    gain = mlp_norm.weight + (1.0 if case.arch.startswith("gemma") else 0.0)
    bias = mlp_norm.bias if isinstance(mlp_norm, nn.LayerNorm) else 0.0
    close(x * gain + bias, case.read("mlp_in"), 1e-5)


def test_module_path_reads_the_modules_output_even_from_a_tuple(llama: Case) -> None:
    close(llama.subject.read(llama.batch, Site.parse("module:model.layers.1.mlp")), llama.read("mlp_out"))
    attention = Site.parse("module:model.layers.1.self_attn")  # returns (output, weights)
    close(llama.subject.read(llama.batch, attention), llama.read("attn_out"))
    assert llama.subject.width(Site.parse("module:model.layers.1.mlp.gate_proj")) == 128


def test_sites_read_together_equal_sites_read_alone(case: Case) -> None:
    sites = [
        Site(kind, layer) for kind in SITE_KINDS for layer in (0, 2) if not (case.parallel and kind == "resid_mid")
    ]
    for site, value in case.subject.read_many(case.batch, sites).items():
        assert torch.equal(value, case.subject.read(case.batch, site))


def test_parallel_blocks_have_no_resid_mid() -> None:
    subject = build_subject("gpt_neox")
    with pytest.raises(UnknownSite, match="no resid_mid"):
        subject.read(subject.batch([[0, 5]]), Site("resid_mid", 0))


def test_unknown_sites_name_the_limit(llama: Case) -> None:
    with pytest.raises(UnknownSite, match=r"layer=4; tiny-llama has 0\.\.3"):
        llama.subject.width(Site("resid_post", 4))
    with pytest.raises(UnknownSite, match="no such module"):
        llama.subject.width(Site.parse("module:model.layers.9"))
    with pytest.raises(UnknownSite, match="does not run this module"):
        llama.subject.read(llama.batch, Site.parse("module:lm_head"))


def test_every_architecture_whose_sites_have_names_has_a_layout() -> None:
    assert LAYOUTS.keys() == ARCHITECTURES_WITH_NAMES


# ---------------------------------------------------------------------------------------------- edits

WRITABLE = (
    "resid_pre",
    "resid_mid",
    "resid_post",
    "mlp_in",
    "mlp_normed",
    "mlp_out",
    "attn_out",
    "attn_heads",
    "mlp_hidden",
)


def reference_residual(case: Case, kind: str, shift: Tensor) -> tuple[int, Tensor]:
    """Return (layer, its input) after adding shift (B, T, width) at a site at LAYER, by the block's modules."""
    pre, post = case.residuals[LAYER], case.residuals[LAYER + 1]
    mlp_norm, after_attention, after_mlp = _norms(case)

    def mlp(mlp_in: Tensor) -> Tensor:
        return _maybe(after_mlp)(_project(case, _mlp_hidden(case, mlp_in)))

    def gained(norm: nn.Module | None, x: Tensor) -> Tensor:
        return x if norm is None else x * (1.0 + norm.weight)  # post-norms: Gemma's only

    def from_middle(added: Tensor) -> Tensor:
        if case.parallel:
            return post + added
        middle = pre + case.read("attn_out") + added
        return middle + mlp(mlp_norm(middle))

    no_bias = torch.zeros(shift.shape[-1])
    match kind:
        case "resid_pre":
            return LAYER, pre + shift
        case "resid_mid" | "attn_out":
            return LAYER + 1, from_middle(shift)
        case "attn_heads":
            return LAYER + 1, from_middle(gained(after_attention, _heads_out(case, shift) - _heads_out(case, no_bias)))
        case "mlp_in" | "mlp_normed":
            gain = mlp_norm.weight + (1.0 if case.arch.startswith("gemma") else 0.0)
            moved = case.read("mlp_in") + (shift * gain if kind == "mlp_normed" else shift)
            return LAYER + 1, post - case.read("mlp_out") + mlp(moved)
        case "mlp_hidden":
            return LAYER + 1, post + gained(after_mlp, _project(case, shift) - _project(case, no_bias))
        case _:
            return LAYER + 1, post + shift


WRITABLE_OF = [(arch, kind) for arch in ARCHITECTURES for kind in WRITABLE if (arch, kind) != ("gpt_neox", "resid_mid")]


@pytest.mark.parametrize(("case", "kind"), WRITABLE_OF, indirect=["case"])
def test_an_edit_adds_its_direction_where_it_says_and_only_there(case: Case, kind: str) -> None:
    subject, site = case.subject, Site(kind, LAYER)
    directions = torch.randn(3, subject.width(site), generator=torch.Generator().manual_seed(1))
    strengths = torch.tensor([2.0, -1.0, 0.5])
    mask = torch.zeros(case.batch.ids.shape, dtype=torch.bool)
    mask[:, 2:5] = True
    effective = subject.effective_directions(site, directions)
    assert effective.shape == (3, D_MODEL)
    shift = (strengths[:, None] * directions)[:, None] * mask[..., None]
    layer, residual = reference_residual(case, kind, shift)
    edited = subject.hidden(case.batch, Edit.add(site, effective, strengths, mask))
    close(edited, subject.resume(case.batch, residual, layer), 5e-5)
    assert torch.equal(edited[:, :2], subject.hidden(case.batch)[:, :2])
    assert float((edited[:, 2] - case.hidden[:, 2]).abs().max()) > 1e-3


def test_an_edit_spares_position_0_unless_told_otherwise(case: Case) -> None:
    directions, strengths = torch.eye(3, D_MODEL), torch.full((3,), 2.0)  # a norm takes no such shift away
    site = Site("resid_post", LAYER)
    edited = case.subject.hidden(case.batch, Edit.add(site, directions, strengths))
    assert torch.equal(edited[:, 0], case.subject.hidden(case.batch)[:, 0])
    every = torch.ones(case.batch.ids.shape, dtype=torch.bool)
    assert not torch.allclose(
        case.subject.hidden(case.batch, Edit.add(site, directions, strengths, every))[:, 0], edited[:, 0]
    )


@pytest.mark.parametrize(("case", "kind"), WRITABLE_OF, indirect=["case"])
def test_an_edited_resume_equals_the_edited_whole_forward(case: Case, kind: str) -> None:
    site = Site(kind, N_LAYERS - 1 if kind == "resid_post" else LAYER)
    edit = Edit.add(site, torch.ones(3, D_MODEL), torch.tensor([1.0, -2.0, 3.0]))
    layer = case.subject.entry_layer(site)
    resumed = case.subject.resume(case.batch, case.subject.residual_in(case.batch, layer), layer, edit)
    close(resumed, case.subject.hidden(case.batch, edit), 1e-6)


def test_a_set_edit_sees_the_clean_value_of_its_own_site(case: Case) -> None:
    """y' = y + (α - a(y)) w with a = y·w and unit w makes y'·w = α, whatever y was."""
    for kind in ("resid_mid", "resid_post", "mlp_out", "attn_out", "mlp_in"):
        if case.parallel and kind == "resid_mid":
            continue
        site = Site(kind, LAYER)
        w = F.normalize(torch.randn(3, D_MODEL, generator=torch.Generator().manual_seed(2)), dim=1)
        values = torch.tensor([3.0, 0.0, -4.0])
        edit = Edit.set(site, w, values, site, lambda x, w=w: torch.einsum("btd,bd->bt", x, w))
        y = case.read(kind)
        alone = (values[:, None] - torch.einsum("btd,bd->bt", y, w))[..., None] * w[:, None]
        alone[:, 0] = 0.0
        layer, residual = reference_residual(case, kind, alone)
        close(case.subject.hidden(case.batch, edit), case.subject.resume(case.batch, residual, layer), 5e-5)


def test_a_set_edit_reads_another_site_than_it_writes(llama: Case) -> None:
    w, values = torch.ones(3, D_MODEL), torch.zeros(3)
    edit = Edit.set(Site("mlp_out", LAYER), w, values, Site("mlp_in", LAYER), lambda x: x[..., 5])
    shift = -llama.read("mlp_in")[..., 5, None] * w[:, None]
    shift[:, 0] = 0.0
    layer, residual = reference_residual(llama, "mlp_out", shift)
    close(llama.subject.hidden(llama.batch, edit), llama.subject.resume(llama.batch, residual, layer), 5e-5)


def test_a_site_read_after_it_is_written_is_refused(llama: Case) -> None:
    edit = Edit.set(
        Site("mlp_in", 1), torch.ones(3, D_MODEL), torch.ones(3), Site("resid_post", 2), lambda x: x[..., 0]
    )
    with pytest.raises(UnknownSite, match=r"resid_post\.2; is not read before mlp_in\.1"):
        llama.subject.hidden(llama.batch, edit)


def test_resuming_above_an_edit_is_refused(llama: Case) -> None:
    edit = Edit.add(Site("resid_post", 1), torch.ones(3, D_MODEL), torch.ones(3))
    residual = llama.subject.residual_in(llama.batch, 3)
    with pytest.raises(UnknownSite, match=r"layer=3; .* must resume at 0\.\.2"):
        llama.subject.resume(llama.batch, residual, 3, edit)


def test_rows_that_do_not_fit_the_batch_are_refused(llama: Case) -> None:
    with pytest.raises(ShapeMismatch, match="3 rows"):
        llama.subject.hidden(llama.batch, Edit.add(Site("resid_post", 1), torch.ones(2, D_MODEL), torch.ones(2)))
    with pytest.raises(ShapeMismatch, match="residual="):
        llama.subject.resume(llama.batch, torch.zeros(2, 3, D_MODEL), 1)


def test_a_row_of_a_mixed_batch_equals_the_same_row_alone(case: Case) -> None:
    site = Site("resid_post", LAYER)
    directions = torch.randn(3, D_MODEL, generator=torch.Generator().manual_seed(3))
    strengths = torch.tensor([1.0, -3.0, 0.2])
    mixed = case.subject.hidden(case.batch, Edit.add(site, directions, strengths))
    for i in range(3):
        n = int(case.batch.attention[i].sum())
        alone = case.subject.batch([case.batch.ids[i, :n].tolist()])
        edit = Edit.add(site, directions[i : i + 1], strengths[i : i + 1])
        close(mixed[i, :n], case.subject.hidden(alone, edit)[0])


def test_without_a_resumable_path_the_whole_forward_gives_the_same() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workers.subject, "RESUME_TOLERANCE", -1.0)
        subject = build_subject()
    assert not subject.resumable
    assert subject.fingerprint["path"] == "whole"
    batch = subject.batch([[0, 260, 270, 280]])
    edit = Edit.add(Site("resid_post", 1), torch.ones(1, D_MODEL), torch.ones(1))
    close(subject.resume(batch, subject.residual_in(batch, 2), 2, edit), subject.hidden(batch, edit))


# ---------------------------------------------------------------------------------------------- generation


def test_prefill_and_steps_equal_the_whole_forward_under_the_edit(case: Case) -> None:
    subject = case.subject
    ids = case.batch.ids[:, :9].clone()
    ids[~case.batch.attention[:, :9]] = 300
    directions = torch.randn(3, D_MODEL, generator=torch.Generator().manual_seed(4))
    edit = Edit.add(Site("resid_post", LAYER), directions, torch.tensor([2.0, 0.0, -2.0]))
    whole = subject.unembed(subject.hidden(subject.batch(ids.tolist()), edit))
    decoded = subject.prefill(subject.batch(ids[:, :4].tolist()), edit)
    close(decoded.logits, whole[:, 3], 5e-5)
    for t in range(4, 9):
        decoded = subject.step(ids[:, t], decoded.cache, edit)
        assert decoded.cache.length == t + 1
        close(decoded.logits, whole[:, t], 5e-5)


def test_steps_under_a_set_edit_equal_the_whole_forward(llama: Case) -> None:
    subject = llama.subject
    ids = llama.batch.ids[:1].repeat(3, 1)[:, :8]
    site = Site("resid_post", LAYER)
    edit = Edit.set(site, torch.ones(3, D_MODEL), torch.tensor([1.0, 0.0, -1.0]), site, lambda x: x[..., 3])
    whole = subject.unembed(subject.hidden(subject.batch(ids.tolist()), edit))
    decoded = subject.prefill(subject.batch(ids[:, :5].tolist()), edit)
    for t in range(5, 8):
        decoded = subject.step(ids[:, t], decoded.cache, edit)
        close(decoded.logits, whole[:, t], 5e-5)


def test_rows_of_unequal_length_do_not_generate_together(llama: Case) -> None:
    with pytest.raises(ShapeMismatch, match="must have one length"):
        llama.subject.prefill(llama.batch)


# ---------------------------------------------------------------------------------------------- tokens


def test_position_0_padding_and_special_tokens_are_not_counted(llama: Case) -> None:
    subject = llama.subject
    river, wolf = subject.tokenize(" river wolf")
    batch = subject.batch([[river, wolf, 1, wolf], [0, river]])
    assert batch.ids.tolist() == [[river, wolf, 1, wolf], [0, river, 0, 0]]
    assert batch.attention.tolist() == [[True] * 4, [True, True, False, False]]
    assert batch.counted.tolist() == [[False, True, False, True], [False, True, False, False]]
    assert subject.special_ids == {0, 1}
    assert subject.sink_id == 0


def test_rows_that_are_empty_or_too_long_are_refused(llama: Case) -> None:
    with pytest.raises(ShapeMismatch, match=r"tokens=513; .* must have 1\.\.512"):
        llama.subject.batch([[5] * 513])
    with pytest.raises(ShapeMismatch, match="tokens=0"):
        llama.subject.batch([])


def test_gain_of_the_final_norm_is_what_it_multiplies_by(case: Case) -> None:
    x = torch.randn(4, D_MODEL, generator=torch.Generator().manual_seed(5))
    norm = case.subject.anatomy.final_norm
    bias = norm.bias if isinstance(norm, nn.LayerNorm) else 0.0
    close(case.subject.norm_direction(x) + bias, norm(x), 1e-5)


def test_the_soft_cap_bounds_the_logits() -> None:
    subject = build_subject("gemma2", query_pre_attn_scalar=24, final_logit_softcapping=2.0)
    assert subject.softcapped
    batch = subject.batch([[0, 260, 270]])
    with torch.no_grad():
        expected = subject._model(batch.ids).logits
    logits = subject.unembed(subject.hidden(batch))
    close(logits, expected)
    assert 0.5 < float(logits.abs().max()) <= 2.0
