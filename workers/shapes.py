"""Batches of fixed shapes, so that what is computed of a row does not depend on the rows that happen to be beside it.

bf16 results (and float32's last digits) shift with the shape of a batch. Here the shape is a function of a row's own
length alone: any sharding, number of workers or order gives a row the same values.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeVar

STEP = 32  # tokens; rows are padded to a multiple of it

Item = TypeVar("Item")


class Shape(NamedTuple):
    """Rows and tokens of a batch, what is only padding included."""

    n_rows: int
    length: int


def shape_for(length: int, n_tokens: int) -> Shape:
    """Return the shape that rows of a length are read in: about n_tokens in all."""
    padded = max(1, -(-length // STEP)) * STEP
    return Shape(max(1, n_tokens // padded), padded)


def in_fixed_shapes(
    items: Iterable[Item], length: Callable[[Item], int], n_tokens: int
) -> Iterator[tuple[Shape, list[Item]]]:
    """Yield items with the shape that they are to be padded to, as many at once as the shape has rows, or fewer."""
    waiting: dict[Shape, list[Item]] = defaultdict(list)
    for item in items:
        shape = shape_for(length(item), n_tokens)
        waiting[shape].append(item)
        if len(waiting[shape]) == shape.n_rows:
            yield shape, waiting.pop(shape)
    yield from sorted(waiting.items(), key=lambda entry: entry[0])
