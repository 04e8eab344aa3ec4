"""The doorbell: tells workers that there is work. It may be lost, late or doubled; Postgres has the truth.

A broker that is down or silent costs a bounded moment, is logged, and never fails a request.
"""

from collections.abc import Iterable

import structlog
from celery import Celery
from celery.exceptions import CeleryError
from kombu.exceptions import KombuError
from redis.exceptions import RedisError

from schema.doorbell import SENDING, TASK
from schema.settings import Settings
from schema.stages import Queue

_log = structlog.get_logger(__name__)


class Doorbell:
    """Rings the queues of one broker."""

    def __init__(self, redis_url: str) -> None:
        """Name the broker; nothing is connected before the first ring."""
        self._celery = Celery(broker=redis_url, set_as_current=False)
        self._celery.conf.update(SENDING)

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
