"""Token change against arithmetic written out, a plain loop over whole forwards, and what was planted."""

from typing import NamedTuple

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from schema.errors import InvalidInput, NotFinite, ShapeMismatch, UnknownSite
from schema.evidence import TokenChange, TokenList
from schema.subjects import Site
from tests import tiny
from workers.batches import Batch
from workers.memory import Sizes
from workers.methods.token_change import token_change
from workers.subject import Edit, Subject

K = 5


class Planted(NamedTuple):
    """The planted dictionary's directions, what they promote, and where."""

    subject: Subject
    site: Site
    directions: Tensor
    promoted: list[set[str]]


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    folder = tmp_path_factory.mktemp("planted")
    dictionary = tiny.planted_dictionary(folder / "dictionary", tiny.make_subject(folder / "subject"))
    subject, site = tiny.build_subject(), Site.parse(dictionary.spec.read_site)
    directions = subject.effective_directions(site, load_file(dictionary.weights)["w_dec"])
    return Planted(subject, site, directions, [{f" {word}" for word in p.promoted} for p in dictionary.planted])


def _contexts(subject: Subject, lengths: tuple[int, ...] = (12, 12, 7, 12)) -> Batch:
    documents = tiny.tiny_corpus(len(lengths), seed=3)
    return subject.batch(
        [[subject.sink_id, *subject.tokenize(text)[:n]] for text, n in zip(documents, lengths, strict=True)]
    )


def _random_directions(width: int, n: int = 3) -> Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(7))


def _reference(subject: Subject, direction: Tensor, site: Site, alpha: float, contexts: Batch) -> Tensor:
    """Return the mean change (n_vocab,) by one whole clean and one whole steered forward, full logits."""
    edit = Edit.add(site, direction.repeat(contexts.n_rows, 1), torch.full((contexts.n_rows,), alpha))
    clean, steered = subject.unembed(subject.hidden(contexts)), subject.unembed(subject.hidden(contexts, edit))
    return (steered - clean)[contexts.counted].double().mean(0)


def _assert_ranks(listed: TokenList, change: Tensor, sign: int, subject: Subject) -> None:
    order = sorted(range(len(change)), key=lambda token: (-sign * float(change[token]), token))[: len(listed.ids)]
    assert listed.ids == tuple(order)
    assert listed.tokens == subject.token_strings(order)
    assert listed.values == pytest.approx(change[order].tolist(), rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("arch", ["llama", "gpt2", "gpt_neox", "gemma2"])
def test_lists_equal_a_plain_loop_over_whole_forwards(arch: str) -> None:
    subject, site = tiny.build_subject(arch, block_scale=0.2), Site("resid_post", 1)
    assert subject.softcapped == (arch == "gemma2")
    directions, contexts = _random_directions(subject.d_model), _contexts(subject)
    plus, minus = torch.tensor([0.7, 1.0, 2.0]), torch.tensor([-0.5, -1.5, -2.0])
    changes = token_change(subject, directions, site, plus, minus, contexts, K)
    assert len(changes) == 3
    for i, change in enumerate(changes):
        amplified = _reference(subject, directions[i], site, float(plus[i]), contexts)
        suppressed = _reference(subject, directions[i], site, float(minus[i]), contexts)
        _assert_ranks(change.amplified_raised, amplified, 1, subject)
        _assert_ranks(change.amplified_lowered, amplified, -1, subject)
        _assert_ranks(change.suppressed_raised, suppressed, 1, subject)
        _assert_ranks(change.suppressed_lowered, suppressed, -1, subject)
        assert len(change.amplified_raised.ids) == K
        assert (change.n_contexts, change.n_positions) == (4, 43)
        assert change.strength_amplified == pytest.approx(float(plus[i]))
        assert change.strength_suppressed == float(minus[i])


@pytest.mark.parametrize("arch", ["llama", "gemma2", "gpt_neox"])
@pytest.mark.parametrize(
    "site", ["resid_pre.2", "resid_post.3", "mlp_out.1", "mlp_hidden.2", "mlp_in.2", "attn_out.1", "attn_heads.0"]
)
def test_every_write_site_equals_whole_forwards_edited_there(site: str, arch: str) -> None:
    subject, place = tiny.build_subject(arch, block_scale=0.2), Site.parse(site)
    directions = subject.effective_directions(place, _random_directions(subject.width(place), 1))
    contexts = _contexts(subject)
    change = token_change(subject, directions, place, torch.tensor([1.0]), torch.tensor([-1.0]), contexts, K)[0]
    _assert_ranks(change.amplified_raised, _reference(subject, directions[0], place, 1.0, contexts), 1, subject)
    _assert_ranks(change.suppressed_lowered, _reference(subject, directions[0], place, -1.0, contexts), -1, subject)


def test_values_are_what_arithmetic_gives_where_blocks_do_nothing() -> None:
    subject = tiny.build_subject(block_scale=0.0)
    ids = [subject.sink_id, *tiny.word_ids(subject.tokenizer, ("river", "stream"))]
    contexts, direction = subject.batch([ids]), _random_directions(subject.d_model, 1)
    change = token_change(subject, direction, Site("resid_post", 0), torch.ones(1), -torch.ones(1), contexts, K)[0]
    residual = subject.residual_in(contexts, 0)[0, 1:].double()  # the embeddings of the two counted words
    gain, head = subject.anatomy.gain(subject.anatomy.final_norm).double(), subject.unembedding.double()

    def logits(x: Tensor) -> Tensor:
        return (x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * gain) @ head.T

    expected = (logits(residual + direction[0].double()) - logits(residual)).mean(0)
    _assert_ranks(change.amplified_raised, expected, 1, subject)
    _assert_ranks(change.amplified_lowered, expected, -1, subject)


def test_amplifying_raises_and_suppressing_lowers_exactly_what_was_planted(planted: Planted) -> None:
    subject, site, directions, promoted = planted
    strengths = torch.full((len(directions),), 4.0)
    changes = token_change(subject, directions, site, strengths, -strengths, _contexts(subject), 3)
    assert [set(change.amplified_raised.tokens) for change in changes] == promoted
    assert [set(change.suppressed_lowered.tokens) for change in changes] == promoted
    assert all(min(change.amplified_raised.values) > 0 > max(change.suppressed_lowered.values) for change in changes)


def test_a_feature_does_not_depend_on_the_features_beside_it(planted: Planted) -> None:
    subject, site, directions, _ = planted
    contexts = _contexts(subject)

    def run(features: list[int]) -> dict[int, TokenChange]:
        ones = torch.ones(len(features))
        return dict(
            zip(features, token_change(subject, directions[features], site, ones, -ones, contexts), strict=True)
        )

    whole = run(list(range(20)))
    assert run([7]) | run([19, 3]) == {i: whole[i] for i in (7, 19, 3)}


def test_contexts_that_need_several_forwards_give_the_same_mean(
    planted: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject, site, directions, _ = planted
    contexts, one = _contexts(subject), torch.ones(2)
    whole = token_change(subject, directions[:2], site, one, -one, contexts, K)
    monkeypatch.setattr(subject.at_once, "sizes", Sizes(tokens=13, rows=1, traced=13))  # one context at a time
    parts = token_change(subject, directions[:2], site, one, -one, contexts, K)
    for a, b in zip(whole, parts, strict=True):
        assert a.amplified_raised.ids == b.amplified_raised.ids
        assert a.amplified_raised.values == pytest.approx(b.amplified_raised.values, rel=1e-4)
        assert (a.n_contexts, a.n_positions) == (b.n_contexts, b.n_positions)


def test_a_direction_of_zeros_changes_no_token(planted: Planted) -> None:
    subject, site, directions, _ = planted
    none = TokenList(ids=(), tokens=(), values=())
    change = token_change(
        subject, torch.zeros_like(directions[:1]), site, torch.ones(1), -torch.ones(1), _contexts(subject)
    )[0]
    assert (change.amplified_raised, change.suppressed_lowered) == (none, none)


def test_no_features_give_no_lists(planted: Planted) -> None:
    subject, site, directions, _ = planted
    assert token_change(subject, directions[:0], site, torch.ones(0), torch.ones(0), _contexts(subject)) == []


def test_bad_arguments_name_the_value_and_the_limit(planted: Planted) -> None:
    subject, site, directions, _ = planted
    contexts, one = _contexts(subject), torch.ones(1)
    with pytest.raises(InvalidInput, match=rf"k=0; must be 1\.\.{subject.n_vocab}"):
        token_change(subject, directions[:1], site, one, -one, contexts, 0)
    with pytest.raises(ShapeMismatch, match=r"strengths=\(1,\); must be \(2,\)"):
        token_change(subject, directions[:2], site, one, -one, contexts)
    with pytest.raises(ShapeMismatch, match="direction=7"):
        token_change(subject, directions[:1, :7], site, one, -one, contexts)
    with pytest.raises(NotFinite, match=r"rows \[1\]"):
        token_change(subject, directions[:2] / torch.tensor([[1.0], [0.0]]), site, torch.ones(2), one, contexts)
    with pytest.raises(UnknownSite, match=r"0\.\.3"):
        token_change(subject, directions[:1], Site("resid_post", 4), one, -one, contexts)
    with pytest.raises(ShapeMismatch, match="must be counted"):
        token_change(subject, directions[:1], site, one, -one, subject.batch([[subject.sink_id]]))


def test_a_subject_that_cannot_resume_gives_the_same_lists(planted: Planted) -> None:
    _, site, directions, _ = planted
    resumed, whole = tiny.build_subject(), tiny.build_subject()
    whole.resumable = False
    one, contexts = torch.ones(2), _contexts(resumed)
    lists = [token_change(s, directions[:2], site, one, -one, contexts, K) for s in (resumed, whole)]
    for a, b in zip(*lists, strict=True):
        assert a.amplified_raised.ids == b.amplified_raised.ids
        assert a.suppressed_lowered.values == pytest.approx(b.suppressed_lowered.values, rel=1e-4)
