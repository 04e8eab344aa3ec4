"""The bell: tells other workers that there is work. A broker that is down or silent costs a bounded moment.

It has connections of its own. Those that messages are taken from wait for their broker for as long as it takes, and a
job must not.
"""

import time
from collections.abc import Sequence

import structlog
from celery import Celery
from celery.exceptions import CeleryError
from kombu.exceptions import KombuError
from redis.exceptions import RedisError

from schema.stages import Queue

_log = structlog.get_logger()
TASK = "workers.work"
_SOCKET_S = 1.0


class Bell:
    """Rings queues; after a failure it rests for a while, so that a broker that is away does not hold up every job."""

    def __init__(self, redis_url: str, *, rest_s: float) -> None:
        """Name the broker; nothing is connected before the first ring."""
        self._rest_s = rest_s
        self._rests_until = 0.0
        self._celery = Celery(broker=redis_url, set_as_current=False)
        self._celery.conf.update(
            task_ignore_result=True,
            broker_connection_timeout=_SOCKET_S,
            broker_connection_retry=False,
            broker_pool_limit=2,
            broker_transport_options={
                "socket_timeout": _SOCKET_S,
                "socket_connect_timeout": _SOCKET_S,
                "retry_on_timeout": False,
                "max_retries": 0,
            },
        )

    def ring(self, queues: Sequence[Queue]) -> bool:
        """Send a doorbell to each queue and return whether all went out."""
        if time.monotonic() < self._rests_until:
            return False
        try:
            for queue in queues:
                self._celery.send_task(TASK, args=[queue], queue=queue, retry=False, ignore_result=True)
        except (KombuError, CeleryError, RedisError, OSError) as exc:
            self._rests_until = time.monotonic() + self._rest_s
            _log.warning("doorbell not rung", queues=queues, error=str(exc))
            return False
        return True
