"""A few calls at once, in order of what they are about."""

import contextvars
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

IN_FLIGHT = 2  # of one job; a worker has as many jobs in hand as it has threads

Item = TypeVar("Item")
Answer = TypeVar("Answer")


def together(call: Callable[[Item], Answer], items: Iterable[Item]) -> list[Answer]:
    """Return the answer to each item, in their order, with a few calls in flight.

    The first failure is raised when the calls that have begun are over; the rest are not begun.
    """
    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        begun = [pool.submit(contextvars.copy_context().run, call, item) for item in items]
        try:
            return [one.result() for one in begun]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
