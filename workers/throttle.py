"""How fast a profile may be asked: buckets of requests and of tokens that all calls of this process share.

Why no library: aiolimiter is for asyncio alone, and pyrate-limiter keeps an item for every token that is counted.
"""

import threading
import time
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from schema.profiles import Limits, LLMProfile

BURST_S = 10.0
"""What may be asked at once after a rest is what is allowed in this time."""
BYTES_PER_TOKEN = 4
"""Of the prompts, roughly; what a reply reports corrects it."""
_SLICE_S = 2.0  # between signs of life


def estimate_tokens(messages: Sequence[Any]) -> int:
    """Return about how many tokens the messages of a chat are, by their bytes."""
    return sum(len(message["content"].encode("utf-8", "replace")) for message in messages) // BYTES_PER_TOKEN + 1


class Bucket:
    """Units that flow in at a rate. Whoever takes more than there are waits for them, in the order of asking."""

    def __init__(self, per_minute: float) -> None:
        self._per_s = per_minute / 60
        self._most = self._per_s * BURST_S
        self._level = self._most
        self._at = time.monotonic()
        self._lock = threading.Lock()

    def take(self, n: float) -> float:
        """Take units, negative ones give back, and return the seconds until they are there."""
        with self._lock:
            now = time.monotonic()
            self._level = min(self._level + (now - self._at) * self._per_s, self._most)
            self._at = now
            self._level -= n
            # Even the first call may be larger than the bucket; it goes out from a full one.
            return max(0.0, -self._level - max(0.0, n - self._most)) / self._per_s


class Throttle:
    """The limits of one profile."""

    def __init__(self, limits: Limits) -> None:
        self._requests = Bucket(limits.requests_per_minute) if limits.requests_per_minute else None
        self._tokens = Bucket(limits.tokens_per_minute) if limits.tokens_per_minute else None

    def wait(self, n_tokens: int, sign_of_life: Callable[[], None]) -> None:
        """Return when a request of about so many tokens may go out.

        sign_of_life:  called every two seconds; what it raises ends the wait, and the request is not counted.
        """
        left_s = max(_take(self._requests, 1), _take(self._tokens, n_tokens))
        try:
            while left_s > 0:
                time.sleep(min(left_s, _SLICE_S))
                left_s -= _SLICE_S
                sign_of_life()
        except BaseException:
            _take(self._requests, -1)
            _take(self._tokens, -n_tokens)
            raise

    def settle(self, n_expected: int, n_used: int) -> None:
        """Correct what a request was counted as by what it used."""
        _take(self._tokens, n_used - n_expected)


def _take(bucket: Bucket | None, n: float) -> float:
    return bucket.take(n) if bucket is not None else 0.0


def throttle_of(profile: LLMProfile) -> Throttle:
    """Return the one throttle of a profile."""
    return _throttle(profile.name, profile.base_url, profile.limits)


@cache
def _throttle(name: str, base_url: str, limits: Limits) -> Throttle:
    return Throttle(limits)
