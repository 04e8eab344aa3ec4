"""What webhooks are owed, on a real Postgres: written with what it tells of, sent by one at a time, never lost."""

import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import get_args

import pytest
from psycopg.types.json import Jsonb

from schema.errors import Conflict, NotFound
from schema.graph import JobKey, NewJob
from schema.stages import Stage
from schema.store import database, deliveries, jobs, refreshes, runs, sweeper, webhooks
from schema.store.database import Connection
from schema.store.deliveries import DELAYS_S, Claimed
from schema.webhooks import EVENTS, Delivery, DiffNotice, Event, RunNotice, Webhook, WebhookSpec

URL = "https://hooks.example.com/"


def add(connection: Connection, *events: Event, tenant_id: int = 1) -> Webhook:
    """Store a webhook; of all events unless told otherwise."""
    return webhooks.create(connection, tenant_id, uuid.uuid4(), WebhookSpec(url=URL, events=events or EVENTS))


def owed(connection: Connection, webhook: Webhook) -> list[Delivery]:
    return deliveries.page(connection, webhook.id)


def claim_one(connection: Connection, lease_s: float = 60) -> Claimed:
    (claimed,) = deliveries.claim(connection, most=10, lease_s=lease_s)
    return claimed


def make_due(connection: Connection) -> None:
    """Let the time until the next attempt pass."""
    connection.execute("UPDATE delivery SET due_at = clock_timestamp() WHERE state = 'due'")


def carry_out(connection: Connection, run_id: uuid.UUID) -> None:
    """Do the only job of a run."""
    jobs.insert(connection, run_id, [NewJob(JobKey(Stage.REPORT))])
    job = jobs.claim(connection, [Stage.REPORT], owner="test", lease_s=60)
    assert job is not None
    jobs.finish(connection, job)


def test_a_run_that_is_done_is_told_of_with_its_last_job(connection: Connection, run_id: uuid.UUID) -> None:
    webhook = add(connection)
    carry_out(connection, run_id)
    (delivery,) = owed(connection, webhook)
    assert (delivery.event, delivery.state, delivery.attempts) == ("run.finished", "due", 0)
    assert isinstance(delivery.data, RunNotice)
    assert (delivery.data.run_id, delivery.data.state, delivery.data.note) == (run_id, "done", None)
    assert delivery.data.finished_at is not None
    sweeper.sweep(connection)
    assert len(owed(connection, webhook)) == 1


def test_what_is_rolled_back_is_not_told_of(connection: Connection, run_id: uuid.UUID) -> None:
    webhook = add(connection)
    connection.commit()
    carry_out(connection, run_id)
    connection.rollback()
    assert owed(connection, webhook) == []


def test_the_sweeper_tells_of_a_run_whose_last_job_was_left_over(connection: Connection, run_id: uuid.UUID) -> None:
    webhook = add(connection)
    sweeper.sweep(connection)
    assert [delivery.event for delivery in owed(connection, webhook)] == ["run.finished"]


def test_a_run_that_failed_is_told_of_with_the_reason(connection: Connection, run_id: uuid.UUID) -> None:
    webhook = add(connection)
    jobs.insert(connection, run_id, [NewJob(JobKey(Stage.INGEST))])
    job = jobs.claim(connection, [Stage.INGEST], owner="test", lease_s=60)
    assert job is not None
    jobs.fail(connection, job, reason="no such file", final=True)
    (delivery,) = owed(connection, webhook)
    assert isinstance(delivery.data, RunNotice)
    assert (delivery.data.state, delivery.data.note) == ("failed", "ingest: no such file")


def test_a_cancelled_run_is_told_of_once(connection: Connection, run_id: uuid.UUID) -> None:
    webhook = add(connection)
    connection.execute("UPDATE run SET spec = spec || jsonb_build_object('dictionary_id', dictionary_id)")
    for _ in range(2):
        runs.set_state(connection, 1, run_id, "cancelled")
    (delivery,) = owed(connection, webhook)
    assert isinstance(delivery.data, RunNotice)
    assert delivery.data.state == "cancelled"


def test_a_run_at_its_budget_is_told_of_and_a_person_s_pause_is_not(connection: Connection, run_id: uuid.UUID) -> None:
    webhook = add(connection)
    connection.execute("UPDATE run SET spec = spec || jsonb_build_object('dictionary_id', dictionary_id)")
    runs.set_state(connection, 1, run_id, "paused")
    assert owed(connection, webhook) == []
    runs.set_state(connection, 1, run_id, "running")
    for _ in range(2):
        runs.halt(connection, run_id, "the budget is used up")
    (delivery,) = owed(connection, webhook)
    assert isinstance(delivery.data, RunNotice)
    assert (delivery.event, delivery.data.state, delivery.data.note) == (
        "budget.reached",
        "paused",
        "the budget is used up",
    )


def test_a_refresh_is_told_of_with_the_counts_of_its_diff(connection: Connection, run_id: uuid.UUID) -> None:
    webhook = add(connection, "refresh.diff")
    schedule_id = uuid.uuid4()
    connection.execute(
        "INSERT INTO schedule (id, tenant_id, dictionary_id, spec) SELECT %s, 1, dictionary_id, %s FROM run",
        (schedule_id, Jsonb({"name": "nightly"})),
    )
    slot = datetime(2026, 3, 1, 3, tzinfo=UTC)
    connection.execute(
        "INSERT INTO refresh (schedule_id, slot, state, run_id, n_features, reasons) "
        "VALUES (%s, %s, 'running', %s, 1, %s)",
        (schedule_id, slot, run_id, Jsonb({"unlabelled": 1})),
    )
    connection.execute(
        "INSERT INTO refresh_feature (refresh_id, feature, reason, before, change) "
        "SELECT id, 7, 'unlabelled', '{}', 'new' FROM refresh"
    )
    connection.execute("UPDATE run SET state = 'done'")
    (closed,) = refreshes.close_finished(connection)
    (delivery,) = owed(connection, webhook)
    assert isinstance(delivery.data, DiffNotice)
    told = delivery.data
    assert (told.refresh_id, told.schedule, told.slot, told.run_id) == (closed, "nightly", slot, run_id)
    assert (told.state, told.n_features, told.reasons, told.changes) == ("done", 1, {"unlabelled": 1}, {"new": 1})


def test_webhooks_hear_what_they_asked_for_and_nothing_of_other_tenants(
    connection: Connection, run_id: uuid.UUID
) -> None:
    connection.execute("INSERT INTO tenant (id, name) VALUES (2, 'other')")
    foreign, budgets, twice = add(connection, tenant_id=2), add(connection, "budget.reached"), add(connection)
    again = add(connection, "run.finished", "run.finished")
    carry_out(connection, run_id)
    assert [len(owed(connection, webhook)) for webhook in (foreign, budgets, twice, again)] == [0, 0, 1, 1]
    assert len({delivery.id for webhook in (twice, again) for delivery in owed(connection, webhook)}) == 2


def test_a_webhook_that_is_being_deleted_stops_no_run(
    connection: Connection, run_id: uuid.UUID, database_url: str
) -> None:
    webhook = add(connection)
    connection.commit()
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with database.connect(database_url) as other, ThreadPoolExecutor(1) as thread:
        webhooks.delete(other, 1, webhook.id)
        finishing = thread.submit(carry_out, connection, run_id)
        deadline = time.monotonic() + 20
        while other.execute(waiting).fetchone() == (0,):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        other.commit()
        finishing.result(20)
    connection.commit()
    assert connection.execute("SELECT state FROM run").fetchone() == ("done",)


def test_one_delivery_a_webhook_is_under_way_the_oldest_first(connection: Connection, run_id: uuid.UUID) -> None:
    first, second = add(connection), add(connection)
    for event in get_args(Event):
        deliveries.tell_of_run(connection, run_id, event)
    claimed = deliveries.claim(connection, most=10, lease_s=60)
    assert {(one.webhook_id, one.notice.event) for one in claimed} == {
        (first.id, "run.finished"),
        (second.id, "run.finished"),
    }
    assert deliveries.claim(connection, most=10, lease_s=60) == []
    assert not deliveries.settle(connection, claimed[0], None)
    following = claim_one(connection)
    assert (following.webhook_id, following.notice.event) == (claimed[0].webhook_id, "refresh.diff")


def test_two_senders_at_once_take_different_webhooks(
    connection: Connection, run_id: uuid.UUID, database_url: str
) -> None:
    for _ in range(2):
        add(connection)
    deliveries.tell_of_run(connection, run_id, "run.finished")
    connection.commit()
    with database.connect(database_url) as other:
        mine = deliveries.claim(connection, most=1, lease_s=60)
        theirs = deliveries.claim(other, most=2, lease_s=60)
        assert len(mine) == len(theirs) == 1
        assert mine[0].webhook_id != theirs[0].webhook_id


def test_a_sender_that_died_is_followed_by_another_and_can_record_nothing(
    connection: Connection, run_id: uuid.UUID
) -> None:
    webhook = add(connection)
    deliveries.tell_of_run(connection, run_id, "run.finished")
    dead = claim_one(connection, lease_s=0)
    again = claim_one(connection)
    assert (again.notice, again.attempt) == (dead.notice, 2)  # the same id: at least once, and known as the same
    deliveries.settle(connection, dead, "late")
    assert deliveries.claim(connection, most=10, lease_s=60) == []  # the lease of the second one holds
    deliveries.settle(connection, again, None)
    (delivery,) = owed(connection, webhook)
    assert (delivery.state, delivery.last_error, delivery.due_at) == ("delivered", None, None)
    assert delivery.delivered_at is not None


def test_attempts_are_apart_by_growing_delays_that_are_not_all_the_same(
    connection: Connection, run_id: uuid.UUID
) -> None:
    webhook = add(connection)
    deliveries.tell_of_run(connection, run_id, "run.finished")
    waited = []
    for attempt in range(1, len(DELAYS_S) + 1):
        assert not deliveries.settle(connection, claim_one(connection), f"HTTP 50{attempt}")
        (left,) = connection.execute(
            "SELECT extract(epoch FROM due_at - clock_timestamp())::float8 FROM delivery"
        ).fetchone() or (0.0,)
        waited.append(left)
        assert deliveries.claim(connection, most=10, lease_s=60) == []
        make_due(connection)
    for delay_s, left in zip(DELAYS_S, waited, strict=True):
        assert 0.79 * delay_s < left < 1.21 * delay_s
    assert len({round(left / delay_s, 3) for delay_s, left in zip(DELAYS_S, waited, strict=True)}) > 1
    assert 0.9 < sum(DELAYS_S) / 86_400 < 1.1
    assert webhooks.get(connection, 1, webhook.id).state == "active"


def exhaust(connection: Connection) -> None:
    """Let the oldest delivery fail as often as it is tried."""
    for attempt in range(1, len(DELAYS_S) + 2):
        disabled = deliveries.settle(connection, claim_one(connection), f"HTTP 500 at {attempt}")
        assert disabled == (attempt == len(DELAYS_S) + 1)
        make_due(connection)


def test_after_the_last_attempt_the_webhook_is_disabled_says_why_and_keeps_what_it_is_owed(
    connection: Connection, run_id: uuid.UUID
) -> None:
    webhook = add(connection)
    deliveries.tell_of_run(connection, run_id, "run.finished")
    exhaust(connection)
    deliveries.tell_of_run(connection, run_id, "budget.reached")
    found = webhooks.get(connection, 1, webhook.id)
    assert (found.state, found.last_error, found.n_due) == ("disabled", "HTTP 500 at 8", 2)
    assert deliveries.claim(connection, most=10, lease_s=60) == []
    assert webhooks.resume(connection, 1, webhook.id).state == "active"
    sent = []
    while claimed := deliveries.claim(connection, most=10, lease_s=60):
        sent += claimed
        deliveries.settle(connection, claimed[0], None)
    assert [(one.notice.event, one.attempt) for one in sent] == [("run.finished", 1), ("budget.reached", 1)]
    found = webhooks.get(connection, 1, webhook.id)
    assert (found.state, found.last_error, found.n_due) == ("active", None, 0)


def test_a_pause_holds_even_if_the_last_attempt_fails_meanwhile(connection: Connection, run_id: uuid.UUID) -> None:
    webhook = add(connection)
    deliveries.tell_of_run(connection, run_id, "run.finished")
    connection.execute("UPDATE delivery SET attempts = 7")
    last = claim_one(connection)
    assert webhooks.pause(connection, 1, webhook.id).state == "paused"
    deliveries.settle(connection, last, "HTTP 500")
    assert webhooks.get(connection, 1, webhook.id).state == "paused"


def test_a_test_is_tried_once_goes_first_and_disables_nothing(connection: Connection, run_id: uuid.UUID) -> None:
    webhook = add(connection)
    deliveries.tell_of_run(connection, run_id, "run.finished")
    asked = deliveries.owe_test(connection, webhook.id, uuid.uuid4())
    claimed = claim_one(connection)
    assert (claimed.notice.id, claimed.notice.data) == (asked.id, None)
    deliveries.settle(connection, claimed, "HTTP 404")
    found = deliveries.get(connection, webhook.id, asked.id)
    assert (found.state, found.last_error, found.attempts) == ("failed", "HTTP 404", 1)
    assert webhooks.get(connection, 1, webhook.id).state == "active"


def test_pages_are_newest_first_and_can_be_of_one_state(connection: Connection, run_id: uuid.UUID) -> None:
    webhook = add(connection)
    for event in EVENTS:
        deliveries.tell_of_run(connection, run_id, event)
    deliveries.settle(connection, claim_one(connection), None)
    whole = owed(connection, webhook)
    assert [delivery.event for delivery in whole] == list(reversed(EVENTS))
    after = (whole[0].created_at, whole[0].id)
    assert deliveries.page(connection, webhook.id, after=after, limit=1) == whole[1:2]
    assert [d.event for d in deliveries.page(connection, webhook.id, state="delivered")] == ["run.finished"]


def test_old_deliveries_are_forgotten(connection: Connection, run_id: uuid.UUID) -> None:
    webhook = add(connection)
    for event in EVENTS:
        deliveries.tell_of_run(connection, run_id, event)
    connection.execute("UPDATE delivery SET created_at = created_at - interval '31 days' WHERE event <> 'refresh.diff'")
    assert deliveries.forget(connection) == 2
    assert [delivery.event for delivery in owed(connection, webhook)] == ["refresh.diff"]


def test_a_deleted_webhook_takes_its_deliveries_along(connection: Connection, run_id: uuid.UUID) -> None:
    webhook = add(connection)
    deliveries.tell_of_run(connection, run_id, "run.finished")
    webhooks.delete(connection, 1, webhook.id)
    assert connection.execute("SELECT count(*) FROM delivery").fetchone() == (0,)
    with pytest.raises(NotFound):
        webhooks.get(connection, 1, webhook.id)


def test_there_are_only_so_many_webhooks(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "MAX_WEBHOOKS", 2)
    for _ in range(2):
        add(connection)
    with pytest.raises(Conflict, match="there are 2 webhooks; must be at most 2"):
        add(connection)
