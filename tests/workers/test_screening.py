"""Both ends of products, looked for in bfloat16 first, against a sort of all entries."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from workers.methods import screening
from workers.methods.ranking import Ranked
from workers.methods.screening import ends

N_ROWS, N_COLUMNS, WIDTH, K = 300, 4000, 24, 50


@pytest.fixture
def whole(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Screen on every processor, in blocks of 128 rows; how many rows were computed whole after all, each time."""
    monkeypatch.setattr(screening, "cpu_has_bfloat16", lambda: True)
    monkeypatch.setattr(screening, "_BLOCK_BYTES", 4 * N_COLUMNS * 128)
    counts: list[int] = []

    def counted(rows: Tensor, matrix: Tensor) -> Tensor:
        counts.append(len(rows))
        return rows @ matrix.T

    monkeypatch.setattr(screening, "_whole", counted)
    return counts


def drawn(n: int, seed: int) -> Tensor:
    return torch.randn(n, WIDTH, generator=torch.Generator().manual_seed(seed))


def found(rows: Tensor, matrix: Tensor) -> tuple[Ranked, Ranked]:
    blocks = list(ends(rows, matrix, K))
    assert [len(block.largest.values) for block in blocks] == [128, 128, 44]
    sides = zip(*blocks, strict=True)
    up, down = (Ranked(*(torch.cat(parts) for parts in zip(*side, strict=True))) for side in sides)
    return up, down


def check(rows: Tensor, matrix: Tensor) -> None:
    """See that the values are those of a sort in float64, and at their columns; equal ones by lower index."""
    exact = rows.double() @ matrix.double().T
    for ranked, descending in zip(found(rows, matrix), (True, False), strict=True):
        expected = exact.sort(dim=1, descending=descending, stable=True).values[:, :K]
        torch.testing.assert_close(ranked.values.double(), expected, rtol=1e-5, atol=1e-4)
        torch.testing.assert_close(exact.gather(1, ranked.indices), expected, rtol=1e-5, atol=1e-4)
        assert all(len(set(row)) == K for row in ranked.indices.tolist())
        steps, tied = ranked.indices.diff(dim=1), ranked.values.diff(dim=1) == 0
        assert (steps[tied] > 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_ends_equal_a_sort_and_hardly_a_row_is_computed_whole(whole: list[int], dtype: torch.dtype) -> None:
    check(drawn(N_ROWS, 1), drawn(N_COLUMNS, 2).to(dtype))
    assert sum(whole) < 2 * N_ROWS / 10


def nearly_equal(matrix: Tensor) -> Tensor:
    """Return rows that bfloat16 can't tell apart."""
    return matrix[:1] + 1e-4 * matrix


def one_long(matrix: Tensor) -> Tensor:
    return torch.cat([matrix[:-1], 300 * matrix[-1:]])


def repeated(matrix: Tensor) -> Tensor:
    """Return two hundred of each row: more than are looked at are equal."""
    return matrix[:20].repeat(200, 1)


@pytest.mark.parametrize("make", [nearly_equal, one_long, repeated])
def test_what_rough_products_leave_open_is_computed_whole(whole: list[int], make: Callable[[Tensor], Tensor]) -> None:
    check(drawn(N_ROWS, 3), make(drawn(N_COLUMNS, 4)))
    assert sum(whole) > N_ROWS


@pytest.mark.usefixtures("whole")
def test_ties_of_whole_numbers_go_to_the_lower_column() -> None:
    rows, matrix = drawn(N_ROWS, 5).mul(2).round(), drawn(N_COLUMNS, 6).mul(2).round()
    exact = rows @ matrix.T
    for ranked, descending in zip(found(rows, matrix), (True, False), strict=True):
        expected = exact.sort(dim=1, descending=descending, stable=True)
        assert torch.equal(ranked.indices, expected.indices[:, :K])
        assert torch.equal(ranked.values, expected.values[:, :K])


def test_few_rows_are_computed_whole_at_once(whole: list[int]) -> None:
    rows, matrix = drawn(3, 7), drawn(N_COLUMNS, 8)
    (few,) = ends(rows, matrix, K)
    assert torch.equal(few.largest.values, (rows @ matrix.T).topk(K).values)
    assert whole == []
