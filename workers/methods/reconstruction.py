"""How well a dictionary reconstructs values: variance left over, features that fire, features that never do.

Pure: an encoder and a decoder as functions, values in. What a bad figure means is workers/health.py's business.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from schema.errors import ShapeMismatch

_ACTIVATIONS_AT_ONCE = 2**25  # tokens × features, 128 MiB
TWIN_COSINE = 0.99
N_COMPARED = 512


class Fit(NamedTuple):
    """fvu: fraction of variance unexplained · l0: features a token · fired: (F,) bool, on any token."""

    fvu: float
    l0: float
    fired: Tensor


def measure_fit(
    encode: Callable[[Tensor], Tensor],
    decode: Callable[[Tensor, Tensor], Tensor],
    read: Tensor,
    written: Tensor,
    n_features: int,
) -> Fit:
    """Return how well written values (N, w) are reconstructed from read ones (N, d).

    encode: (n, d) to activations (n, F). decode: those and (n, d) to (n, w).
    The variance is that about the mean of these tokens.
    Raises: ShapeMismatch for no tokens, or of unequal numbers.
    """
    if len(read) != len(written) or not len(read):
        raise ShapeMismatch(f"tokens={len(read)} read and {len(written)} written; must be as many, at least 1")
    left, n_firing = 0.0, 0
    fired = torch.zeros(n_features, dtype=torch.bool, device=read.device)
    n_tokens = max(1, _ACTIVATIONS_AT_ONCE // n_features)
    for x, y in zip(torch.split(read, n_tokens), torch.split(written.float(), n_tokens), strict=True):
        activations = encode(x)
        firing = activations > 0
        fired |= firing.any(0)
        n_firing += int(firing.sum())
        left += float((y - decode(activations, x)).double().square().sum())
    return Fit(left / max(total_variance(written), 1e-30), n_firing / len(read), fired)


def total_variance(values: Tensor) -> float:
    """Return the summed squared distance of values (N, w) from their mean."""
    wide = values.double()
    return float((wide - wide.mean(0)).square().sum())


def share_of_twins(directions: Tensor, generator: torch.Generator) -> float:
    """Return the share of rows (F, d) that have another row at a cosine above TWIN_COSINE, by a sample of N_COMPARED.

    Rows of length zero are nobody's twins.
    """
    n = len(directions)
    sample = torch.randperm(n, generator=generator)[:N_COMPARED]
    ours = torch.nn.functional.normalize(directions[sample].float(), dim=1)
    twins = torch.zeros(len(sample), dtype=torch.bool)
    at_once = _ACTIVATIONS_AT_ONCE // max(1, len(sample))
    for low in range(0, n, at_once):
        others = torch.nn.functional.normalize(directions[low : low + at_once].float(), dim=1)
        cosines = ours @ others.T
        itself = (sample >= low) & (sample < low + len(others))
        cosines[itself, sample[itself] - low] = 0.0
        twins |= (cosines > TWIN_COSINE).any(1)
    return float(twins.float().mean())
