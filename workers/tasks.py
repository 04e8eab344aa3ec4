"""What a doorbell does: claim one ready job of a queue, ring on, carry the job out.

Workers also look for themselves every few seconds (`start_watch`), so that work goes on when Redis is down and a lost
doorbell costs only a delay.
"""

import os
import socket
import threading
import time
from functools import cache

import psycopg
import structlog
from psycopg_pool import ConnectionPool

from schema.doorbell import TASK
from schema.errors import GlossariumError
from schema.settings import load_settings
from schema.stages import Queue, stages_of
from schema.store import database, sweeper
from schema.store.database import Connection
from workers.app import app
from workers.bell import Bell
from workers.engine import Engine
from workers.presence import tell_of_beat
from workers.refresh import refresh
from workers.rounds import start_rounds

_log = structlog.get_logger()
_CONNECTIONS = 12
"""Of a process, however many calls it has in flight: each needs one for milliseconds, before and after it."""


@cache
def connections() -> ConnectionPool[Connection]:
    """Return this process's connections to Postgres."""
    settings = load_settings()
    return database.open_pool(
        settings.database_url, max_size=_CONNECTIONS, statement_timeout_ms=settings.statement_timeout_ms
    )


@cache
def engine() -> Engine:
    """Return this process's engine."""
    return Engine(load_settings(), connections(), owner=f"{socket.gethostname()}:{os.getpid()}")


_busy: dict[str, threading.Semaphore] = {"subject": threading.Semaphore(1)}


@app.task(name=TASK)
def work(queue: Queue) -> None:
    """Carry out at most one ready job of a queue."""
    _work(queue)


@app.task(name="workers.sweep")
def sweep() -> None:
    """Do what beat rings for: return expired leases to ready, see to schedules, and ring for what has ready jobs."""
    try:
        with database.lend(connections()) as connection:
            tell_of_beat(connection)
        with database.lend(connections()) as connection:
            queues = sweeper.sweep(connection)
    except (GlossariumError, psycopg.Error) as exc:
        _log.warning("sweep failed", error=str(exc))
        return
    ring(sorted({*queues, *_refresh()}))


def ring(queues: list[Queue]) -> bool:
    """Send a doorbell to each queue, best effort, and return whether all went out."""
    return bell().ring(queues)


@cache
def bell() -> Bell:
    """Return this process's bell."""
    settings = load_settings()
    return Bell(settings.redis_url, rest_s=settings.sweep_s)


def start_watch(queue: Queue) -> threading.Thread:
    """Start the thread that sweeps and claims work that nobody rang for; it ends with the process."""
    every_s = load_settings().sweep_s
    return start_rounds(f"watch-{queue}", lambda: sweep_and_work(queue, time.monotonic() + every_s), every_s)


def sweep_and_work(queue: Queue, until: float) -> None:
    """Sweep once; ring for ready work and carry it out here, one job at least, until it is done or it is time.

    until:  by the monotonic clock; a job that is in hand then is finished.
    """
    with database.lend(connections()) as connection:
        queues = sweeper.sweep(connection)
    ring(_refresh())
    if queue not in queues:
        return
    ring([queue])
    while _work(queue) and time.monotonic() < until:
        pass


def _refresh() -> list[Queue]:
    """See to schedules, and return the queues that have new work; what goes wrong here must not keep from sweeping."""
    try:
        return refresh(connections(), load_settings())
    except (GlossariumError, psycopg.Error) as exc:
        _log.warning("schedules not seen to", error=str(exc))
        return []


def _work(queue: Queue) -> bool:
    """Claim and carry out one job; return whether there was one."""
    slot = _busy.get(queue)
    if slot is not None and not slot.acquire(blocking=False):
        return False
    try:
        return engine().work(stages_of(queue), ring)
    finally:
        if slot is not None:
            slot.release()
