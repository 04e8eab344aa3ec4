"""Sequential token change against the exact one on growing prefixes, and the order of its contexts by hand."""

from statistics import fmean

import pytest
import torch
from torch import Tensor

from schema.errors import InvalidInput
from schema.evidence import TokenChange, TokenList
from schema.subjects import Site
from tests import tiny
from workers.batches import Batch
from workers.methods import sequential
from workers.methods.sequential import LEAST_SHARE, N_CALM, N_CONTEXTS, representative_first, sequential_token_change
from workers.methods.token_change import token_change
from workers.subject import Subject

SITE, K = Site("resid_post", 1), 5
N_DIRECTIONS, N_ROWS = 6, 24


@pytest.fixture(scope="module")
def subject() -> Subject:
    return tiny.build_subject(block_scale=0.2)


@pytest.fixture(scope="module")
def contexts(subject: Subject) -> Batch:
    rows = [subject.tokenize(text)[: 5 + i % 4] for i, text in enumerate(tiny.tiny_corpus(N_ROWS, seed=3))]
    return subject.batch([[subject.sink_id, *row] for row in rows])


@pytest.fixture(scope="module")
def directions(subject: Subject) -> Tensor:
    return torch.randn(N_DIRECTIONS, subject.d_model, generator=torch.Generator().manual_seed(7))


def run(subject: Subject, directions: Tensor, contexts: Batch) -> list[TokenChange]:
    ones = torch.ones(len(directions))
    return sequential_token_change(subject, directions, SITE, ones, -ones, contexts, K)


def prefix(contexts: Batch, n: int) -> Batch:
    return Batch(contexts.ids[:n], contexts.attention[:n], contexts.counted[:n])


def lists(change: TokenChange) -> list[TokenList]:
    return [
        change.amplified_raised,
        change.amplified_lowered,
        change.suppressed_raised,
        change.suppressed_lowered,
    ]


def reference(subject: Subject, direction: Tensor, contexts: Batch) -> TokenChange:
    """Return the exact change on the first prefix whose lists, and those of the one before, were there a part ago."""
    ones = torch.ones(1)
    known: list[TokenChange] = []
    n_calm = 0
    for n in range(N_CONTEXTS, contexts.n_rows + 1, N_CONTEXTS):
        known += token_change(subject, direction[None], SITE, ones, -ones, prefix(contexts, n), K)
        if len(known) > 1:
            pairs = zip(lists(known[-1]), lists(known[-2]), strict=True)
            share = fmean(len(set(a.ids) & set(b.ids)) / K for a, b in pairs)
            n_calm = n_calm + 1 if share >= LEAST_SHARE else 0
        if n_calm == N_CALM:
            break
    return known[-1]


def assert_alike(one: TokenChange, other: TokenChange) -> None:
    assert (one.n_contexts, one.n_positions) == (other.n_contexts, other.n_positions)
    for a, b in zip(lists(one), lists(other), strict=True):
        assert a.ids == b.ids
        assert a.values == pytest.approx(b.values, rel=1e-3, abs=1e-6)


def test_each_direction_stops_where_a_plain_loop_over_prefixes_stops(
    subject: Subject, directions: Tensor, contexts: Batch
) -> None:
    changes = run(subject, directions, contexts)
    for change, direction in zip(changes, directions, strict=True):
        assert change.method == "sequential"
        assert_alike(change, reference(subject, direction, contexts))
    assert len({change.n_contexts for change in changes}) > 1


def test_lists_that_are_never_stable_are_the_exact_ones(
    subject: Subject, directions: Tensor, contexts: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sequential, "N_CALM", N_ROWS)
    ones = torch.ones(len(directions))
    exact = token_change(subject, directions, SITE, ones, -ones, contexts, K)
    for one, other in zip(run(subject, directions, contexts), exact, strict=True):
        assert one.n_contexts == N_ROWS
        assert_alike(one, other)


def test_a_soft_cap_changes_logits_and_not_when_to_stop(contexts: Batch) -> None:
    subject = tiny.build_subject("gemma2", block_scale=0.2)
    direction = torch.randn(1, subject.d_model, generator=torch.Generator().manual_seed(7))
    assert subject.softcapped
    assert_alike(run(subject, direction, contexts)[0], reference(subject, direction[0], contexts))


def test_a_feature_does_not_depend_on_the_features_beside_it(
    subject: Subject, directions: Tensor, contexts: Batch
) -> None:
    whole = run(subject, directions, contexts)
    assert run(subject, directions[4:5], contexts) == [whole[4]]
    assert run(subject, directions[[5, 0]], contexts) == [whole[5], whole[0]]


def test_a_direction_of_zeros_is_stable_as_soon_as_that_can_be_seen(
    subject: Subject, directions: Tensor, contexts: Batch
) -> None:
    change = run(subject, torch.zeros_like(directions[:1]), contexts)[0]
    assert lists(change) == [TokenList(ids=(), tokens=(), values=())] * 4
    assert change.n_contexts == N_CONTEXTS * (1 + N_CALM)


def test_no_features_give_no_lists_and_bad_arguments_are_named(
    subject: Subject, directions: Tensor, contexts: Batch
) -> None:
    assert run(subject, directions[:0], contexts) == []
    with pytest.raises(InvalidInput, match=r"k=0; must be 1\.\."):
        sequential_token_change(subject, directions[:1], SITE, torch.ones(1), -torch.ones(1), contexts, 0)


def test_each_context_is_the_one_that_brings_the_mean_nearest_to_that_of_all() -> None:
    # Away from the mean 5 they are -5, 5, -1, 1: the sums go -1, 0, -5, 0; ties by place.
    assert sequential._herd(torch.tensor([[0.0], [10.0], [4.0], [6.0]])) == [2, 3, 0, 1]


def test_the_first_contexts_of_the_order_are_more_like_all_of_them(subject: Subject, contexts: Batch) -> None:
    ordered = representative_first(subject, contexts)
    assert sorted(ordered.ids.tolist()) == sorted(contexts.ids.tolist())
    assert sorted(ordered.counted.sum(1).tolist()) == sorted(contexts.counted.sum(1).tolist())

    def distance(batch: Batch) -> float:
        means = sequential._mean_hidden(subject, batch)
        return float((means[: N_ROWS // 2].mean(0) - means.mean(0)).norm())

    assert distance(ordered) < 0.8 * distance(contexts)
