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
MOST_OF_A_DIMENSION = 4.0
_LEAST = 1e-30


class Fit(NamedTuple):
    """How well values are reconstructed, and by how many features.

    fvu:          fraction of the variance that is not, all dimensions summed: a few large ones may decide it.
    by_dimension: the mean of that fraction over dimensions, each at most MOST_OF_A_DIMENSION.
    errors:       (N,) the squared error of each token, of its squared distance from the mean token.
    l0, fired:    features that fire on a token; which (F,) fire on any.
    """

    fvu: float
    by_dimension: float
    errors: Tensor
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
    target = written.float()
    deviations = target - target.mean(0)
    left, errors, n_firing = torch.zeros_like(target[0], dtype=torch.float64), [], 0
    fired = torch.zeros(n_features, dtype=torch.bool, device=read.device)
    n_tokens = max(1, _ACTIVATIONS_AT_ONCE // n_features)
    for x, y in zip(torch.split(read, n_tokens), torch.split(target, n_tokens), strict=True):
        activations = encode(x)
        firing = activations > 0
        fired |= firing.any(0)
        n_firing += int(firing.sum())
        squares = (y - decode(activations, x)).double().square()
        left += squares.sum(0)
        errors.append(squares.sum(1))
    spread = deviations.double().square()
    by_dimension = (left / spread.sum(0).clamp_min(_LEAST)).clamp_max(MOST_OF_A_DIMENSION)
    return Fit(
        fvu=float(left.sum() / spread.sum().clamp_min(_LEAST)),
        by_dimension=float(by_dimension.mean()),
        errors=torch.cat(errors) / spread.sum(1).clamp_min(_LEAST),
        l0=n_firing / len(read),
        fired=fired,
    )


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
