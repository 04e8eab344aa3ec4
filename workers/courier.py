"""The courier: sends webhooks what they are owed. A thread of every control worker, that asks Postgres what is due.

It needs no doorbell. Of each webhook one delivery is under way at a time, so that a target that hangs keeps no other
waiting for longer than a round.
"""

import math
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

import structlog
from psycopg_pool import ConnectionPool

from schema import targets
from schema.errors import BadTarget, Unavailable
from schema.release import release
from schema.settings import Settings
from schema.store import database, deliveries
from schema.store.database import Connection
from schema.store.deliveries import Claimed
from schema.targets import Resolver
from schema.webhooks import DELIVERY_HEADER, EVENT_HEADER, SIGNATURE_HEADER, secret_of, signature
from workers.posting import post
from workers.rounds import start_rounds

_log = structlog.get_logger()

TIMEOUT_S = 10.0
AT_ONCE = 8
_LEASE_S = 90.0  # longer than a resolver and a request together
_FORGET_S = 3600.0


class Courier:
    """Sends what is due, round by round."""

    def __init__(
        self,
        settings: Settings,
        pool: ConnectionPool[Connection],
        *,
        resolve: Resolver = targets.resolve,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._settings = settings
        self._pool = pool
        self._resolve = resolve
        self._timeout_s = timeout_s
        self._forgotten_at = -math.inf

    def go_round(self) -> None:
        """Send all that is due; once an hour, forget deliveries of long ago.

        Raises: Unavailable if the database does not answer.
        """
        while self.deliver():
            pass
        if time.monotonic() - self._forgotten_at >= _FORGET_S:
            self._forgotten_at = time.monotonic()
            self.forget()

    def deliver(self) -> int:
        """Send one delivery to each of some webhooks that are owed any, and return to how many.

        Raises: Unavailable if the database does not answer.
        """
        with database.lend(self._pool) as connection:
            claimed = deliveries.claim(connection, most=AT_ONCE, lease_s=_LEASE_S)
        if claimed:
            with ThreadPoolExecutor(len(claimed), "courier") as threads:
                list(threads.map(self._carry, claimed))
        return len(claimed)

    def forget(self) -> None:
        """Delete deliveries of long ago."""
        with database.lend(self._pool) as connection:
            deliveries.forget(connection)

    def _carry(self, delivery: Claimed) -> None:
        error = self._send(delivery)
        log = _log.bind(webhook=str(delivery.webhook_id), delivery=str(delivery.notice.id))
        log.info("delivery sent" if error is None else "delivery failed", attempt=delivery.attempt, error=error)
        with database.lend(self._pool) as connection:
            disabled = deliveries.settle(connection, delivery, error)
        if disabled:
            log.warning("webhook disabled", error=error)

    def _send(self, delivery: Claimed) -> str | None:
        """Return why a delivery did not arrive, None if it did."""
        notice = delivery.notice
        body, now = notice.model_dump_json().encode(), int(time.time())
        try:
            headers = {
                "Content-Type": "application/json",
                "User-Agent": f"Glossarium/{release()}",
                DELIVERY_HEADER: str(notice.id),
                EVENT_HEADER: notice.event,
                SIGNATURE_HEADER: signature(secret_of(self._settings.secret, delivery.webhook_id), now, body),
            }
            target = targets.locate(delivery.url, self._settings.webhook_hosts, self._resolve)
            status = post(target, headers, body, timeout_s=self._timeout_s)
        except (BadTarget, Unavailable) as exc:
            return str(exc)
        except Exception as exc:  # a fault of ours: it costs this delivery an attempt, and no other one its turn
            _log.error("not sent", delivery=str(notice.id), error=repr(exc), trace=traceback.format_exc())
            return f"{type(exc).__name__}; the log of the control worker says more"
        if 300 <= status < 400:
            return f"HTTP {status}; redirects are not followed: give the URL that they lead to"
        return None if 200 <= status < 300 else f"HTTP {status}"


def start_courier(settings: Settings, pool: ConnectionPool[Connection]) -> threading.Thread:
    """Start the thread that sends what is due; it ends with the process."""
    return start_rounds("courier", Courier(settings, pool).go_round, settings.watch_s)
