"""The largest and the smallest entries of products rows @ matrix.T, exactly, most of which are never computed in full.

Where the processor computes bfloat16 natively, a product in it takes a part of the time of one in float32, and tells
which entries can be among the k outermost. Only those are computed in float32. How far the rough product may be off is
known, so a row in which an entry that was not looked at might belong to the k is computed whole.

Not used on GPUs, which may sum up in bfloat16, so that the bound would not hold.
"""

import warnings
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from workers.devices import cpu_has_bfloat16
from workers.methods.ranking import Ranked, candidates, largest, smallest

_BLOCK_BYTES = 192 * 2**20  # of products held at once
_BEYOND = 64  # entries that are looked at beyond k: 46 leave one row in a hundred of a real dictionary unsettled
_ROWS = 256  # from which on it pays to bring the matrix into bfloat16
_ROUNDING = torch.finfo(torch.bfloat16).eps  # twice what rounding to bfloat16 may change, relatively
_SUMMING = torch.finfo(torch.float32).eps  # likewise of float32, for each term of a sum

with warnings.catch_warnings():  # PyTorch says once a process that CSR tensors are in beta.
    warnings.simplefilter("ignore")
    torch.sparse_csr_tensor([0, 0], [], [], (1, 1), check_invariants=False)


class Ends(NamedTuple):
    """Of each row: its k largest entries, and its k smallest."""

    largest: Ranked
    smallest: Ranked


class _Lengths(NamedTuple):
    """Of a matrix: the length of its longest row, and of the longest difference between a row and its rounded form."""

    longest: float
    farthest: float


def ends(rows: Tensor, matrix: Tensor, k: int) -> Iterator[Ends]:
    """Yield the k largest and k smallest entries of each row of rows @ matrix.T, block by block; ties by lower index.

    rows:   (n, d) float32
    matrix: (m, d), of any floating dtype; the products are those of float32
    """
    exact = matrix.float()
    if len(rows) < _ROWS or not _pays(matrix, k):
        for product in products(rows, exact):
            yield Ends(largest(product, k), smallest(product, k))
        return
    rough = matrix.to(torch.bfloat16)
    lost = 0.0 if matrix.dtype == torch.bfloat16 else _longest(exact - rough.float())
    lengths = _Lengths(longest=_longest(exact), farthest=lost)
    start = 0
    for product in products(rows.to(torch.bfloat16), rough):
        some = rows[start : start + len(product)]
        start += len(product)
        slack = _slack(some, lengths)
        yield Ends(*(_settled(some, exact, product, slack, k, sign) for sign in (1, -1)))


def _pays(matrix: Tensor, k: int) -> bool:
    return matrix.device.type == "cpu" and cpu_has_bfloat16() and len(matrix) >= 32 * (k + _BEYOND)


def products(rows: Tensor, matrix: Tensor) -> Iterator[Tensor]:
    """Yield rows @ matrix.T in blocks of rows, each where the one before was: fresh memory costs time."""
    made = rows.new_empty(0)
    for some in torch.split(rows, rows_at_once(len(matrix))):
        made = made[: len(some)] if len(made) >= len(some) else rows.new_empty(len(some), len(matrix))
        yield torch.mm(some, matrix.T, out=made)


def rows_at_once(n_columns: int) -> int:
    """Return how many rows of so many float32 are held at once."""
    return max(1, _BLOCK_BYTES // (4 * n_columns))


def _slack(rows: Tensor, of_matrix: _Lengths) -> Tensor:
    """Return how far an entry of the rough product may be from the exact one, its own rounding left out: (n,).

    By Cauchy and Schwarz: what both factors lost, and twice what a sum of d terms may lose.
    """
    rounded = rows.to(torch.bfloat16).float()
    lengths, lost = torch.linalg.vector_norm(rows, dim=1), torch.linalg.vector_norm(rows - rounded, dim=1)
    summing = _SUMMING * rows.shape[1] * lengths * of_matrix.longest
    slack: Tensor = lost * of_matrix.longest + (lengths + lost) * of_matrix.farthest + summing
    return slack


def _longest(matrix: Tensor) -> float:
    return float(torch.linalg.vector_norm(matrix, dim=1).max())


def _settled(rows: Tensor, matrix: Tensor, rough: Tensor, slack: Tensor, k: int, sign: int) -> Ranked:
    """Return the k largest (sign 1) or smallest (-1) entries of rows @ matrix.T, of which `rough` is near."""
    rank = largest if sign > 0 else smallest
    values, columns = candidates(rough, k + _BEYOND, sign)
    columns = columns.sort(dim=1).values
    among = rank(_dots(rows, matrix, columns), k)
    found = Ranked(among.values, columns.gather(1, among.indices))
    beyond = sign * values[:, -1] + _ROUNDING * values[:, -1].abs() + slack  # no entry that was left out is larger
    unsettled = ~(beyond < sign * found.values[:, -1])
    if unsettled.any():
        found.put(unsettled, rank(_whole(rows[unsettled], matrix), k))
    return found


def _whole(rows: Tensor, matrix: Tensor) -> Tensor:
    return rows @ matrix.T


def _dots(rows: Tensor, matrix: Tensor, columns: Tensor) -> Tensor:
    """Return rows[i] · matrix[columns[i, j]] (n, m); a row's columns (n, m) rise."""
    n, m = columns.shape
    starts = torch.arange(0, n * m + 1, m)
    wanted = torch.sparse_csr_tensor(
        starts, columns.flatten(), rows.new_zeros(n * m), (n, len(matrix)), check_invariants=False
    )
    dots: Tensor = torch.sparse.sampled_addmm(wanted, rows, matrix.T, beta=0.0).values()
    return dots.view(n, m)
