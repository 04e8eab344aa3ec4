"""Workers and beat, by what they say of themselves in the database: whether they are there, and see what we see."""

from collections.abc import Iterator

import psycopg

from schema.blobs import open_blobs
from schema.errors import DatabaseUnavailable, Unavailable
from schema.processes import BEAT, Seen, secret_digest
from schema.release import release
from schema.settings import Settings
from schema.stages import QUEUE_NAMES
from schema.store import database, processes
from service.doctor.finding import Finding, failed, ok, warning
from service.folder import MIN_FREE_BYTES

SKEW_S = 5.0
_MISSED = 4
"""Times that a process may miss to say that it is there: a machine may be busy."""


def check_processes(settings: Settings) -> Iterator[Finding]:
    """Yield which workers are there, and where what they see is not what this process sees."""
    try:
        with database.connect(settings.database_url, statement_timeout_ms=10_000) as connection:
            seen, skew_s = processes.seen(connection), processes.skew_s(connection)
    except (DatabaseUnavailable, psycopg.Error):
        advice = "see to the database first"
        yield failed("workers", "not known: they say in the database that they are there", advice)
        return
    patience_s = _MISSED * settings.sweep_s
    alive = [process for process in seen if process.age_s <= patience_s]
    for queue in QUEUE_NAMES:
        yield _workers(queue, seen, alive)
    yield _beat(seen, alive, patience_s)
    yield _clocks(skew_s, alive)
    workers = [process for process in alive if process.kind != BEAT]
    yield _shared_blobs(settings, workers)
    yield _shared_secret(settings, workers)
    yield _releases(workers)
    yield from _disks(workers)


def _workers(queue: str, seen: list[Seen], alive: list[Seen]) -> Finding:
    check = f"{queue} worker"
    names = [process.name for process in alive if process.kind == queue]
    if names:
        return ok(check, ", ".join(names))
    gone = min((process.age_s for process in seen if process.kind == queue), default=None)
    said = "none was seen within a day" if gone is None else f"the last one was seen {gone:.0f} s ago"
    return failed(check, said, f"start one: celery -A workers.app worker -Q {queue}; its log says why it ends")


def _beat(seen: list[Seen], alive: list[Seen], patience_s: float) -> Finding:
    if any(process.kind == BEAT for process in alive):
        return ok("beat", "a worker hears it")
    up_s = max((process.up_s for process in alive if process.kind == "control"), default=patience_s)
    if up_s < patience_s:
        said = f"it is not heard yet: who would hear it started {up_s:.0f} s ago"
        return warning("beat", said, f"look again in {patience_s - up_s:.0f} s")
    ages = [process.age_s for process in seen if process.kind == BEAT]
    said = f"it was last heard {ages[0]:.0f} s ago" if ages else "it was not heard within a day"
    return failed("beat", said, "start celery -A workers.app beat; it is heard by way of Redis and a control worker")


def _clocks(skew_s: float, alive: list[Seen]) -> Finding:
    skews = {"this machine": skew_s, **{one.name: one.skew_s for one in alive if one.skew_s is not None}}
    wrong = [f"{name} by {-skew:+.0f} s" for name, skew in skews.items() if abs(skew) > SKEW_S]
    if wrong:
        advice = "set the clocks (NTP): schedules, expiry and logs go by them"
        return failed("clocks", f"differ from the database's: {', '.join(wrong)}", advice)
    return ok("clocks", f"agree to {max(map(abs, skews.values())):.1f} s")


def _shared_blobs(settings: Settings, workers: list[Seen]) -> Finding:
    advice = "give all processes one GLOSSARIUM_BLOBS_URL that every machine can write"
    blind = [worker.name for worker in workers if worker.blobs is None]
    if blind:
        return failed("shared blobs", f"can't be used by {', '.join(blind)}", advice)
    try:
        own = open_blobs(settings).identity()
    except Unavailable as exc:
        return failed("shared blobs", f"not known: {exc}", "see to the blobs here first")
    others = [worker.name for worker in workers if worker.blobs != own]
    if others:
        return failed("shared blobs", f"{', '.join(others)} see another store than this process", advice)
    return ok("shared blobs", f"{len(workers)} workers see the same store" if workers else "no worker to compare with")


def _shared_secret(settings: Settings, workers: list[Seen]) -> Finding:
    others = [worker.name for worker in workers if worker.secret != secret_digest(settings)]
    if others:
        advice = "give all processes the same GLOSSARIUM_SECRET"
        return failed("shared secret", f"{', '.join(others)} have another one than this process", advice)
    return ok("shared secret", "is the same everywhere" if workers else "no worker to compare with")


def _releases(workers: list[Seen]) -> Finding:
    others = [f"{worker.name} is {worker.release}" for worker in workers if worker.release != release()]
    if others:
        return warning("releases", f"this is {release()}; {', '.join(others)}", "finish the update everywhere")
    return ok("releases", f"all are {release()}")


def _disks(workers: list[Seen]) -> Iterator[Finding]:
    for worker in workers:
        if worker.free_bytes is not None and worker.free_bytes < MIN_FREE_BYTES:
            said = f"{worker.free_bytes / 2**30:.1f} GiB are free for {worker.name}"
            yield failed("disk", said, "make room on its machine: its jobs are given back until there is")
