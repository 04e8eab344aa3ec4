"""Rounds: what a thread of a worker does again and again while its process lives, whatever goes wrong in one."""

import threading
import time
import traceback
from collections.abc import Callable

import psycopg
import structlog

from schema.errors import GlossariumError

_log = structlog.get_logger()


def start_rounds(name: str, go: Callable[[], object], every_s: float) -> threading.Thread:
    """Start the thread `name`, which goes its round every few seconds; it ends with the process."""
    thread = threading.Thread(target=go_rounds, args=(name, go, every_s), name=name, daemon=True)
    thread.start()
    return thread


def go_rounds(name: str, go: Callable[[], object], every_s: float) -> None:
    """Go a round every few seconds, or at once where one took longer, for ever: the next one may go better."""
    while True:
        began = time.monotonic()
        try:
            go()
        except (GlossariumError, psycopg.Error, OSError) as exc:
            _log.warning("round failed", thread=name, error=str(exc))
        except Exception as exc:  # a fault of ours: it must not end what no other thread of this process does
            _log.error("round failed", thread=name, error=repr(exc), trace=traceback.format_exc())
        time.sleep(max(0.0, began + every_s - time.monotonic()))
