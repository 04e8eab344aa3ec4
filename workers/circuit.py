"""The health of endpoints as all calls of this process see it: when to stop asking, and how often to ask again.

Knows no HTTP. Why none of the libraries: pybreaker holds its lock while a call lasts, so that calls wait for one
another; circuitbreaker has no lock, and lets every call probe an endpoint that may be back.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from schema.errors import LLMUnavailable

FAILURES = 10
"""In a row, of any calls: at 30 % of failures a circuit opens by chance once in 170,000 calls."""
OPEN_S = 15.0
PROBE_S = 5.0
"""How long calls wait for the outcome of the one that probes; a probe that hangs for longer is not the last."""
RETRY_SHARE = 0.1
"""Retries are at most this share of the calls, beyond those of the beginning: more would keep a sick endpoint sick."""
RETRIES_AT_FIRST = 10.0


class Circuit:
    """Refuses calls while an endpoint fails; then lets one through, and the others wait for what becomes of it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._changed = threading.Condition()
        self._failures = 0
        self._shut_until = 0.0
        self._probed_until = 0.0

    @contextmanager
    def passing(self, failure: type[Exception]) -> Iterator[None]:
        """Let a call through; `failure` counts against the endpoint, any other end is an answer.

        Raises: LLMUnavailable if the circuit is open.
        """
        self._enter()
        try:
            yield
        except failure:
            self._leave(failed=True)
            raise
        except BaseException:
            self._leave(failed=False)
            raise
        self._leave(failed=False)

    def _enter(self) -> None:
        with self._changed:
            if self._probed_until > time.monotonic():
                self._changed.wait_for(lambda: not self._probed_until, PROBE_S)
            if self._failures < FAILURES:
                return
            left_s = max(self._shut_until, self._probed_until) - time.monotonic()
            if left_s > 0:
                message = f"{self._name} failed {self._failures} times in a row; asked again in {left_s:.0f} s"
                raise LLMUnavailable(message, retry_after_s=max(left_s, 1.0))
            self._probed_until = time.monotonic() + PROBE_S

    def _leave(self, *, failed: bool) -> None:
        with self._changed:
            self._failures = self._failures + 1 if failed else 0
            self._shut_until = time.monotonic() + OPEN_S
            self._probed_until = 0.0
            self._changed.notify_all()


class RetryBudget:
    """Earned by calls, spent by retries."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._left = RETRIES_AT_FIRST

    def earn(self) -> None:
        """Count a call."""
        with self._lock:
            self._left = min(self._left + RETRY_SHARE, 10 * RETRIES_AT_FIRST)

    def spend(self) -> bool:
        """Return whether there is a retry left, which is then spent."""
        with self._lock:
            if self._left < 1:
                return False
            self._left -= 1
            return True


class Health:
    """What the calls to one endpoint share."""

    def __init__(self, name: str) -> None:
        self.circuit = Circuit(name)
        self.retries = RetryBudget()


@cache
def health_of(base_url: str) -> Health:
    """Return the one health of an endpoint."""
    return Health(base_url)
