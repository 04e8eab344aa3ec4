"""Calls in flight: many of each job, but never more of a process than an LLM's profile allows.

All jobs of a process share the threads of a profile. Each has at most one round of calls waiting, so that a small job
is not stuck behind a large one.
"""

import contextvars
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import cache
from typing import TypeVar

from schema.profiles import LLMProfile

Item = TypeVar("Item")
Answer = TypeVar("Answer")
WITHOUT_LLM = 4
"""What a job without an LLM does at once: little but to write rows."""


def together(call: Callable[[Item], Answer], items: Iterable[Item], llm: LLMProfile | None) -> list[Answer]:
    """Return the answer to each item, in their order, with as many calls of this process in flight as a profile allows.

    The first failure is raised when the calls that have begun are over; the rest are not begun.
    """
    width = llm.limits.in_flight if llm else WITHOUT_LLM
    pool = _threads(llm.name if llm else "", width)
    begun: dict[Future[Answer], int] = {}
    answers: dict[int, Answer] = {}
    try:
        for number, item in enumerate(items):
            if len(begun) >= width:
                answers |= _collect(begun)
            begun[pool.submit(contextvars.copy_context().run, call, item)] = number
        while begun:
            answers |= _collect(begun)
    finally:
        wait([future for future in begun if not future.cancel()])
    return [answers[number] for number in range(len(answers))]


def _collect(begun: dict[Future[Answer], int]) -> dict[int, Answer]:
    """Return the answers of the calls that are over, at least one, which are then no longer among those begun."""
    over = wait(begun, return_when=FIRST_COMPLETED).done
    return {begun.pop(future): future.result() for future in over}


@cache
def _threads(name: str, width: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(width, thread_name_prefix=f"llm-{name}")
