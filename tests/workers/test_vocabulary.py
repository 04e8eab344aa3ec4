"""Vocabulary projection and neighbours against a dense product, ties and degenerate directions included."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor, nn

from schema.errors import InvalidInput, NotFinite, ShapeMismatch
from schema.evidence import VocabularyProjection
from tests import tiny
from workers.methods import screening
from workers.methods.ranking import largest, smallest
from workers.methods.vocabulary import (
    NO_NEIGHBOUR,
    Neighbours,
    Readout,
    mean_direction,
    nearest_neighbours,
    normed_directions,
    project_vocabulary,
)


def strings(ids: Sequence[int]) -> tuple[str, ...]:
    return tuple(f"<{i}>" for i in ids)


def no_neighbours(n: int) -> Neighbours:
    return Neighbours(torch.full((n, 1), NO_NEIGHBOUR), torch.zeros(n, 1))


def same(x: Tensor) -> Tensor:
    return x


def test_hand_computed_case() -> None:
    unembedding = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-1.0, 0.0], [0.0, -1.0], [1.0, 0.0]])
    directions = torch.tensor([[3.0, 0.0], [0.0, -0.5]])
    neighbours = nearest_neighbours(directions, torch.arange(2), 1)
    first, second = project_vocabulary(directions, Readout(same, unembedding, strings), neighbours, k=2)
    root = math.sqrt(2.0)  # a direction is brought to mean square 1, whatever its scale
    assert first.promoted.ids == (0, 4)  # tied: the lower id is first
    assert first.promoted.values == pytest.approx((root, root))
    assert first.promoted.tokens == ("<0>", "<4>")
    assert (first.suppressed.ids, first.suppressed.values) == ((2, 1), pytest.approx((-root, 0.0)))
    assert second.promoted.ids == (3, 0)
    assert second.suppressed.ids[0] == 1
    assert second.suppressed.values[0] == pytest.approx(-2 * root)
    assert (first.neighbours, first.cosines, first.centred) == ((1,), (0.0,), False)


def test_the_histogram_counts_some_tokens_between_the_extremes_of_all() -> None:
    unembedding = torch.randn(1000, 8)
    directions = torch.cat([torch.randn(3, 8), torch.zeros(1, 8)])
    *found, nothing = project_vocabulary(directions, Readout(same, unembedding, strings), no_neighbours(4), k=3)
    assert nothing.histogram is None
    logits = normed_directions(directions, same) @ unembedding.T
    for projection, row in zip(found, logits.numpy(), strict=False):
        known = projection.histogram
        assert known is not None
        assert (known.low, known.high) == (projection.suppressed.values[0], projection.promoted.values[0])
        assert (known.low, known.high) == pytest.approx((row.min(), row.max()))
        expected, _ = np.histogram(row[:: known.every], bins=len(known.counts), range=(row.min(), row.max()))
        assert sum(known.counts) == len(row[:: known.every])
        assert np.abs(np.cumsum(known.counts) - np.cumsum(expected)).max() <= 1  # a value at the edge of two steps
    assert VocabularyProjection.model_validate(found[0].model_dump()) == found[0]


@pytest.mark.parametrize("make_norm", [lambda d: nn.RMSNorm(d, eps=1e-5), lambda d: nn.LayerNorm(d)])
@pytest.mark.parametrize("centred", [False, True])
def test_equals_a_dense_product(
    monkeypatch: pytest.MonkeyPatch, make_norm: Callable[[int], nn.Module], centred: bool
) -> None:
    monkeypatch.setattr(screening, "_BLOCK_BYTES", 4 * 7 * 2000)  # seven rows a block
    generator = torch.Generator().manual_seed(1)
    directions = torch.randn(20, 16, generator=generator)
    unembedding = torch.randn(2000, 16, generator=generator)
    norm = make_norm(16)
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.copy_(torch.randn(16, generator=generator))
        scaled = directions / directions.pow(2).mean(dim=1, keepdim=True).sqrt()
        dense = (norm(scaled) - norm(torch.zeros(16))) @ unembedding.T
        if centred:
            dense = dense - dense.mean(dim=0)
        centre = mean_direction(directions, norm) if centred else None
        readout = Readout(norm, unembedding, strings, centre)
        found = list(project_vocabulary(directions, readout, no_neighbours(20), k=9))
    for row, projection in zip(dense, found, strict=True):
        up, down = row.sort(descending=True, stable=True), row.sort(stable=True)
        assert list(projection.promoted.ids) == up.indices[:9].tolist()
        assert list(projection.suppressed.ids) == down.indices[:9].tolist()
        assert projection.promoted.values == pytest.approx(up.values[:9].tolist(), rel=1e-4)
        assert projection.suppressed.values == pytest.approx(down.values[:9].tolist(), rel=1e-4)
        assert projection.centred is centred


def test_planted_directions_give_their_tokens_back() -> None:
    unembedding = torch.randn(500, 64, generator=torch.Generator().manual_seed(2))
    groups = [(3, 77), (140, 141), (499, 0)]
    directions = torch.stack([sum((unembedding[i] for i in group), torch.zeros(64)) for group in groups])
    found = list(project_vocabulary(directions, Readout(same, unembedding, strings), no_neighbours(3), k=2))
    assert [set(projection.promoted.ids) for projection in found] == [set(group) for group in groups]


def test_planted_features_of_a_subject_promote_their_words(tmp_path: Path) -> None:
    planted = tiny.planted_dictionary(tmp_path / "dictionary", tiny.make_subject(tmp_path / "subject"))
    subject = tiny.build_subject()
    directions = load_file(planted.weights)["w_dec"]
    neighbours = nearest_neighbours(directions, torch.arange(len(directions)))
    readout = Readout(subject.norm_direction, subject.unembedding, subject.token_strings)
    for centre in (None, mean_direction(directions, subject.norm_direction)):
        found = list(project_vocabulary(directions, replace(readout, centre=centre), neighbours, k=3))
        for truth, projection in zip(planted.planted, found, strict=True):
            assert {token.strip() for token in projection.promoted.tokens} == set(truth.promoted)
            assert len(projection.neighbours) == 10


def test_centring_removes_what_every_direction_promotes() -> None:
    generator = torch.Generator().manual_seed(3)
    unembedding = torch.eye(40)
    directions = torch.randn(300, 40, generator=generator) * 0.2
    directions[:, 0] = 3.0  # all promote token 0
    directions[torch.arange(300), 1 + torch.arange(300) % 39] += 2.0  # and each one of its own
    for centre, first in ((None, {0}), (mean_direction(directions, same), set(range(1, 40)))):
        readout = Readout(same, unembedding, strings, centre)
        found = list(project_vocabulary(directions, readout, no_neighbours(300), k=1))
        assert {projection.promoted.ids[0] for projection in found} == first


def test_scale_of_a_direction_does_not_matter() -> None:
    generator = torch.Generator().manual_seed(4)
    direction, unembedding = torch.randn(1, 32, generator=generator), torch.randn(90, 32, generator=generator)
    readout = Readout(nn.RMSNorm(32, eps=1e-5, elementwise_affine=False), unembedding, strings)
    plain, short, long = (
        next(project_vocabulary(direction * scale, readout, no_neighbours(1), k=5)) for scale in (1.0, 1e-6, 1e6)
    )
    assert plain.promoted.ids == short.promoted.ids == long.promoted.ids
    assert short.promoted.values == pytest.approx(plain.promoted.values, rel=1e-5)


def test_zero_directions_promote_nothing_and_are_nobodys_neighbour() -> None:
    directions = torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    neighbours = nearest_neighbours(directions, torch.arange(3), 2)
    assert neighbours.ids.tolist() == [[2, NO_NEIGHBOUR], [NO_NEIGHBOUR, NO_NEIGHBOUR], [0, NO_NEIGHBOUR]]
    assert neighbours.cosines.isfinite().all()
    centre = mean_direction(directions, same)
    assert centre.tolist() == pytest.approx(mean_direction(directions[[0, 2]], same).tolist())
    found = list(project_vocabulary(directions, Readout(same, torch.eye(2), strings, centre), neighbours, k=2))
    assert found[1].promoted.ids == found[1].suppressed.values == found[1].neighbours == ()
    assert found[0].neighbours == (2,)
    assert found[0].promoted.ids
    assert mean_direction(torch.zeros(2, 2), same).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_directions_that_are_not_finite_are_named(value: float) -> None:
    directions = torch.ones(3, 2)
    directions[1, 1] = value
    with pytest.raises(NotFinite, match="direction 1"):
        normed_directions(directions, same)


def test_bad_sizes_are_refused() -> None:
    readout = Readout(same, torch.eye(4), strings)
    with pytest.raises(ShapeMismatch, match=r"needs \(n, 4\)"):
        project_vocabulary(torch.ones(2, 3), readout, no_neighbours(2), k=1)
    with pytest.raises(ShapeMismatch, match="neighbours of 5 features"):
        project_vocabulary(torch.ones(2, 4), readout, no_neighbours(5), k=1)
    for k in (0, 5):
        with pytest.raises(InvalidInput, match=rf"k={k}; must be 1\.\.4"):
            project_vocabulary(torch.ones(2, 4), readout, no_neighbours(2), k=k)


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 1500), st.sampled_from([2, 40, 10**6]))
def test_largest_and_smallest_equal_a_stable_sort(seed: int, k: int, n_columns: int, n_values: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(0, n_values, (5, n_columns), generator=generator).float()
    k = min(k, n_columns)
    for found, descending in ((largest(x, k), True), (smallest(x, k), False)):
        values, indices = x.sort(dim=1, descending=descending, stable=True)
        assert torch.equal(found.indices, indices[:, :k])
        assert torch.equal(found.values, values[:, :k])


def test_neighbours_equal_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screening, "_BLOCK_BYTES", 4 * 3 * 50)
    decoder = torch.randn(50, 8, generator=torch.Generator().manual_seed(5))
    decoder[7] = decoder[31] * 2.0  # the same direction
    queries = torch.tensor([31, 0, 49, 7])
    found = nearest_neighbours(decoder, queries, 10)
    cosines = nn.functional.cosine_similarity(decoder[:, None], decoder[None], dim=2)
    for query, ids, values in zip(queries.tolist(), found.ids, found.cosines, strict=True):
        expected = sorted((i for i in range(50) if i != query), key=lambda i: (-cosines[query, i].item(), i))[:10]
        assert ids.tolist() == expected
        torch.testing.assert_close(values, cosines[query, expected])
    assert found.ids[0, 0] == 7
    assert found.cosines.max() <= 1.0


def test_small_dictionaries_have_fewer_neighbours() -> None:
    assert nearest_neighbours(torch.ones(1, 3), torch.tensor([0]), 3).ids.tolist() == [[NO_NEIGHBOUR] * 3]
    assert nearest_neighbours(torch.eye(3), torch.tensor([2]), 3).ids.tolist() == [[0, 1, NO_NEIGHBOUR]]
