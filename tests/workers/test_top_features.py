"""The most active features of each token, whatever the chunks."""

import torch

from workers.methods.top_features import top_features


def test_chunks_change_nothing() -> None:
    activations = torch.randn(7, 40, generator=torch.Generator().manual_seed(0))
    expected = activations.sort(-1, descending=True)
    for size in (1, 3, 7, 40):
        chunks = ((low, activations[:, low : low + size].clone()) for low in range(0, 40, size))
        found = top_features(chunks, 5)
        assert torch.equal(found.activations, expected.values[:, :5])
        assert torch.equal(found.features, expected.indices[:, :5])


def test_a_dictionary_of_fewer_features_gives_all_of_them() -> None:
    found = top_features([(0, torch.tensor([[1.0, 3.0]]))], 5)
    assert (found.features.tolist(), found.activations.tolist()) == ([[1, 0]], [[3.0, 1.0]])
