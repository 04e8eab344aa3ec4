"""How often and how strongly features fire: counts that add up over any division of a corpus.

Counts are exact; sums are float64 and depend on the order of addition in their last digits only. Whether a token
counts at all is the caller's to say.
"""

from typing import NamedTuple

import torch
from torch import Tensor

# Quarter octaves from 2^-16 to 2^16. What lies outside counts in the first or the last bin.
OCTAVES = 16
EDGES: tuple[float, ...] = tuple(2.0 ** (step / 4) for step in range(-4 * OCTAVES, 4 * OCTAVES + 1))
N_BINS = len(EDGES) - 1


class Tally(NamedTuple):
    """Counts of n features.

    n_firing:  (n,) int64, tokens on which the feature fires
    total:     (n,) float64, sum of its activations on those tokens
    largest:   (n,) float32, largest activation on any counted token; -inf before the first
    histogram: (n, N_BINS) int64, activations on the tokens on which it fires, by EDGES
    """

    n_firing: Tensor
    total: Tensor
    largest: Tensor
    histogram: Tensor

    @classmethod
    def empty(cls, n_features: int, device: torch.device) -> "Tally":
        """Return a tally of nothing."""
        return cls(
            n_firing=torch.zeros(n_features, dtype=torch.int64, device=device),
            total=torch.zeros(n_features, dtype=torch.float64, device=device),
            largest=torch.full((n_features,), -torch.inf, device=device),
            histogram=torch.zeros((n_features, N_BINS), dtype=torch.int64, device=device),
        )

    @classmethod
    def of(cls, activations: Tensor, thresholds: Tensor) -> "Tally":
        """Return the tally of some tokens: activations (tokens, n), -inf where not counted; thresholds (n,)."""
        n_features = activations.shape[1]
        firing = (activations > thresholds).view(-1).nonzero().squeeze(1)
        feature = firing % n_features
        values = activations.reshape(-1)[firing].float()
        edges = torch.tensor(EDGES, dtype=torch.float32, device=values.device)
        bins = (torch.bucketize(values, edges, right=True) - 1).clamp(0, N_BINS - 1)
        histogram = torch.bincount(feature * N_BINS + bins, minlength=n_features * N_BINS).view(n_features, N_BINS)
        return cls(
            n_firing=histogram.sum(dim=1),
            total=torch.bincount(feature, weights=values.double(), minlength=n_features),
            largest=activations.amax(dim=0).float(),
            histogram=histogram,
        )

    def plus(self, other: "Tally") -> "Tally":
        """Return the tally of the tokens of both."""
        return Tally(
            n_firing=self.n_firing + other.n_firing,
            total=self.total + other.total,
            largest=torch.maximum(self.largest, other.largest),
            histogram=self.histogram + other.histogram,
        )

    def add_rows(self, low: int, other: "Tally") -> None:
        """Add the tally of the features from `low` on, in place."""
        rows = slice(low, low + other.n_firing.shape[0])
        self.n_firing[rows] += other.n_firing
        self.total[rows] += other.total
        self.largest[rows] = torch.maximum(self.largest[rows], other.largest)
        self.histogram[rows] += other.histogram


class Histogram(NamedTuple):
    """A histogram without its empty ends: one more edge than counts, both empty when nothing fired."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]


def trim(counts: list[int]) -> Histogram:
    """Return the stretch of a feature's N_BINS counts that holds all that is not 0."""
    filled = [i for i, count in enumerate(counts) if count]
    if not filled:
        return Histogram((), ())
    low, high = filled[0], filled[-1] + 1
    return Histogram(EDGES[low : high + 1], tuple(counts[low:high]))
