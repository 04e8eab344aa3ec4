"""Numbers by counter: the same everywhere, and as good as random."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from workers.methods import sampling
from workers.methods.sampling import mix, mix_tensors, uniform


def test_matches_splitmix64_reference() -> None:
    # The first output of splitmix64 seeded with 1234567 (Vigna's splitmix64.c) is 6457827717110365317. One key k
    # is finalised from START ^ k, so the key START ^ 1234567 must give just that.
    assert int(mix(0x243F6A8885A308D3 ^ 1234567)) == 6457827717110365317


def test_values_are_pinned() -> None:
    # Changing these numbers changes every stored sample.
    assert uniform(0, 1, 2) == 0.14773307215854403
    assert uniform("seed", 0.25, -3) == 0.6873189888702375


def test_numpy_torch_and_plain_numbers_agree() -> None:
    contexts = np.arange(-5, 40, dtype=np.int64) * (1 << 32)
    features = np.arange(7, dtype=np.int64)
    arrays = uniform(11, "stream", contexts[:, None], features[None, :])
    tensors = uniform(11, "stream", torch.tensor(contexts)[:, None], torch.tensor(features)[None, :])
    np.testing.assert_array_equal(arrays, tensors.numpy())
    for i in (0, 5, 44):
        assert uniform(11, "stream", int(contexts[i]), 3) == arrays[i, 3]


@given(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**63), 2**63 - 1), st.integers(0, 2**31 - 1))
def test_one_element_equals_its_place_in_a_batch(a: int, b: int, seed: int) -> None:
    batch = torch.tensor([[0, a, 5], [b, a, 1]])
    assert mix_tensors(seed, batch)[0, 1] == mix_tensors(seed, torch.tensor(a))
    assert int(mix(seed, a, b)) == int(mix_tensors(seed, torch.tensor(a), torch.tensor(b))) % 2**64
    assert 0.0 < uniform(seed, a, b) < 1.0


def test_order_type_and_number_of_keys_matter() -> None:
    draws = [uniform(1, 2), uniform(2, 1), uniform(1, 2, 0), uniform(1), uniform(1.0, 2), uniform("1", 2)]
    assert len(set(draws)) == len(draws)


def test_tensors_are_needed_for_tensors() -> None:
    with pytest.raises(TypeError, match="at least one tensor"):
        mix_tensors(1, 2)


@pytest.mark.parametrize("axis", ["seed", "context", "feature", "step"])
def test_each_key_alone_gives_uniform_numbers(axis: str) -> None:
    run = np.arange(20_000)
    keys = {"seed": 3, "context": 7 << 32, "feature": 12, "step": 1} | {axis: run}
    drawn = uniform(*keys.values())
    assert stats.kstest(drawn, "uniform").pvalue > 1e-3
    # Neighbours are independent: lag-one pairs fill the unit square evenly.
    square, _, _ = np.histogram2d(drawn[:-1], drawn[1:], bins=8)
    assert stats.chisquare(square.ravel()).pvalue > 1e-3


def test_two_keys_together_give_uniform_numbers() -> None:
    grid = uniform(0, np.arange(300)[:, None], np.arange(300)[None, :])
    assert stats.kstest(grid.ravel(), "uniform").pvalue > 1e-3
    correlations = np.corrcoef(grid[:40])
    assert np.abs(correlations[~np.eye(40, dtype=bool)]).max() < 0.25


@pytest.mark.parametrize("bits", [0, 2**64 - 1])
def test_extreme_bits_stay_inside_the_open_interval(monkeypatch: pytest.MonkeyPatch, bits: int) -> None:
    monkeypatch.setattr(sampling, "mix", lambda *_: np.asarray(bits, dtype=np.uint64))
    monkeypatch.setattr(sampling, "mix_tensors", lambda *_: torch.tensor([bits - 2**64 if bits else 0]))
    assert 0.0 < uniform(1) < 1.0
    assert uniform(torch.tensor([1])).item() == uniform(1)
