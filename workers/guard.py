"""Keeps a worker from a database that a later Glossarium has changed: it does not start there, and stops where it is.

Only the parent process of a worker does this; its children end with it.
"""

import os
import threading
import time

import structlog
from celery.worker import state

from schema.errors import NewerSchema, Unavailable
from schema.settings import Settings
from schema.store import database

EXIT_CODE = os.EX_CONFIG  # 78
_log = structlog.get_logger()


def prepare_database(settings: Settings) -> None:
    """Apply missing migrations; where the database is away the guard does it later.

    Raises: SystemExit with `EXIT_CODE` if a later Glossarium was here.
    """
    try:
        _prepare(settings)
    except NewerSchema as exc:
        _log.error("stopped", error=str(exc))
        raise SystemExit(EXIT_CODE) from exc


def start_guard(settings: Settings) -> threading.Thread:
    """Start the thread that looks at every sweep whether the worker may go on; it ends with the process."""
    thread = threading.Thread(target=_watch, args=(settings,), name="guard", daemon=True)
    thread.start()
    return thread


def _watch(settings: Settings) -> None:
    while True:
        time.sleep(settings.sweep_s)
        try:
            _prepare(settings)
        except NewerSchema as exc:
            _log.error("stopping", error=str(exc))
            state.should_stop = EXIT_CODE  # a warm shutdown: jobs in hand are finished first
            return


def _prepare(settings: Settings) -> None:
    try:
        database.prepare(settings.database_url)
    except Unavailable as exc:
        _log.warning("migrations not looked at", error=str(exc))
