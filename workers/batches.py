"""Rows of tokens that pass a subject together, and what is left of them while they generate."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Token rows, padded on the right.

    ids:       (B, T) int64; padding holds the sink's id.
    attention: (B, T) bool; False on padding.
    counted:   (B, T) bool; also False for position 0 and every special token.
    """

    ids: Tensor
    attention: Tensor
    counted: Tensor

    @property
    def n_rows(self) -> int:
        """Return B."""
        return self.ids.shape[0]


@dataclass(frozen=True)
class Cache:
    """Keys and values of a batch so far. `step` extends it in place: the old one may not be used again."""

    past: Any
    length: int


class Decoded(NamedTuple):
    """Next-token logits (B, n_vocab) float32, and the cache with which to go on."""

    logits: Tensor
    cache: Cache
