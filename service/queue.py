"""The doorbell: tells workers that there is work. It may be lost, late or doubled; Postgres has the truth.

A broker that is down or silent costs a bounded moment, is logged, and never fails a request.
"""

from collections.abc import Iterable

import structlog
from celery import Celery
from celery.exceptions import CeleryError
from kombu.exceptions import KombuError
from redis.exceptions import RedisError

from schema.settings import Settings
from schema.stages import Queue

_log = structlog.get_logger(__name__)

TASK = "workers.work"
_SOCKET_S = 1.0


class Doorbell:
    """Rings the queues of one broker."""

    def __init__(self, redis_url: str) -> None:
        """Name the broker; nothing is connected before the first ring."""
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

    def ring(self, queues: Iterable[Queue]) -> bool:
        """Tell the workers of some queues that there is work, and return whether the broker took it."""
        for queue in queues:
            try:
                self._celery.send_task(TASK, args=[queue], queue=queue, retry=False, ignore_result=True)
            except (KombuError, CeleryError, RedisError, OSError) as exc:
                _log.warning("doorbell lost; workers find the work by themselves", queue=queue, reason=str(exc))
                return False
        return True


def open_doorbell(settings: Settings) -> Doorbell:
    """Return the doorbell of the settings' broker."""
    return Doorbell(settings.redis_url)
