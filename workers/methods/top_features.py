"""Which features are most active on each token of a text, out of any number of them, a chunk in memory at a time."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor


class TopFeatures(NamedTuple):
    """The most active features of each token, strongest first: (T, k) activations and int64 features.

    Activations of 0 or less stand for nothing: fewer than k features were active.
    """

    activations: Tensor
    features: Tensor


def top_features(chunks: Iterable[tuple[int, Tensor]], k: int) -> TopFeatures:
    """Return the k most active features of T tokens, or all if there are fewer.

    chunks:  (first feature, activations (T, n)), one at least; each may be overwritten once the next is asked for.
    """
    best = TopFeatures(torch.empty(0), torch.empty(0))
    for low, activations in chunks:
        found = _most(activations.float(), k)
        found = found._replace(features=found.features + low)
        best = _merged(best, found, k) if best.features.numel() else found
    return best


def _merged(a: TopFeatures, b: TopFeatures, k: int) -> TopFeatures:
    best = _most(torch.cat([a.activations, b.activations], -1), k)
    return best._replace(features=torch.cat([a.features, b.features], -1).gather(-1, best.features))


def _most(activations: Tensor, k: int) -> TopFeatures:
    """Return the largest of (T, n) activations and their columns."""
    values, columns = activations.topk(min(k, activations.shape[-1]), dim=-1)
    return TopFeatures(values, columns)
