"""Calls in flight: many of one job, but never more of a process than an endpoint is to have."""

import contextvars
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


def together(call: Callable[[Item], Answer], items: Iterable[Item], limit: int) -> list[Answer]:
    """Return the answer to each item, in their order, with up to `limit` calls of this process in flight.

    The first failure is raised when the calls that have begun are over; the rest are not begun.
    """

    def permitted(item: Item) -> Answer:
        with _permits(limit):
            return call(item)

    with ThreadPoolExecutor(limit) as pool:
        begun = [pool.submit(contextvars.copy_context().run, permitted, item) for item in items]
        try:
            return [one.result() for one in begun]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


@cache
def _permits(limit: int) -> threading.BoundedSemaphore:
    return threading.BoundedSemaphore(limit)
