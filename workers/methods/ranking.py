"""The k largest and smallest of each row, exactly: equal ones by lower index, whatever finds them."""

from typing import NamedTuple

import torch
from torch import Tensor

_GROUP = 16  # columns whose maximum is looked at first; 8 is no faster


class Ranked(NamedTuple):
    """The k largest (or smallest) of each row, in that order, ties by lower index: (n, k) values and int64 indices."""

    values: Tensor
    indices: Tensor

    def put(self, rows: Tensor, instead: "Ranked") -> None:
        """Write other lists to some rows, a mask (n,)."""
        self.values[rows], self.indices[rows] = instead


def largest(x: Tensor, k: int) -> Ranked:
    """Return the k largest of each row of x (n, m), exactly, ties by lower index included."""
    return _ranked(x, k, 1)


def smallest(x: Tensor, k: int) -> Ranked:
    """Return the k smallest of each row of x (n, m), likewise."""
    found = _ranked(x, k, -1)
    return found._replace(values=-found.values)


def candidates(x: Tensor, k: int, sign: int) -> Ranked:
    """Return the k largest (sign 1) or smallest (-1) of each row of x; which of those that equal the last is open."""
    found = _topmost(x, k, sign)
    return Ranked(sign * found.values, found.indices)


def _ranked(x: Tensor, k: int, sign: int) -> Ranked:
    found = _topmost(x, k, sign)
    ranked = Ranked(found.values, found.indices)
    unordered = (ranked.values[:, 1:] == ranked.values[:, :-1]).any(dim=1)  # equal ones may stand in any order
    if unordered.any():
        ranked.put(unordered, _by_index(Ranked(ranked.values[unordered], ranked.indices[unordered])))
    tied = (found.searched >= ranked.values[:, -1:]).sum(dim=1) > k  # so it may be the wrong one that is missing
    if tied.any():
        ranked.put(tied, _sorted(sign * x[tied], k))
    return ranked


def _by_index(ranked: Ranked) -> Ranked:
    """Return the same, largest first, ties by lower index."""
    by_index = ranked.indices.argsort(dim=1)
    order = by_index.gather(1, ranked.values.gather(1, by_index).argsort(dim=1, descending=True, stable=True))
    return Ranked(ranked.values.gather(1, order), ranked.indices.gather(1, order))


class _Topmost(NamedTuple):
    """The k largest of each row, equal ones in any order, and the columns that were searched for them, by value."""

    values: Tensor
    indices: Tensor
    searched: Tensor


def _topmost(x: Tensor, k: int, sign: int) -> _Topmost:
    """Return the k largest of each row of sign · x in float32, looked for in the groups with the largest maxima.

    Those are k + 1 groups: one more than can be needed, so that a tie for the last place shows.
    """
    n_groups = x.shape[1] // _GROUP
    if n_groups <= 2 * k:
        searched = x.float() if sign > 0 else -x.float()  # whose k largest are found faster than those of bfloat16
        return _Topmost(*searched.topk(k, dim=1), searched)
    n_grouped = n_groups * _GROUP
    head = x[:, :n_grouped].view(len(x), _GROUP, n_groups)  # group g is every n_groups-th column from g on
    groups = _topmost(head.amax(dim=1) if sign > 0 else head.amin(dim=1).neg_(), k + 1, 1).indices
    found = head.gather(2, groups[:, None].expand(-1, _GROUP, -1)).flatten(1).float()
    searched = torch.cat([found, x[:, n_grouped:].float()], dim=1) if n_grouped < x.shape[1] else found
    values, places = (searched if sign > 0 else searched.neg_()).topk(k, dim=1)
    step = places.div(k + 1, rounding_mode="floor")
    columns = groups.gather(1, places - step * (k + 1)) + step * n_groups
    in_tail = places - found.shape[1] + n_grouped
    return _Topmost(values, torch.where(step < _GROUP, columns, in_tail), searched)


def _sorted(x: Tensor, k: int) -> Ranked:
    values, indices = x.sort(dim=1, descending=True, stable=True)
    return Ranked(values[:, :k], indices[:, :k])
