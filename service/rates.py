"""Rate limits of keys: counted in Redis for all processes together, and by each process alone while Redis is away."""

import math
import threading
import time
from typing import Literal
from uuid import UUID

import redis
import structlog
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage, RedisStorage
from limits.strategies import MovingWindowRateLimiter, RateLimiter

from schema.errors import RateLimited
from schema.settings import Settings

_log = structlog.get_logger(__name__)

Kind = Literal["reads", "changes"]

_SOCKET_S = 0.25
_AWAY_S = 10.0
"""For so long Redis is not asked again once it did not answer."""


class Rates:
    """How often the keys of an installation may be used."""

    def __init__(self, redis_url: str, per_minute: dict[Kind, int | None]) -> None:
        """Name the server that counts, and the requests of each kind in a minute; None for any number."""
        self._limits = {kind: RateLimitItemPerMinute(n) for kind, n in per_minute.items() if n is not None}
        pool = redis.ConnectionPool.from_url(
            redis_url, socket_timeout=_SOCKET_S, socket_connect_timeout=_SOCKET_S, retry=None
        )
        shared = RedisStorage(redis_url, connection_pool=pool, key_prefix="glossarium")
        self._shared: RateLimiter = MovingWindowRateLimiter(shared)
        self._own: RateLimiter = MovingWindowRateLimiter(MemoryStorage())
        self._away_until: float | None = None
        self._lock = threading.Lock()

    def count(self, key_id: UUID, kind: Kind) -> None:
        """Count a request of a key.

        Raises: RateLimited where there were too many in the last minute.
        """
        limit = self._limits.get(kind)
        if limit is None:
            return
        retry_after_s = self._refused(limit, f"{key_id}:{kind}")
        if retry_after_s is not None:
            raise RateLimited(
                f"{limit.amount} {kind} a minute are what one key may send; try again in {retry_after_s:.0f} s (the "
                f"operator sets GLOSSARIUM_{kind.upper()}_PER_MINUTE)",
                retry_after_s=retry_after_s,
            )

    def _refused(self, limit: RateLimitItemPerMinute, who: str) -> float | None:
        """Return after how many whole seconds a request may come again, None if it may now."""
        if self._is_to_be_asked():
            try:
                seconds = _hit(self._shared, limit, who)
            except redis.RedisError as exc:
                self._away_until = time.monotonic() + _AWAY_S
                _log.warning("Redis counts no requests; this process does so alone", reason=str(exc), again_s=_AWAY_S)
            else:
                self._away_until = None
                return seconds
        return _hit(self._own, limit, who)

    def _is_to_be_asked(self) -> bool:
        """Return whether to ask Redis: always while it answers, and once in a while, by one request, if it did not."""
        with self._lock:
            if self._away_until is None:
                return True
            if time.monotonic() < self._away_until:
                return False
            self._away_until = time.monotonic() + _AWAY_S
            return True


def open_rates(settings: Settings) -> Rates:
    """Return the rate limits of the settings."""
    return Rates(settings.redis_url, {"reads": settings.reads_per_minute, "changes": settings.changes_per_minute})


def _hit(limiter: RateLimiter, limit: RateLimitItemPerMinute, who: str) -> float | None:
    if limiter.hit(limit, who):
        return None
    return max(1.0, math.ceil(limiter.get_window_stats(limit, who).reset_time - time.time()))
