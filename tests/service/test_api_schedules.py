"""Schedules over HTTP and on the command line."""

import json
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from psycopg.types.json import Jsonb
from typer.testing import CliRunner, Result

from schema.errors import BadSchedule, Conflict, InvalidInput, NotFound
from schema.records import Dictionary, RunSpec
from schema.schedules import FeatureDiff, Policy, Schedule, SchedulePatch, ScheduleSpec
from schema.store import database, refreshes
from service import diffs, schedule_examples
from service.cli import app
from tests.service.conftest import Api, SpecMaker

Glossarium = Callable[..., Result]


@pytest.fixture
def spec(neurons: Dictionary) -> ScheduleSpec:
    """Return what is asked of a schedule."""
    run = RunSpec(dictionary_id=neurons.id, features="0-7", methods=("lexical",))
    return ScheduleSpec(name="nightly", run=run, cron="0 3 * * *", time_zone="Europe/Paris", policy=Policy(tries=2))


@pytest.fixture
def schedule(api: Api, spec: ScheduleSpec) -> Schedule:
    return api.client.create_schedule(spec)


@pytest.fixture
def glossarium(api: Api, monkeypatch: pytest.MonkeyPatch) -> Glossarium:
    """Return a caller of the command whose API is the test's."""
    monkeypatch.setenv("GLOSSARIUM_API_URL", api.url)
    monkeypatch.setenv("COLUMNS", "220")
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


def told(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def add_refresh(api: Api, schedule: Schedule, **fields: object) -> uuid.UUID:
    """Store what a slot led to."""
    values = {"slot": datetime(2026, 3, 29, 1, 0, tzinfo=UTC), "state": "done", "run_id": None, **fields}
    with database.connect(api.settings.database_url) as connection:
        row = connection.execute(
            "INSERT INTO refresh (schedule_id, slot, state, run_id, n_stale, n_features, reasons, changes) "
            "VALUES (%s, %s, %s, %s, 3, 2, %s, %s) RETURNING id",
            (
                schedule.id,
                values["slot"],
                values["state"],
                values["run_id"],
                Jsonb({"unlabelled": 1, "prompt": 1}),
                Jsonb({"new": 1, "changed": 1}),
            ),
        ).fetchone()
    assert row is not None
    found: uuid.UUID = row[0]
    return found


def add_diff(api: Api, refresh_id: uuid.UUID) -> list[FeatureDiff]:
    """Store the diff of a refresh: a label that changed, a new one, and one that stayed."""
    example = FeatureDiff.model_validate(schedule_examples.FEATURE_DIFF)
    assert example.after is not None
    nothing = example.before.model_copy(update={"label": None, "input_lift": None})
    made = [
        example.model_copy(update={"feature": 1}),
        example.model_copy(update={"feature": 4, "change": "new", "reason": "unlabelled", "before": nothing}),
        example.model_copy(update={"feature": 5, "change": "same", "after": example.before}),
    ]
    with database.connect(api.settings.database_url) as connection:
        for item in made:
            assert item.after is not None
            connection.execute(
                "INSERT INTO refresh_feature (refresh_id, feature, reason, change, before, after) "
                "VALUES (%s, %s, %s, %s, %s, %s)",
                (
                    refresh_id,
                    item.feature,
                    item.reason,
                    item.change,
                    Jsonb(item.before.model_dump()),
                    Jsonb(item.after.model_dump()),
                ),
            )
    return made


def test_a_schedule_is_made_found_changed_and_deleted(api: Api, spec: ScheduleSpec) -> None:
    made = api.client.create_schedule(spec)
    assert (made.spec, made.paused) == (spec, False)
    assert made.next_slot is not None
    assert api.client.schedule(made.id) == made
    assert list(api.client.schedules()) == [made]
    paused = api.client.change_schedule(made.id, SchedulePatch(paused=True))
    assert (paused.paused, paused.next_slot) == (True, None)
    moved = api.client.change_schedule(made.id, SchedulePatch(cron="30 4 * * *", paused=False, max_features=10))
    assert moved.spec == spec.model_copy(update={"cron": "30 4 * * *", "max_features": 10})
    api.client.delete_schedule(made.id)
    for ask in (api.client.schedule, api.client.delete_schedule, lambda id_: list(api.client.refreshes(id_))):
        with pytest.raises(NotFound):
            ask(made.id)


def test_the_same_request_makes_one_schedule(api: Api, spec: ScheduleSpec) -> None:
    first = api.client.create_schedule(spec, "key")
    assert api.client.create_schedule(spec, "key") == first
    with pytest.raises(Conflict):
        api.client.create_schedule(spec.model_copy(update={"name": "other"}), "key")
    assert len(list(api.client.schedules())) == 1


def test_schedules_are_listed_in_pages(api: Api, spec: ScheduleSpec) -> None:
    made = [api.client.create_schedule(spec).id for _ in range(3)]
    first = api.http.get("/v1/schedules", params={"limit": 2}).json()
    second = api.http.get("/v1/schedules", params={"limit": 2, "cursor": first["next_cursor"]}).json()
    assert [item["id"] for item in (*first["items"], *second["items"])] == [str(id_) for id_ in reversed(made)]
    assert second["next_cursor"] is None


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"cron": "0 0 30 2 *"}, "BadSchedule", "cron='0 0 30 2 *'"),
        ({"cron": "* * */20 * 1L"}, "BadSchedule", "never fires"),
        ({"cron": "every night"}, "BadSchedule", "has 2 fields"),
        ({"time_zone": "Mars/Olympus"}, "BadSchedule", "time_zone='Mars/Olympus' is not known"),
        ({"policy": {"older_than_days": 0}}, "InvalidInput", "older_than_days"),
        ({"policy": {"tries": 0}}, "InvalidInput", "tries"),
        ({"policy": {"input_lift_below": "NaN"}}, "InvalidInput", "input_lift_below"),
        ({"max_features": 0}, "InvalidInput", "max_features"),
        ({"nmae": "typo"}, "InvalidInput", "nmae"),
        ({"run": {"features": "999"}}, "BadSelection", "must be within"),
        ({"run": {"llm": "gone"}}, "InvalidInput", "llm='gone'"),
        ({"run": {"corpus": "operator:none.jsonl"}}, "BadCorpus", "not in the operator's corpora folder"),
    ],
)
def test_what_can_not_work_is_refused_with_the_reason(
    api: Api, spec: ScheduleSpec, changes: dict[str, Any], error: str, says: str
) -> None:
    body = spec.model_dump(mode="json")
    body |= {**changes, "run": body["run"] | changes.get("run", {})}
    assert says in api.problem(api.http.post("/v1/schedules", json=body), 422, error)
    assert list(api.client.schedules()) == []


def test_a_schedule_of_a_deleted_dictionary_is_gone_and_none_is_made(
    api: Api, spec: ScheduleSpec, schedule: Schedule, neurons: Dictionary
) -> None:
    api.client.delete_dictionary(neurons.id)
    with pytest.raises(NotFound):
        api.client.schedule(schedule.id)
    with pytest.raises(NotFound):
        api.client.create_schedule(spec)


def test_a_dictionary_without_weights_can_not_be_scheduled(api: Api, spec: ScheduleSpec, spec_of: SpecMaker) -> None:
    bare = api.client.submit_dictionary(spec_of())
    run = spec.run.model_copy(update={"dictionary_id": bare.id, "features": "0-1"})
    with pytest.raises(Conflict, match="PUT its weights first"):
        api.client.create_schedule(spec.model_copy(update={"run": run}))


def test_a_change_is_checked_as_a_whole(api: Api, schedule: Schedule, spec_of: SpecMaker) -> None:
    other = api.client.submit_dictionary(spec_of(name="other")).id
    with pytest.raises(BadSchedule):
        api.client.change_schedule(schedule.id, SchedulePatch(time_zone="Mars/Olympus"))
    run = schedule.spec.run.model_copy(update={"dictionary_id": other})
    with pytest.raises(InvalidInput, match="make another schedule"):
        api.client.change_schedule(schedule.id, SchedulePatch(run=run))
    with pytest.raises(NotFound):
        api.client.change_schedule(uuid.uuid4(), SchedulePatch(paused=True))
    assert api.client.schedule(schedule.id) == schedule


def test_slots_and_their_diff_can_be_read(api: Api, schedule: Schedule) -> None:
    nothing = add_refresh(api, schedule, slot=datetime(2026, 3, 28, 2, 0, tzinfo=UTC), state="nothing")
    done = add_refresh(api, schedule)
    changed, new, same = add_diff(api, done)
    assert [refresh.id for refresh in api.client.refreshes(schedule.id)] == [done, nothing]
    refresh = api.client.refresh(schedule.id, done)
    assert (refresh.reasons, refresh.changes) == ({"unlabelled": 1, "prompt": 1}, {"new": 1, "changed": 1})
    assert list(api.client.diff(schedule.id, done)) == [changed, new]
    assert list(api.client.diff(schedule.id, done, ["same", "new"])) == [new, same]
    url = f"/v1/schedules/{schedule.id}/refreshes/{done}/diff"
    first = api.http.get(url, params={"limit": 1}).json()
    second = api.http.get(url, params={"limit": 1, "cursor": first["next_cursor"]}).json()
    assert [page["items"][0]["feature"] for page in (first, second)] == [1, 4]
    assert first["refresh"]["id"] == str(done)
    assert "belongs to another query" in api.problem(
        api.http.get(url, params={"change": "new", "cursor": first["next_cursor"]}), 422, "InvalidInput"
    )
    other = api.client.create_schedule(schedule.spec)
    with pytest.raises(NotFound):
        api.client.refresh(other.id, done)


def test_a_refresh_is_asked_for_once_at_a_time(api: Api, schedule: Schedule, glossarium: Glossarium) -> None:
    made = api.client.refresh_now(schedule.id, "key")
    assert (made.state, made.schedule_id, made.n_missed) == ("due", schedule.id, 0)
    assert api.client.refresh_now(schedule.id, "key") == made
    with pytest.raises(Conflict, match=r"the refresh of .* UTC is not over; wait for its end, or cancel its run"):
        api.client.refresh_now(schedule.id)
    assert list(api.client.refreshes(schedule.id)) == [made]
    refused = glossarium("schedule", "refresh", "nightly")
    assert (refused.exit_code, "is not over" in refused.stderr) == (1, True)
    with database.connect(api.settings.database_url) as connection:
        refreshes.end(connection, made.id, "nothing")
    assert told(glossarium("schedule", "refresh", "nightly", "--json"))["state"] == "due"
    with pytest.raises(NotFound):
        api.client.refresh_now(uuid.uuid4())


def test_a_run_is_put_on_a_schedule_from_the_command_line(api: Api, spec: ScheduleSpec, glossarium: Glossarium) -> None:
    run = api.client.submit_run(spec.run)
    made = told(
        glossarium(
            *("schedule", "add", str(run.id)[:8], "--cron", "15 2 * * *", "--time-zone", "Asia/Tokyo"),
            *("--features", "alive", "--no-changed", "--input-lift-below", "0.1", "--older-than", "30", "--json"),
            *("--budget", "200k tokens"),
        )
    )
    assert made["spec"]["run"] == {
        **run.spec.model_dump(mode="json"),
        "features": "alive",
        "budget": {"dollars": None, "tokens": 200_000},
    }
    assert (made["spec"]["cron"], made["spec"]["time_zone"]) == ("15 2 * * *", "Asia/Tokyo")
    policy = Policy(changed=False, input_lift_below=0.1, older_than_days=30)
    assert made["spec"]["policy"] == policy.model_dump(mode="json")
    assert [item["id"] for item in told(glossarium("schedule", "list", "--json"))] == [made["id"]]
    assert told(glossarium("schedule", "pause", "nightly", "--json"))["paused"] is True
    assert "paused" in glossarium("schedule", "list").stdout
    assert told(glossarium("schedule", "resume", made["id"][:6], "--json"))["paused"] is False
    assert glossarium("schedule", "remove", made["id"]).exit_code == 0
    gone = glossarium("schedule", "show", made["id"][:8])
    assert (gone.exit_code, gone.stderr) == (
        1,
        f"error: no schedule '{made['id'][:8]}'; `glossarium schedule list` lists them\n",
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["add", "RUN", "--cron", "0 0 30 2 *"], "cron='0 0 30 2 *'"),
        (["add", "RUN", "--tries", "0"], "tries"),
        (["diff", "nightly", "--change", "odd"], "Input should be"),
    ],
)
def test_the_command_line_refuses_with_code_2(
    api: Api, schedule: Schedule, glossarium: Glossarium, arguments: list[str], says: str
) -> None:
    run = api.client.submit_run(schedule.spec.run)
    result = glossarium("schedule", *(str(run.id) if argument == "RUN" else argument for argument in arguments))
    assert result.exit_code == 2, result.output
    assert says in result.stderr


def test_the_command_line_shows_slots_and_diffs_in_the_schedules_time_zone(
    api: Api, schedule: Schedule, glossarium: Glossarium
) -> None:
    none_yet = glossarium("schedule", "diff", "nightly")
    assert (none_yet.exit_code, "has had no run yet" in none_yet.stderr) == (1, True)
    run = api.client.submit_run(schedule.spec.run)
    done = add_refresh(api, schedule, run_id=run.id)
    add_diff(api, done)
    slots = glossarium("schedule", "show", "nightly").stdout
    assert "2026-03-29 03:00 CEST" in slots
    assert "1 unlabelled, 1 prompt" in slots
    shown = glossarium("schedule", "diff", "nightly").stdout
    assert "2026-03-29 03:00 CEST: done; 2 features (1 unlabelled, 1 prompt), 1 more wait for the next" in shown
    assert "1 changed, 1 new" in shown
    old, new = shown.index("promotes verbs of motion"), shown.index("verbs of leaving a place")
    assert old < new
    assert "+0.12" in shown
    assert "+0.38" in shown
    assert [item["feature"] for item in told(glossarium("schedule", "diff", "nightly", str(done)[:8], "--json"))] == [
        1,
        4,
    ]


def test_an_empty_night_is_said_in_one_line(api: Api, schedule: Schedule) -> None:
    id_ = add_refresh(api, schedule, state="nothing")
    refresh = api.client.refresh(schedule.id, id_)
    assert diffs.summary_of(refresh, "UTC") == "2026-03-29 01:00 UTC: nothing was stale, so there was no run"


def test_two_schedules_of_one_name_are_told_apart_by_id(
    api: Api, schedule: Schedule, glossarium: Glossarium, tmp_path: Path
) -> None:
    other = api.client.create_schedule(schedule.spec)
    result = glossarium("schedule", "pause", "nightly")
    assert result.exit_code == 2
    assert str(schedule.id)[:8] in result.stderr
    assert str(other.id)[:8] in result.stderr
    assert not api.client.schedule(other.id).paused
