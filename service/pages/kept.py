"""Values that take long to find, shown again for a while: the longer one took, the longer.

So a page about very much costs little on average.
"""

import time
from collections.abc import Callable, Hashable
from datetime import UTC, datetime
from typing import Generic, NamedTuple, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

SHARE = 0.04
"""Of the time that may go into finding a value."""
_MOST = 100


class Known(NamedTuple, Generic[V]):
    """A value, and when it was so."""

    value: V
    at: datetime


class Kept(Generic[K, V]):
    """What was found lately, by key."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._found: dict[K, tuple[Known[V], float]] = {}

    def get(self, key: K, find: Callable[[], V]) -> Known[V]:
        """Return a value that is kept, or else find it."""
        known, until = self._found.get(key, (None, 0.0))
        began = time.monotonic()
        if known is not None and began < until:
            return known
        known = Known(find(), datetime.now(UTC))
        now = time.monotonic()
        self._found.pop(key, None)
        self._found[key] = (known, now + (now - began) / SHARE)
        for oldest in list(self._found)[:-_MOST]:
            self._found.pop(oldest, None)
        return known
