"""Says every few seconds that this worker is there, and what it sees of what all processes must share.

A thread of the worker's parent process, so that it says so however long a job takes. Jobs know nothing of it.
"""

import shutil
import threading

import structlog

from schema.blobs import open_blobs
from schema.errors import Unavailable
from schema.processes import BEAT, Presence, secret_digest
from schema.release import release
from schema.settings import Settings
from schema.store import database, processes
from schema.store.database import Connection
from workers.rounds import start_rounds

_log = structlog.get_logger()
_STATEMENT_TIMEOUT_MS = 10_000


def start_presence(settings: Settings, name: str, kind: str) -> threading.Thread:
    """Start the thread that tells of the worker `name`, which serves the queue `kind`; it ends with the process."""
    fresh = True

    def go() -> None:
        nonlocal fresh
        tell(settings, name, kind, fresh=fresh)
        fresh = False

    return start_rounds("presence", go, settings.sweep_s)


def tell(settings: Settings, name: str, kind: str, *, fresh: bool = False) -> None:
    """Tell once. Raises DatabaseUnavailable."""
    with (
        database.connect(
            settings.database_url, autocommit=True, statement_timeout_ms=_STATEMENT_TIMEOUT_MS
        ) as connection,
        database.translated(),
    ):
        presence = look(settings, name, kind, processes.skew_s(connection))
        processes.tell(connection, presence, fresh=fresh)
    if settings.alive_file is not None:
        settings.alive_file.touch()


def look(settings: Settings, name: str, kind: str, skew_s: float) -> Presence:
    """Return what a process sees; what it can't see is None."""
    return Presence(
        name=name,
        kind=kind,
        release=release(),
        blobs=_blobs(settings),
        secret=secret_digest(settings),
        skew_s=skew_s,
        free_bytes=_free_bytes(settings),
    )


def tell_of_beat(connection: Connection) -> None:
    """Note that beat has rung: it knows no database, so whoever hears it tells."""
    processes.tell(connection, Presence(name=BEAT, kind=BEAT, release=release()))


def _blobs(settings: Settings) -> str | None:
    try:
        return open_blobs(settings).identity()
    except Unavailable as exc:
        _log.warning("the store of blobs can't be used", error=str(exc))
        return None


def _free_bytes(settings: Settings) -> int | None:
    try:
        return shutil.disk_usage(settings.data_dir).free
    except OSError:
        return None
