"""The pages of schedules: when each is due, what its refreshes changed, and what changes a schedule."""

import uuid
from datetime import UTC, datetime

import pytest
from playwright.sync_api import expect
from psycopg.types.json import Jsonb

from schema.errors import NotFound
from schema.records import Budget, Dictionary, RunSpec
from schema.schedules import Policy, Schedule, SchedulePatch, ScheduleSpec
from schema.store import database, refreshes
from service.pages.schedules import policy_in_words
from tests.pages.browsing import NARROW
from tests.pages.conftest import Visitor, serious
from tests.pages.planted_runs import HOSTILE
from tests.service.conftest import Api, make_key

BEFORE = {
    "label": "names of rivers in Europe",
    "status": "ok",
    "method": "lexical",
    "input_lift": 0.1,
    "output_lift": 0.2,
}


@pytest.fixture
def schedule(api: Api, neurons: Dictionary) -> Schedule:
    """Return a schedule whose first slot changed some labels."""
    run = RunSpec(dictionary_id=neurons.id, features="0-7", methods=("lexical",), budget=Budget(tokens=9000))
    made = api.client.create_schedule(ScheduleSpec(name=f"nightly {HOSTILE}", run=run, max_features=5))
    changes = {
        1: ("changed", BEFORE, {**BEFORE, "label": "names of lakes in Europe", "input_lift": 0.5}),
        4: ("new", {**BEFORE, "label": None, "status": "unlabelled", "input_lift": None}, {**BEFORE, "label": HOSTILE}),
        5: ("same", BEFORE, BEFORE),
        6: ("lost", BEFORE, {**BEFORE, "label": None, "status": "refused", "input_lift": None}),
    }
    with database.connect(api.settings.database_url) as connection:
        row = connection.execute(
            "INSERT INTO refresh "
            "(schedule_id, slot, state, n_stale, n_features, n_missed, reasons, changes, finished_at) "
            "VALUES (%s, %s, 'done', 6, 4, 2, %s, %s, now()) RETURNING id",
            (
                made.id,
                datetime(2026, 3, 29, 1, 0, tzinfo=UTC),
                Jsonb({"unlabelled": 1, "low_score": 3}),
                Jsonb({"changed": 1, "new": 1, "lost": 1, "same": 1}),
            ),
        ).fetchone()
        assert row is not None
        for feature, (change, before, after) in changes.items():
            connection.execute(
                "INSERT INTO refresh_feature (refresh_id, feature, reason, change, before, after) "
                "VALUES (%s, %s, 'low_score', %s, %s, %s)",
                (row[0], feature, change, Jsonb(before), Jsonb(after)),
            )
    return made


def test_schedules_are_listed_with_what_came_last(visit: Visitor, api: Api, schedule: Schedule) -> None:
    other = api.client.create_schedule(schedule.spec.model_copy(update={"name": "weekly"}))
    api.client.change_schedule(other.id, SchedulePatch(paused=True))
    window = visit(java_script_enabled=False)
    window.go("/schedules")
    rows = window.page.locator("tbody tr")
    weekly, nightly = rows.all_inner_texts()
    assert "paused" in weekly
    assert "not due yet" in weekly
    assert "<script>alert(1)</script>" in nightly
    for said in ("1 changed, 1 new, 1 lost, 1 same", "at most 5 a time", "9,000 tokens", "03:00 UTC"):
        assert said in nightly


def test_no_schedules_are_a_page_that_helps(visit: Visitor) -> None:
    window = visit()
    window.go("/schedules")
    assert "There are none yet" in window.page.locator("main").inner_text()
    assert window.go(f"/schedules/{uuid.uuid4()}").status == 404
    assert window.go("/schedules/nonsense").status == 422


def test_a_schedule_shows_its_next_slots_and_what_a_refresh_changed(
    visit: Visitor, api: Api, schedule: Schedule
) -> None:
    for options in ({"color_scheme": "light"}, {"color_scheme": "dark", "viewport": NARROW}):
        window = visit(**options)
        window.go(f"/schedules/{schedule.id}")
        page = window.page
        assert page.locator("#head time").count() == 3
        assert "and 2 missed before it" in page.locator("main").inner_text()
        rows = page.locator("table.diff tbody tr")
        assert [row.locator("td").first.inner_text() for row in rows.all()] == ["1", "4", "6"]
        assert (rows.first.locator("ins").inner_text(), rows.first.locator("del").inner_text()) == ("lakes", "rivers")
        assert "+0.10 → +0.50" in rows.first.inner_text()
        assert "– → +0.10" in rows.nth(1).inner_text()
        assert "ok → refused" in rows.nth(2).inner_text()
        assert serious(page) == []
    page.get_by_role("link", name="1 same", exact=True).press("Enter")
    expect(page.locator("table.diff tbody tr")).to_have_count(1)
    window.go(f"/schedules/{schedule.id}?limit=2")
    page.get_by_role("link", name="Next page").click()
    expect(page.locator("table.diff tbody tr")).to_have_count(1)


def test_a_schedule_is_paused_resumed_and_deleted(visit: Visitor, api: Api, schedule: Schedule) -> None:
    window = visit()
    window.go(f"/schedules/{schedule.id}")
    page = window.page
    page.get_by_role("button", name="Pause").press("Enter")
    expect(page.locator("#head .chip")).to_have_text("paused")
    assert api.client.schedule(schedule.id).paused
    expect(page.get_by_role("button", name="Resume")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#head")).to_contain_text("Next due")
    page.get_by_role("button", name="Delete …").press("Enter")
    page.get_by_role("button", name="Keep it").press("Enter")
    assert not api.client.schedule(schedule.id).paused
    page.get_by_role("button", name="Delete …").press("Enter")
    page.get_by_role("button", name="Delete the schedule").press("Enter")
    page.wait_for_url(f"{api.url}/schedules")
    with pytest.raises(NotFound):
        api.client.schedule(schedule.id)


def test_a_refresh_is_asked_for_and_watched_until_it_begins(visit: Visitor, api: Api, schedule: Schedule) -> None:
    window = visit()
    window.go(f"/schedules/{schedule.id}")
    page = window.page
    page.get_by_role("button", name="Refresh now").press("Enter")
    newest = page.locator("#past tbody tr").first
    expect(newest).to_contain_text("due")
    page.get_by_role("button", name="Refresh now").press("Enter")
    expect(page.locator(".said")).to_contain_text("is not over; wait for its end")
    refresh = next(api.client.refreshes(schedule.id))
    with database.connect(api.settings.database_url) as connection:
        refreshes.end(connection, refresh.id, "nothing")
    expect(newest).to_contain_text("nothing was stale")


def test_who_may_only_read_or_is_another_changes_and_sees_nothing(visit: Visitor, api: Api, schedule: Schedule) -> None:
    reader = visit(key=make_key(api.settings.database_url, "read"))
    reader.go(f"/schedules/{schedule.id}")
    assert reader.page.get_by_role("button", name="Delete").count() == 0
    stranger = visit(key=make_key(api.settings.database_url, "read", "another"))
    assert stranger.go(f"/schedules/{schedule.id}").status == 404
    stranger.go("/schedules")
    assert "nightly" not in stranger.page.locator("main").inner_text()


def test_policies_are_said_in_words() -> None:
    assert policy_in_words(Policy(unlabelled=False, failed=False, changed=False)) == []
    bounded = Policy(unlabelled=False, failed=False, changed=False, input_lift_below=0.2, older_than_days=30)
    assert [words.rsplit(": ", 1)[1] for words in policy_in_words(bounded)] == [
        "input lift below 0.2",
        "older than 30 days",
    ]
    assert len(policy_in_words(Policy())) == 3
