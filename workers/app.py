"""The Celery app: how doorbells travel. A message names a queue and nothing else; it may be lost or doubled.

Postgres is the truth. The time-outs are there because a broker connection that goes silent without closing otherwise
stops a worker for good (measured: 0 of 24 tasks in 135 s with default options).
"""

import os
from typing import Any

from celery import Celery
from celery.signals import celeryd_init, setup_logging, worker_process_init, worker_ready

from schema.logs import configure_logging
from schema.settings import Settings, load_settings
from schema.stages import QUEUE_NAMES, Queue
from workers.beat import entries
from workers.guard import prepare_database, start_guard
from workers.presence import start_presence

_QUEUES_VARIABLE = "GLOSSARIUM_WORKER_QUEUES"  # how a spawned child learns what its parent was started with


def _make_app() -> Celery:
    settings = load_settings()
    made = Celery("glossarium", broker=settings.redis_url, include=["workers.tasks"])
    made.conf.update(
        task_ignore_result=True,
        result_backend=None,
        task_default_queue="control",
        worker_prefetch_multiplier=1,
        worker_pool_start_method="spawn",  # CUDA does not survive a fork
        worker_proc_alive_timeout=60,  # a spawned child on a busy machine takes longer than the 4 s of the default
        worker_max_memory_per_child=_max_kilobytes(settings),
        worker_hijack_root_logger=False,
        worker_send_task_events=False,
        worker_enable_remote_control=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_pool_limit=4,
        broker_transport_options={
            "socket_timeout": 5,
            "socket_connect_timeout": 3,
            "health_check_interval": 10,
            "retry_on_timeout": True,
        },
        beat_schedule=entries(settings),
        timezone="UTC",
    )
    return made


def _max_kilobytes(settings: Settings) -> int:
    """Return after how much resident memory a spawned child is replaced, between two jobs: most of the machine's."""
    if settings.max_memory_mb is not None:
        return settings.max_memory_mb * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1024 * 3 // 4


app = _make_app()


@setup_logging.connect
def _own_logging(**_: Any) -> None:
    configure_logging(load_settings())


@celeryd_init.connect
def _prepare(options: dict[str, Any] | None = None, **_: Any) -> None:
    """Refuse the database of a later Glossarium before anything else, and remember the queues for spawned children."""
    prepare_database(load_settings())
    queues = (options or {}).get("queues") or ()
    os.environ[_QUEUES_VARIABLE] = queues if isinstance(queues, str) else ",".join(queues)


@worker_process_init.connect
def _start_in_child(**_: Any) -> None:
    """Begin to claim unrung work in a spawned child (the subject worker)."""
    configure_logging(load_settings())
    _start_threads()


@worker_ready.connect
def _start_in_parent(sender: Any = None, **_: Any) -> None:
    """See when to stop, and begin to claim unrung work where threads do it (llm and control workers)."""
    start_guard(load_settings())
    for queue in _queues():
        start_presence(load_settings(), str(getattr(sender, "hostname", queue)), queue)
    if type(getattr(sender, "pool", None)).__module__ == "celery.concurrency.thread":  # the sender is the consumer
        _start_threads()


def _start_threads() -> None:
    """Begin to claim unrung work of this process's queues; with control among them, also to index and to send."""
    from workers.courier import start_courier
    from workers.indexing import start_indexer
    from workers.tasks import connections, start_watch

    for queue in _queues():
        start_watch(queue)
    if "control" in _queues():
        start_courier(load_settings(), connections())
        start_indexer(connections(), load_settings())


def _queues() -> list[Queue]:
    """Return the queues that this worker was started with."""
    named = os.environ.get(_QUEUES_VARIABLE, "").split(",")
    return [queue for queue in QUEUE_NAMES if queue in named]
