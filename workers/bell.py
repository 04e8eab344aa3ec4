"""The bell: tells other workers that there is work. A broker that is down or silent costs a bounded moment.

It has connections of its own. Those that messages are taken from wait for their broker for as long as it takes, and a
job must not.
"""

import threading
import time
from collections.abc import Sequence

import structlog
from celery import Celery
from celery.exceptions import CeleryError
from kombu.exceptions import KombuError
from redis.exceptions import RedisError

from schema.doorbell import SENDING, TASK
from schema.stages import Queue

_log = structlog.get_logger()
_RING_S = 3.0


class Bell:
    """Rings queues; after a failure it rests for a while, so that a broker that is away does not hold up every job.

    It is rung from a thread that is left alone if it does not come back: no time-out of the client covers everything.
    """

    def __init__(self, redis_url: str, *, rest_s: float) -> None:
        """Name the broker; nothing is connected before the first ring."""
        self._redis_url = redis_url
        self._rest_s = rest_s
        self._rests_until = 0.0
        self._celery = _sender(redis_url)

    def ring(self, queues: Sequence[Queue]) -> bool:
        """Send a doorbell to each queue and return whether all went out."""
        if not queues:
            return True
        if time.monotonic() < self._rests_until:
            return False
        failures: list[Exception] = []
        thread = threading.Thread(target=_send, args=(self._celery, queues, failures), name="bell", daemon=True)
        thread.start()
        thread.join(_RING_S)
        if thread.is_alive():
            self._celery = _sender(self._redis_url)
            failures.append(TimeoutError(f"the broker did not take it within {_RING_S:g} s"))
        if failures:
            self._rests_until = time.monotonic() + self._rest_s
            _log.warning("doorbell not rung", queues=queues, error=str(failures[0]))
        return not failures


def _send(celery: Celery, queues: Sequence[Queue], failures: list[Exception]) -> None:
    try:
        for queue in queues:
            celery.send_task(TASK, args=[queue], queue=queue, retry=False, ignore_result=True)
    except (KombuError, CeleryError, RedisError, OSError) as exc:
        failures.append(exc)


def _sender(redis_url: str) -> Celery:
    made = Celery(broker=redis_url, set_as_current=False)
    made.conf.update(SENDING)
    return made
