"""Linear token change against central differences, arithmetic written out, and the exact form at small strength."""

import pytest
import torch
from torch import Tensor

from schema.errors import InvalidInput, ShapeMismatch
from schema.evidence import TokenChange, TokenList
from schema.subjects import Site
from tests import tiny
from workers.batches import Batch
from workers.methods.jacobian import Linear, agreement, first_positions, jacobian_rows, linear_token_change
from workers.methods.token_change import check_steering, token_change
from workers.subject import Edit, Subject

SITE, K = Site("resid_post", 1), 5
STEP = 0.03  # of the central differences: the residuals have norm 1 and more, and float32 has seven digits
SMALL = 0.01  # a strength at which the blocks are linear


@pytest.fixture(scope="module")
def subject() -> Subject:
    return tiny.build_subject(block_scale=0.2)


@pytest.fixture(scope="module")
def linear(subject: Subject) -> Linear:
    return build(subject, SITE, make_contexts(subject))


def make_contexts(subject: Subject, lengths: tuple[int, ...] = (12, 12, 7, 12)) -> Batch:
    texts = tiny.tiny_corpus(len(lengths), seed=3)
    rows = [subject.tokenize(text)[:n] for text, n in zip(texts, lengths, strict=True)]
    return subject.batch([[subject.sink_id, *row] for row in rows])


def random_directions(width: int, n: int = 4) -> Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(7))


def build(subject: Subject, site: Site, contexts: Batch) -> Linear:
    matrix = torch.cat(list(jacobian_rows(subject, site, contexts)))
    return Linear(matrix, contexts.n_rows, int(contexts.counted.sum()))


def run(subject: Subject, directions: Tensor, linear: Linear, strength: float = 1.0) -> list[TokenChange]:
    alpha = torch.full((len(directions),), strength)
    return list(linear_token_change(subject, directions, alpha, -2 * alpha, linear, K))


@pytest.mark.parametrize("arch", ["llama", "gpt2", "gpt_neox", "gemma2"])
@pytest.mark.parametrize(
    "site", ["resid_pre.2", "resid_post.3", "mlp_out.1", "mlp_hidden.2", "mlp_in.2", "attn_out.1", "attn_heads.0"]
)
def test_the_jacobian_is_what_central_differences_of_whole_forwards_give(site: str, arch: str) -> None:
    subject, place = tiny.build_subject(arch, block_scale=0.2), Site.parse(site)
    contexts = make_contexts(subject)
    directions = subject.effective_directions(place, random_directions(subject.width(place), 2))
    matrix = build(subject, place, contexts).jacobian
    assert matrix.shape == (subject.d_model, directions.shape[1])

    def mean_hidden(direction: Tensor, alpha: float) -> Tensor:
        edit = Edit.add(place, direction.repeat(contexts.n_rows, 1), torch.full((contexts.n_rows,), alpha))
        return subject.hidden(contexts, edit)[contexts.counted].double().mean(0)

    for direction in directions / directions.norm(dim=1, keepdim=True):
        slope = (mean_hidden(direction, STEP) - mean_hidden(direction, -STEP)) / (2 * STEP)
        assert torch.allclose((matrix @ direction).double(), slope, rtol=0, atol=0.01 * float(slope.norm()))


def test_where_blocks_do_nothing_the_jacobian_is_that_of_the_norm() -> None:
    subject = tiny.build_subject(block_scale=0.0)
    ids = [subject.sink_id, *tiny.word_ids(subject.tokenizer, ("river", "stream"))]
    contexts = subject.batch([ids])
    found = build(subject, Site("resid_post", 0), contexts)
    assert (found.n_contexts, found.n_positions) == (1, 2)
    expected = torch.zeros(subject.d_model, subject.d_model, dtype=torch.float64)
    for x in subject.residual_in(contexts, 0)[0, 1:].double():  # the embeddings of the two counted words
        scale = (x.square().mean() + 1e-6).sqrt()
        expected += (torch.eye(len(x)) / scale - torch.outer(x, x) / (len(x) * scale**3)) / 2
    gain = subject.anatomy.gain(subject.anatomy.final_norm).double()
    assert torch.allclose(found.jacobian.double(), gain[:, None] * expected, atol=1e-5)


def test_the_jacobian_does_not_depend_on_how_many_rows_a_pass_makes(
    subject: Subject, linear: Linear, monkeypatch: pytest.MonkeyPatch
) -> None:
    fewer = subject.at_once.sizes._replace(traced=5 * make_contexts(subject).ids.numel())
    monkeypatch.setattr(subject.at_once, "sizes", fewer)
    again = build(subject, SITE, make_contexts(subject))
    assert torch.allclose(again.jacobian, linear.jacobian, atol=1e-5)


def test_a_subject_that_cannot_resume_has_the_same_jacobian(linear: Linear) -> None:
    whole = tiny.build_subject(block_scale=0.2)
    whole.resumable = False
    assert torch.allclose(build(whole, SITE, make_contexts(whole)).jacobian, linear.jacobian, atol=1e-5)


def test_lists_are_those_of_a_dense_product_and_suppressed_ones_mirror_them(subject: Subject, linear: Linear) -> None:
    directions = random_directions(subject.d_model)
    logits = directions @ linear.jacobian.T @ subject.unembedding.T
    for change, row in zip(run(subject, directions, linear), logits, strict=True):
        up, down = row.topk(K), (-row).topk(K)
        assert change.amplified_raised.ids == tuple(up.indices.tolist())
        assert change.amplified_lowered.ids == tuple(down.indices.tolist())
        assert change.suppressed_raised.ids == change.amplified_lowered.ids
        assert change.suppressed_lowered.ids == change.amplified_raised.ids
        assert change.amplified_raised.values == pytest.approx(up.values.tolist(), rel=1e-4)
        assert change.suppressed_raised.values == pytest.approx((2 * down.values).tolist(), rel=1e-4)
        assert change.suppressed_lowered.values == pytest.approx((-2 * up.values).tolist(), rel=1e-4)
        assert change.amplified_raised.tokens == subject.token_strings(change.amplified_raised.ids)
        assert (change.method, change.n_contexts, change.n_positions) == ("linear", 4, 43)
        assert (change.strength_amplified, change.strength_suppressed) == (1.0, -2.0)


def test_at_small_strength_the_exact_form_finds_the_same(subject: Subject, linear: Linear) -> None:
    directions, alpha = random_directions(subject.d_model), torch.full((4,), SMALL)
    exact = token_change(subject, directions, SITE, alpha, -2 * alpha, make_contexts(subject), K)
    for one, other in zip(run(subject, directions, linear, SMALL), exact, strict=True):
        assert one.amplified_raised.ids == other.amplified_raised.ids
        assert one.suppressed_raised.ids == other.suppressed_raised.ids
        assert one.amplified_lowered.values == pytest.approx(other.amplified_lowered.values, rel=0.05)


def test_agreement_is_whole_at_small_strength_and_falls_with_it(subject: Subject, linear: Linear) -> None:
    directions = random_directions(subject.d_model)

    def measured(strength: float) -> tuple[float, float]:
        alpha = torch.full((len(directions),), strength)
        steering = check_steering(subject, directions, alpha, -alpha, K)
        found = agreement(subject, SITE, steering, make_contexts(subject), linear, K)
        assert found.n_features == len(directions)
        return found.overlap, found.cosine

    assert measured(SMALL) == pytest.approx((1.0, 1.0), abs=0.03)
    overlap, cosine = measured(5.0)
    assert overlap < 0.9
    assert cosine < 0.98


def test_what_changes_nothing_has_no_lists(subject: Subject, linear: Linear) -> None:
    directions, none = random_directions(subject.d_model, 1), TokenList(ids=(), tokens=(), values=())
    for change in (*run(subject, torch.zeros_like(directions), linear), *run(subject, directions, linear, 0.0)):
        assert (change.amplified_raised, change.suppressed_lowered) == (none, none)


def test_the_first_contexts_with_enough_positions_are_taken(subject: Subject) -> None:
    contexts = make_contexts(subject)  # 12, 12, 7 and 12 counted positions
    assert [first_positions(contexts, n).n_rows for n in (1, 12, 13, 24, 25, 43, 44, 999)] == [1, 1, 2, 2, 3, 4, 4, 4]


def test_bad_arguments_name_the_value_and_the_limit(subject: Subject, linear: Linear) -> None:
    directions, one = random_directions(subject.d_model, 1), torch.ones(1)
    with pytest.raises(ShapeMismatch, match=r"directions=7; the Jacobian is of shifts of 96"):
        linear_token_change(subject, directions[:, :7], one, -one, linear)
    with pytest.raises(InvalidInput, match=r"k=0; must be 1\.\."):
        linear_token_change(subject, directions, one, -one, linear, 0)
    with pytest.raises(ShapeMismatch, match="must be counted"):
        list(jacobian_rows(subject, SITE, subject.batch([[subject.sink_id]])))
