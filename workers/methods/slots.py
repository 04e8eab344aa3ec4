"""Bounded lists of windows, one per feature, that merge exactly.

A list holds the k cheapest windows that were ever offered to its feature. The order is total (cost, then context), so
what a list holds depends on what was offered and on nothing else: offering is associative and commutative. That stays
true of *distinct* lists, which count windows of equal key once with the cheapest of them: if a window is the cheapest
of its key overall and among the k cheapest keys overall, then in any part of the offers that contains it fewer than k
keys are cheaper, so it was kept there too; and a window that is not the cheapest of its key can only have been kept
for lack of the cheaper one, which k cheaper keys had pushed out, and those push it out as well.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

NO_CONTEXT = -1


class Slots(NamedTuple):
    """The windows of n features, k slots each, in any order; an empty slot costs infinity, whatever else it holds.

    cost:        (n, k) float64
    context:     (n, k) int64, the context's own number
    key:         (n, k) int64, hash of the eight tokens around the peak
    position:    (n, k) int32, of the peak in its context
    activations: (n, k, window) float16, or (n, k, 0) for lists of contexts in which the feature is silent

    The tokens of the contexts are kept elsewhere, once for all features.
    """

    cost: Tensor
    context: Tensor
    key: Tensor
    position: Tensor
    activations: Tensor

    @classmethod
    def empty(cls, n_features: int, k: int, width: int, device: torch.device) -> "Slots":
        """Return empty slots; the width is that of the activations."""

        def full(value: float, dtype: torch.dtype, *shape: int) -> Tensor:
            return torch.full((n_features, k, *shape), value, dtype=dtype, device=device)

        return cls(
            cost=full(torch.inf, torch.float64),
            context=full(NO_CONTEXT, torch.int64),
            key=full(0, torch.int64),
            position=full(0, torch.int32),
            activations=full(0, torch.float16, width),
        )

    @property
    def worst(self) -> Tensor:
        """Return what a window must not cost more than to have a chance, (n,); infinity while a slot is empty."""
        return self.cost.amax(dim=1) if self.cost.shape[1] else self.cost.new_full(self.cost.shape[:1], -torch.inf)

    def rows(self, features: Tensor | slice) -> "Slots":
        """Return the slots of some features."""
        return Slots(*(tensor[features] for tensor in self))

    def ordered(self) -> "Slots":
        """Return the same windows, cheapest first, and all empty slots alike: equal lists are equal bytes."""
        return choose(self, cheapest(self.cost, self.context, None, self.cost.shape[1]))


def merge(a: Slots, b: Slots, *, distinct: bool) -> Slots:
    """Return what one list would hold that had been offered all that either of two was."""
    both = Slots(*(torch.cat(pair, dim=1) for pair in zip(a, b, strict=True)))
    return choose(both, cheapest(both.cost, both.context, both.key if distinct else None, a.cost.shape[1]))


class Choice(NamedTuple):
    """The k cheapest of m columns, (n, k): which, and their cost; infinity where there are fewer."""

    columns: Tensor
    cost: Tensor


def cheapest(cost: Tensor, context: Tensor, key: Tensor | None, k: int) -> Choice:
    """Return the k cheapest of m columns, ties by lower context.

    cost, context: (n, m); infinite costs are never chosen
    key:           (n, m) where only the cheapest of each key counts, else None
    """
    index = context.argsort(dim=1, stable=True)
    index = index.gather(1, cost.gather(1, index).argsort(dim=1, stable=True))
    cost = cost.gather(1, index)
    if key is not None:
        cost = cost.masked_fill(_repeats(key.gather(1, index)), torch.inf)
        order = cost.argsort(dim=1, stable=True)
        index, cost = index.gather(1, order), cost.gather(1, order)
    return Choice(index[:, :k], cost[:, :k])


def choose(slots: Slots, choice: Choice) -> Slots:
    """Return the chosen columns as slots, empty ones blank."""
    picked = Slots(*(_pick(tensor, choice.columns) for tensor in slots))._replace(cost=choice.cost)
    empty = picked.cost == torch.inf
    for tensor, value in zip(picked[1:], (NO_CONTEXT, 0, 0, 0), strict=True):
        tensor[empty] = value
    return picked


class Candidates(NamedTuple):
    """Windows offered to n features, m columns each, (n, m): what decides, without the windows themselves."""

    cost: Tensor
    context: Tensor
    key: Tensor
    position: Tensor


def admit(
    slots: Slots,
    features: Tensor,
    offered: Candidates,
    cut: Callable[[Tensor, Tensor, Tensor], Tensor],
    *,
    distinct: bool,
) -> None:
    """Update the slots of some features (n,), in place: what gets in takes the slot of what it pushes out.

    Activations are the bulk of a slot, so those that stay are not moved, and only those that get in are cut.

    cut: from (row of the offer, candidate column, position), each (e,), to the activations (e, window) around them
    """
    k = slots.cost.shape[1]
    kept, context = slots.cost[features], slots.context[features]
    key = torch.cat([slots.key[features], offered.key], dim=1) if distinct else None
    choice = cheapest(torch.cat([kept, offered.cost], dim=1), torch.cat([context, offered.context], dim=1), key, k)
    chosen = torch.zeros((kept.shape[0], k + offered.cost.shape[1]), dtype=torch.bool, device=kept.device)
    chosen.scatter_(1, choice.columns, choice.cost < torch.inf)
    stays, enters = chosen[:, :k], chosen[:, k:]
    slots.cost[features] = kept.masked_fill(~stays, torch.inf)
    row, candidate = enters.nonzero(as_tuple=True)
    nth = enters.cumsum(dim=1)[row, candidate] - 1
    slot = stays.int().argsort(dim=1, stable=True)[row, nth]  # free slots stand first
    feature, position = features[row], offered.position[row, candidate]
    slots.cost[feature, slot] = offered.cost[row, candidate]
    slots.context[feature, slot] = offered.context[row, candidate]
    slots.key[feature, slot] = offered.key[row, candidate]
    slots.position[feature, slot] = position
    if slots.activations.shape[2]:
        slots.activations[feature, slot] = cut(row, candidate, position)


def _pick(tensor: Tensor, index: Tensor) -> Tensor:
    for _ in range(tensor.dim() - 2):
        index = index.unsqueeze(-1)
    return tensor.gather(1, index.expand(*index.shape[:2], *tensor.shape[2:]))


def _repeats(key: Tensor) -> Tensor:
    """Return (n, m) True where the same key stands further left in its row."""
    by_key, order = key.sort(dim=1, stable=True)
    same = torch.zeros_like(by_key, dtype=torch.bool)
    same[:, 1:] = by_key[:, 1:] == by_key[:, :-1]
    return torch.zeros_like(same).scatter(1, order, same)
