"""Batches of contexts, and what lies around a position in them.

A window is a stretch of one context around a position, its *peak*. It never reaches outside its context. What a window
is *about* is told by a hash of the eight tokens around the peak: equal keys mean the same words there.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from schema.errors import ShapeMismatch
from schema.evidence import KEY_AFTER, KEY_BEFORE
from workers.methods.sampling import mix_tensors, uniform

DESCRIBE, SCORE = 0, 1
_LARGEST_FLOAT16 = 65504.0
_NO_TOKEN = -1  # outside the context


class ContextBatch(NamedTuple):
    """A batch of contexts.

    ids:       (B, T) int64
    attention: (B, T) bool, False on padding
    counted:   (B, T) bool, False on padding and on every position that enters no statistic and no maximum
    context:   (B,) int64, numbers that are different for every context of the corpus, in the order of documents
    split:     (B,) int64, 0 describe, 1 score
    """

    ids: Tensor
    attention: Tensor
    counted: Tensor
    context: Tensor
    split: Tensor

    def check(self) -> None:
        """Raise ShapeMismatch unless the tensors fit each other."""
        shapes = {tuple(tensor.shape) for tensor in (self.ids, self.attention, self.counted)}
        rows = {tuple(self.context.shape), tuple(self.split.shape)}
        if len(shapes) != 1 or self.ids.dim() != 2 or rows != {(self.ids.shape[0],)}:
            raise ShapeMismatch(f"a batch of contexts has shapes {[tuple(tensor.shape) for tensor in self]}")


class BatchView:
    """A batch with what is computed from it once."""

    def __init__(self, batch: ContextBatch, seed: int) -> None:
        self.batch = batch
        self.seed = seed
        self.keys = window_keys(batch)
        self.rows = tuple((batch.split == split).nonzero().squeeze(1) for split in (DESCRIBE, SCORE))
        self.n_counted = batch.counted.sum(dim=1)
        self._counted_first = batch.counted.int().argsort(dim=1, descending=True, stable=True)

    def draw(self, purpose: str, rows: Tensor, features: Tensor) -> Tensor:
        """Return numbers in (0, 1) for contexts and features, (R, n)."""
        return uniform(self.seed, purpose, self.batch.context[rows][:, None], features[None, :])

    def random_positions(self, rows: Tensor, features: Tensor) -> Tensor:
        """Return counted positions drawn for contexts and features, (R, n); 0 where none is counted."""
        nth = (self.draw("position", rows, features) * self.n_counted[rows][:, None]).long()
        return self._counted_first[rows].gather(1, nth)


class Span(NamedTuple):
    """How far a window reaches around its peak, in tokens."""

    before: int
    after: int

    @property
    def width(self) -> int:
        """Return the number of tokens of a window that is not cut by its context."""
        return self.before + 1 + self.after


def window_keys(batch: ContextBatch) -> Tensor:
    """Return (B, T) int64 hashes of the exact eight tokens around each position (four before, three after)."""
    visible = batch.ids.masked_fill(~batch.attention, _NO_TOKEN)
    ids = functional.pad(visible, (KEY_BEFORE, KEY_AFTER), value=_NO_TOKEN)
    n_positions = batch.ids.shape[1]
    return mix_tensors(*(ids[:, shift : shift + n_positions] for shift in range(KEY_BEFORE + 1 + KEY_AFTER)))


class Peaks(NamedTuple):
    """Where n windows are centred: rows and positions in a batch, and columns of its activations; each (n,)."""

    rows: Tensor
    positions: Tensor
    columns: Tensor


def window_activations(activations: Tensor, peaks: Peaks, span: Span) -> Tensor:
    """Return (n, width) float16: the activations around each peak, 0 where nothing is counted.

    activations: (B, T, features), -inf where not counted
    """
    n_positions, n_features = activations.shape[1:]
    offsets = torch.arange(-span.before, span.after + 1, device=activations.device)
    around = peaks.positions.long()[:, None] + offsets
    inside = (around >= 0) & (around < n_positions)
    place = peaks.rows[:, None] * n_positions + around.clamp(0, n_positions - 1)
    values = activations.reshape(-1)[place * n_features + peaks.columns[:, None]]
    values = values.masked_fill(~inside | (values == -torch.inf), 0.0)
    return values.float().clamp(-_LARGEST_FLOAT16, _LARGEST_FLOAT16).half()
