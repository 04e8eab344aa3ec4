"""When a schedule is due: cron lines of five fields, read in a time zone. Pure; times in and out are aware.

Around a change of the clocks a line that names an hour fires once, as Debian's cron has it: a time that is left out
fires right after the gap, one that comes twice fires the first time. A line whose minute or hour begins with `*` goes
by the time that passes.
"""

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from schema.errors import BadSchedule

_FORM = "use five fields, minute hour day month weekday, such as 0 3 * * *"
_COUNTED = 1000


def check(cron: str, time_zone: str) -> None:
    """Refuse a line that is not understood or never fires, and a time zone that is not known.

    Raises: BadSchedule, with the value and what to do.
    """
    following(cron, time_zone, datetime.now(UTC))


def following(cron: str, time_zone: str, now: datetime) -> datetime:
    """Return the first slot after a time, in UTC. Raises BadSchedule."""
    slot = next(_simulation(cron, now.astimezone(_zone(time_zone)), reverse=False), None)
    if slot is None:
        raise BadSchedule(f"cron={cron!r} never fires: no such day in the next 50 years; {_FORM}")
    return slot.astimezone(UTC)


def latest(cron: str, time_zone: str, now: datetime) -> datetime | None:
    """Return the last slot at or before a time, in UTC; None where the line never fired. Raises BadSchedule."""
    return next(_earlier(cron, time_zone, now), None)


def count_between(cron: str, time_zone: str, first: datetime, last: datetime) -> int:
    """Return how many slots lie between two times, without both; a thousand stands for all that are more."""
    earlier = _earlier(cron, time_zone, last - timedelta(seconds=1))
    return sum(1 for _ in itertools.takewhile(lambda slot: slot > first, itertools.islice(earlier, _COUNTED)))


def _earlier(cron: str, time_zone: str, now: datetime) -> Iterator[datetime]:
    """Yield the slots at or before a time, the last one first."""
    start = now.replace(microsecond=0) + timedelta(seconds=1)  # the simulation leaves out where it starts
    found = _simulation(cron, start.astimezone(_zone(time_zone)), reverse=True)
    return (utc for slot in found if (utc := slot.astimezone(UTC)) <= now)


def _simulation(cron: str, start: datetime, *, reverse: bool) -> CronSim:
    if len(cron.split()) != 5:
        raise BadSchedule(f"cron={cron!r} has {len(cron.split())} fields; {_FORM}")
    try:
        return CronSim(cron, start, reverse=reverse)
    except CronSimError as exc:
        raise BadSchedule(f"cron={cron!r}: {exc}; {_FORM}") from exc


@cache
def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError) as exc:  # ZoneInfoNotFoundError is a KeyError; folders are OSErrors
        raise BadSchedule(f"time_zone={name!r} is not known; use a name such as UTC or Europe/Paris") from exc
