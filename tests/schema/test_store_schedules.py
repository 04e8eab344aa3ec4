"""Schedules in the store: each slot fires once, whoever looks, however often and however late."""

import threading
import uuid
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from schema.errors import BadSchedule, NotFound
from schema.records import DictionarySpec, Encoder, RunSpec
from schema.schedules import Policy, SchedulePatch, ScheduleSpec
from schema.store import database, dictionaries, refreshes, schedules
from schema.store.database import Connection

MIDDAY = datetime(2026, 5, 10, 12, 0, tzinfo=UTC)
NIGHTLY = "0 3 * * *"


def spec_of(dictionary_id: UUID, **changes: object) -> ScheduleSpec:
    fields = {"name": "nightly", "run": RunSpec(dictionary_id=dictionary_id), "cron": NIGHTLY}
    return ScheduleSpec.model_validate({**fields, **changes})


@pytest.fixture
def dictionary_id(connection: Connection) -> UUID:
    encoder = Encoder(kind="neurons")
    spec = DictionarySpec(name="d", subject="s", read_site="mlp_hidden.1", encoder=encoder, n_features=4)
    id_ = uuid.uuid4()
    dictionaries.create(connection, 1, id_, spec)
    connection.commit()
    return id_


@pytest.fixture
def schedule_id(connection: Connection, dictionary_id: UUID) -> UUID:
    """Return a nightly schedule that was made on the first of May."""
    id_ = uuid.uuid4()
    schedules.create(connection, 1, id_, spec_of(dictionary_id))
    made_on(connection, id_, datetime(2026, 5, 1, tzinfo=UTC))
    return id_


def made_on(connection: Connection, id_: UUID, when: datetime) -> None:
    connection.execute("UPDATE schedule SET since = %s WHERE id = %s", (when, id_))
    connection.commit()


def slots(connection: Connection, id_: UUID) -> dict[str, tuple[str, int]]:
    """Return state and missed slots by slot."""
    found = refreshes.page(connection, id_)
    return {f"{refresh.slot:%m-%d %H:%M}": (refresh.state, refresh.n_missed) for refresh in reversed(found)}


def end(connection: Connection, id_: UUID) -> None:
    connection.execute("UPDATE refresh SET state = 'nothing' WHERE schedule_id = %s AND state = 'due'", (id_,))
    connection.commit()


def test_a_schedule_is_found_again_with_its_next_slot(connection: Connection, dictionary_id: UUID) -> None:
    policy = Policy(changed=False, input_lift_below=0.1, older_than_days=30)
    spec = spec_of(dictionary_id, policy=policy, time_zone="Europe/Paris", max_features=9)
    made = schedules.create(connection, 1, uuid.uuid4(), spec)
    assert schedules.get(connection, 1, made.id) == made
    assert made.spec == spec
    assert made.next_slot is not None
    assert timedelta(0) < made.next_slot - datetime.now(UTC) <= timedelta(days=1, hours=1)
    assert [found.id for found in schedules.page(connection, 1)] == [made.id]
    with pytest.raises(NotFound):
        schedules.get(connection, 2, made.id)


def test_a_line_that_never_fires_is_not_stored(connection: Connection, dictionary_id: UUID) -> None:
    with pytest.raises(BadSchedule):
        schedules.create(connection, 1, uuid.uuid4(), spec_of(dictionary_id, cron="0 0 30 2 *"))
    assert schedules.page(connection, 1) == []


def test_a_new_schedule_does_not_fire_for_a_slot_before_it(connection: Connection, schedule_id: UUID) -> None:
    made_on(connection, schedule_id, MIDDAY)
    assert schedules.fire_due(connection, MIDDAY + timedelta(hours=1)) == []
    assert len(schedules.fire_due(connection, MIDDAY + timedelta(hours=15))) == 1


def test_a_slot_fires_once_however_often_one_looks(connection: Connection, schedule_id: UUID) -> None:
    made_on(connection, schedule_id, MIDDAY - timedelta(days=1))
    fired = [schedules.fire_due(connection, MIDDAY + timedelta(minutes=minute)) for minute in range(5)]
    assert [len(ids) for ids in fired] == [1, 0, 0, 0, 0]
    assert slots(connection, schedule_id) == {"05-10 03:00": ("due", 0)}


def test_missed_slots_fire_late_and_once(connection: Connection, schedule_id: UUID) -> None:
    schedules.fire_due(connection, datetime(2026, 5, 2, 4, tzinfo=UTC))
    end(connection, schedule_id)
    assert len(schedules.fire_due(connection, MIDDAY)) == 1
    assert slots(connection, schedule_id) == {"05-02 03:00": ("nothing", 1), "05-10 03:00": ("due", 7)}


def test_a_slot_is_skipped_while_the_refresh_before_is_not_over(connection: Connection, schedule_id: UUID) -> None:
    schedules.fire_due(connection, MIDDAY)
    schedules.fire_due(connection, MIDDAY + timedelta(days=1))
    assert slots(connection, schedule_id) == {"05-10 03:00": ("due", 9), "05-11 03:00": ("skipped", 0)}
    (skipped, _) = refreshes.page(connection, schedule_id)
    assert skipped.note == "the refresh of 2026-05-10 03:00 UTC is not over"
    assert skipped.finished_at is not None


def test_a_refresh_that_is_asked_for_is_a_slot_of_its_own(connection: Connection, schedule_id: UUID) -> None:
    schedules.change(connection, 1, schedule_id, SchedulePatch(paused=True))
    for _ in range(2):
        schedules.fire_now(connection, 1, schedule_id, uuid.uuid4())
        connection.commit()
    second, first = refreshes.page(connection, schedule_id)
    assert (first.state, second.state) == ("due", "skipped")
    assert abs(datetime.now(UTC) - first.slot) < timedelta(minutes=1)
    end(connection, schedule_id)
    third = uuid.uuid4()
    schedules.fire_now(connection, 1, schedule_id, third)
    assert refreshes.get(connection, 1, schedule_id, third).state == "due"
    with pytest.raises(NotFound):
        schedules.fire_now(connection, 2, schedule_id, uuid.uuid4())


def test_a_slot_after_a_refresh_that_was_asked_for_counts_what_was_missed_since(
    connection: Connection, schedule_id: UUID
) -> None:
    schedules.fire_now(connection, 1, schedule_id, uuid.uuid4())
    end(connection, schedule_id)
    (asked,) = refreshes.page(connection, schedule_id)
    schedules.fire_due(connection, asked.slot + timedelta(days=3))
    latest, _ = refreshes.page(connection, schedule_id)
    assert (latest.state, latest.n_missed) == ("due", 2)


def test_a_clock_that_jumps_doubles_nothing_and_silences_nothing(connection: Connection, schedule_id: UUID) -> None:
    for now in (MIDDAY, MIDDAY + timedelta(days=365), MIDDAY, MIDDAY + timedelta(days=1)):
        schedules.fire_due(connection, now)
        end(connection, schedule_id)
    assert [refresh.slot.year for refresh in refreshes.page(connection, schedule_id)] == [2027, 2026, 2026]


def test_a_paused_schedule_rests_and_does_not_make_up_for_it(connection: Connection, schedule_id: UUID) -> None:
    paused = schedules.change(connection, 1, schedule_id, SchedulePatch(paused=True))
    assert (paused.paused, paused.next_slot) == (True, None)
    assert schedules.fire_due(connection, MIDDAY) == []
    resumed = schedules.change(connection, 1, schedule_id, SchedulePatch(paused=False))
    assert resumed.next_slot is not None
    assert schedules.fire_due(connection) == []
    assert len(schedules.fire_due(connection, resumed.next_slot)) == 1


def test_other_times_begin_with_their_next_slot(connection: Connection, schedule_id: UUID) -> None:
    changed = schedules.change(connection, 1, schedule_id, SchedulePatch(cron="0 * * * *", time_zone="Asia/Kathmandu"))
    assert (changed.spec.cron, changed.spec.time_zone) == ("0 * * * *", "Asia/Kathmandu")
    assert schedules.fire_due(connection) == []
    with pytest.raises(BadSchedule):
        schedules.change(connection, 1, schedule_id, SchedulePatch(cron="nonsense"))


def test_a_change_leaves_what_it_does_not_name(connection: Connection, schedule_id: UUID) -> None:
    before = schedules.change(connection, 1, schedule_id, SchedulePatch(max_features=5)).spec
    after = schedules.change(connection, 1, schedule_id, SchedulePatch(name="weekly", max_features=None)).spec
    assert after == before.model_copy(update={"name": "weekly", "max_features": None})
    made_on(connection, schedule_id, MIDDAY - timedelta(days=1))
    schedules.change(connection, 1, schedule_id, SchedulePatch(name="nightly"))
    assert len(schedules.fire_due(connection, MIDDAY)) == 1  # a new name is no new beginning


def test_a_schedule_goes_with_its_dictionary(connection: Connection, dictionary_id: UUID, schedule_id: UUID) -> None:
    schedules.fire_due(connection, MIDDAY)
    dictionaries.delete(connection, 1, dictionary_id)
    assert schedules.page(connection, 1) == []
    assert schedules.fire_due(connection, MIDDAY + timedelta(days=1)) == []


def test_a_deleted_schedule_is_gone_with_its_refreshes(connection: Connection, schedule_id: UUID) -> None:
    schedules.fire_due(connection, MIDDAY)
    schedules.delete(connection, 1, schedule_id)
    with pytest.raises(NotFound):
        schedules.delete(connection, 1, schedule_id)
    assert refreshes.page(connection, schedule_id) == []


def test_many_who_look_at_once_fire_a_slot_once(connection: Connection, database_url: str, schedule_id: UUID) -> None:
    together, fired = threading.Barrier(8), list[UUID]()

    def look() -> None:
        with database.connect(database_url) as own:
            together.wait()
            fired.extend(schedules.fire_due(own, MIDDAY))

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(fired) == 1
    assert slots(connection, schedule_id) == {"05-10 03:00": ("due", 9)}
