"""When schedules are due: cron lines in time zones, also on days with 23 and 25 hours."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schema import cron
from schema.errors import BadSchedule

NIGHTLY = "0 3 * * *"
ZONES = ("UTC", "Europe/Paris", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Africa/Casablanca")
LINES = (NIGHTLY, "30 2 * * *", "0 2 * * *", "*/15 * * * *", "15 */6 * * *", "5 1 * * SUN", "0 0 1 * *", "59 23 L * *")


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def slots(line: str, zone: str, start: str, n: int) -> list[str]:
    """Return the next n slots after a time as UTC."""
    found, now = [], utc(start)
    for _ in range(n):
        now = cron.following(line, zone, now)
        found.append(now.strftime("%m-%d %H:%M"))
    return found


def test_a_line_is_read_in_its_time_zone() -> None:
    assert slots(NIGHTLY, "UTC", "2026-01-10T12:00", 2) == ["01-11 03:00", "01-12 03:00"]
    assert slots(NIGHTLY, "Europe/Paris", "2026-01-10T12:00", 2) == ["01-11 02:00", "01-12 02:00"]
    assert slots(NIGHTLY, "Asia/Kathmandu", "2026-01-10T12:00", 2) == ["01-10 21:15", "01-11 21:15"]


def test_a_night_keeps_its_hour_over_a_change_of_the_clocks() -> None:
    assert slots(NIGHTLY, "Europe/Paris", "2026-03-27T12:00", 3) == ["03-28 02:00", "03-29 01:00", "03-30 01:00"]


def test_an_hour_that_is_left_out_fires_once_right_after_the_gap() -> None:
    # On 29 March 2026 Paris goes from 02:00 to 03:00, which is 01:00 UTC.
    assert slots("30 2 * * *", "Europe/Paris", "2026-03-27T12:00", 3) == ["03-28 01:30", "03-29 01:00", "03-30 00:30"]
    assert cron.latest("30 2 * * *", "Europe/Paris", utc("2026-03-29T00:59:59")) == utc("2026-03-28T01:30")
    assert cron.latest("30 2 * * *", "Europe/Paris", utc("2026-03-29T01:00")) == utc("2026-03-29T01:00")


def test_an_hour_that_comes_twice_fires_once() -> None:
    # On 25 October 2026 Paris goes from 03:00 back to 02:00: 02:30 is at 00:30 and at 01:30 UTC.
    assert slots("30 2 * * *", "Europe/Paris", "2026-10-24T12:00", 2) == ["10-25 00:30", "10-26 01:30"]


def test_a_line_of_minutes_goes_by_the_time_that_passes() -> None:
    assert len(set(slots("*/30 * * * *", "Europe/Paris", "2026-10-24T23:59", 50))) == 50
    assert slots("*/30 * * * *", "Europe/Paris", "2026-10-25T00:00", 3) == ["10-25 00:30", "10-25 01:00", "10-25 01:30"]


def test_the_latest_slot_may_be_now() -> None:
    assert cron.latest(NIGHTLY, "UTC", utc("2026-01-11T03:00")) == utc("2026-01-11T03:00")
    assert cron.latest(NIGHTLY, "UTC", utc("2026-01-11T03:00") - timedelta(microseconds=1)) == utc("2026-01-10T03:00")


@given(
    st.sampled_from(LINES),
    st.sampled_from(ZONES),
    st.integers(0, 2 * 365 * 24 * 3600).map(lambda s: utc("2025-01-01T00:00") + timedelta(seconds=s)),
)
def test_looking_back_finds_the_slots_of_looking_ahead(line: str, zone: str, now: datetime) -> None:
    ahead = cron.following(line, zone, now)
    assert ahead > now
    assert cron.latest(line, zone, ahead) == ahead
    before = cron.latest(line, zone, now)
    assert before is not None
    assert before <= now


def test_slots_between_two_times_are_counted() -> None:
    first, last = utc("2026-01-10T03:00"), utc("2026-01-14T03:00")
    assert cron.count_between(NIGHTLY, "UTC", first, last) == 3
    assert cron.count_between(NIGHTLY, "UTC", first, first + timedelta(days=1)) == 0
    assert cron.count_between("* * * * *", "UTC", first, last) == 1000


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("0 0 30 2 *", "Bad day-of-month"),
        ("* * */20 * 1L", "never fires"),
        ("0 3 * *", "has 4 fields"),
        ("0 0 3 * * *", "has 6 fields"),
        ("60 3 * * *", "Bad minute"),
        ("@daily", "has 1 fields"),
        ("", "has 0 fields"),
        ("x" * 300, "has 1 fields"),
    ],
)
def test_a_line_that_can_not_be_used_is_refused(line: str, says: str) -> None:
    with pytest.raises(BadSchedule, match=says):
        cron.check(line, "UTC")


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "../../etc/passwd", "Europe", "UTC\0"])
def test_a_time_zone_that_is_not_known_is_refused(zone: str) -> None:
    with pytest.raises(BadSchedule, match="time_zone="):
        cron.check(NIGHTLY, zone)
