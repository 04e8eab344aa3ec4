"""Events of runs: a snapshot, changes, resumption, what happens without the connection that listens, many readers."""

import asyncio
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from urllib.parse import urlsplit

import psycopg
import pytest

from schema.errors import NotFound
from schema.records import Dictionary, Run, RunSpec
from schema.stages import Stage
from schema.store import database, jobs
from service import event_stream, events, following
from service.event_stream import Event, parse
from tests.service.conftest import Api

N_READERS = 500


class Reader:
    """Somebody who follows a run."""

    def __init__(self, api: Api, run_id: uuid.UUID, last_id: str | None = None) -> None:
        self._api, self._path = api, f"/v1/runs/{run_id}/events"
        self._headers = {} if last_id is None else {"Last-Event-ID": last_id}

    @contextmanager
    def events(self) -> Iterator[Iterator[Event]]:
        with self._api.http.stream("GET", self._path, headers=self._headers, timeout=30) as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            yield parse(response.iter_lines())


def run_of(event: Event) -> Run:
    assert event.kind == "run"
    return Run.model_validate_json(event.data)


@pytest.fixture
def run(api: Api, neurons: Dictionary) -> Run:
    return api.client.submit_run(RunSpec(dictionary_id=neurons.id, features="0-2"))


def finish_one(api: Api) -> None:
    with database.connect(api.settings.database_url) as connection:
        job = jobs.claim(connection, list(Stage), owner="test", lease_s=60)
        assert job is not None
        jobs.finish(connection, job)


def done(run: Run) -> list[str]:
    return [stage.stage for stage in run.stages if stage.jobs_done == stage.jobs]


def test_a_snapshot_comes_first_and_then_what_changes(api: Api, run: Run) -> None:
    with Reader(api, run.id).events() as stream:
        first = run_of(next(stream))
        assert (first.state, first.usage) == ("queued", None)
        assert [stage.stage for stage in first.stages] == ["ingest", "exemplars", "merge"]
        finish_one(api)
        told = time.monotonic()
        while done(run_of(next(stream))) != ["ingest"]:
            pass
        assert time.monotonic() - told < 2 + 3  # the lag that is promised, and some seconds for a busy machine
        api.client.cancel(run.id)
        states = [run_of(event).state for event in stream]
        assert states[-1] == "cancelled"  # and with it the stream ended


def test_the_last_event_is_not_sent_again(api: Api, run: Run) -> None:
    with Reader(api, run.id).events() as stream:
        first = next(stream)
    assert first.id is not None
    with Reader(api, run.id, first.id).events() as stream:
        timer = threading.Timer(0.5, lambda: finish_one(api))
        timer.start()
        following_one = next(stream)
        timer.join()
    assert following_one.id != first.id
    api.client.cancel(run.id)
    with Reader(api, run.id, first.id).events() as stream:
        last = list(stream)[-1]
    over = api.http.get(f"/v1/runs/{run.id}/events", headers={"Last-Event-ID": last.id or ""})
    assert over.status_code == 204


def test_the_client_follows_to_the_end(api: Api, run: Run) -> None:
    seen = []
    for state in api.client.follow(run.id):
        seen.append(state.state)
        if len(seen) == 1:
            api.client.cancel(run.id)
    assert (seen[0], seen[-1]) == ("queued", "cancelled")
    with pytest.raises(NotFound):
        next(api.client.follow(uuid.uuid4()))


def test_the_client_goes_on_where_a_stream_ends(api: Api, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "LONGEST_S", 0.3)
    monkeypatch.setattr(events, "HEARTBEAT_S", 0.1)
    monkeypatch.setattr(event_stream, "_PAUSE_S", 0.1)
    timer = threading.Timer(2, lambda: api.client.cancel(run.id))
    timer.start()
    assert [state.state for state in api.client.follow(run.id)] == ["queued", "cancelled"]
    timer.join()


def test_a_run_that_is_deleted_is_gone(api: Api, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "RESYNC_S", 0.2)
    with Reader(api, run.id).events() as stream:
        run_of(next(stream))
        with database.connect(api.settings.database_url) as connection:  # as where it is cancelled and deleted at once
            connection.execute("DELETE FROM run WHERE id = %s", (run.id,))
        assert next(stream).kind == "gone"
        assert next(stream, None) is None


def test_what_happens_while_nobody_listens_is_seen_and_listening_begins_again(
    api: Api, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "_RETRY_S", (4.0,))
    hub: following.Following = api.app.state.following
    with Reader(api, run.id).events() as stream:
        next(stream)
        wait_until(lambda: hub.listening)
        assert end_listeners(api) == 1
        wait_until(lambda: not hub.listening)
        finish_one(api)
        told = time.monotonic()
        while done(run_of(next(stream))) != ["ingest"]:
            pass
        assert time.monotonic() - told < 3
        wait_until(lambda: hub.listening)
        finish_one(api)
        while done(run_of(next(stream))) != ["ingest", "exemplars"]:
            pass


def end_listeners(api: Api) -> int:
    """End the connections that listen, and return how many there were."""
    with psycopg.connect(api.settings.database_url, autocommit=True) as connection:
        ended = connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'glossarium events' AND datname = current_database()"
        )
        return len(ended.fetchall())


def wait_until(holds: Callable[[], bool], timeout_s: float = 15) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_comment_comes_where_nothing_happens(api: Api, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "HEARTBEAT_S", 0.2)
    with api.http.stream("GET", f"/v1/runs/{run.id}/events", timeout=10) as response:
        lines = response.iter_lines()
        assert ": nothing new" in (next(lines) for _ in range(20))


def test_readers_that_do_not_read_hold_up_nobody(api: Api, run: Run) -> None:
    parts = urlsplit(api.url)
    lines = (f"GET /v1/runs/{run.id}/events HTTP/1.1", f"Host: {parts.netloc}", f"Authorization: Bearer {api.key}")
    asked = "\r\n".join([*lines, "", ""]).encode()
    sockets = []
    try:
        for _ in range(N_READERS):
            sockets.append(socket.create_connection((parts.hostname or "", parts.port or 0), timeout=30))
            sockets[-1].sendall(asked)
        hub: following.Following = api.app.state.following
        wait_until(lambda: sum(one.n_readers for one in hub._followed.values()) == N_READERS, 60)
        with Reader(api, run.id).events() as stream:
            next(stream)
            finish_one(api)
            told = time.monotonic()
            while done(run_of(next(stream))) != ["ingest"]:
                pass
            assert time.monotonic() - told < 2 + 3
        started = time.monotonic()
        for _ in range(10):
            assert api.client.run(run.id).id == run.id
        assert time.monotonic() - started < 15
        (n_listening,) = query(
            api, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'glossarium events'"
        )
        assert n_listening == 1
    finally:
        for one in sockets:
            one.close()
    wait_until(lambda: not hub._followed, 60)


def query(api: Api, sql: str) -> tuple[object, ...]:
    with closing(psycopg.connect(api.settings.database_url)) as connection:
        return tuple(connection.execute(sql.encode()).fetchone() or ())


def test_too_many_readers_are_told_to_come_back(api: Api, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "MOST_READERS", 1)
    with Reader(api, run.id).events() as stream:
        next(stream)
        response = api.http.get(f"/v1/runs/{run.id}/events")
        assert "1 follow runs here already" in api.problem(response, 503, "Unavailable")


def test_while_the_database_is_away_the_answer_is_503(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "_FIRST_S", 0.2)

    def read(tenant_id: int, run_id: uuid.UUID) -> Run:
        raise following.DatabaseUnavailable("away")

    async def enter() -> None:
        hub = following.Following("postgresql://nobody@127.0.0.1:1/none", read)
        try:
            with pytest.raises(following.DatabaseUnavailable):
                await hub.enter(1, uuid.uuid4())
            assert not hub._followed
        finally:
            await hub.close()

    asyncio.run(enter())


def test_events_are_parsed_whole_or_not_at_all() -> None:
    lines = ["retry: 2000", "", ": nothing new", "id: 1", "event: run", "data: a", "data: b", "", "data: broken off"]
    assert list(parse(lines)) == [Event("run", "a\nb", "1")]


def test_a_response_of_events_is_closed_by_a_client_that_leaves(api: Api, run: Run) -> None:
    hub: following.Following = api.app.state.following
    with api.with_key(api.key) as leaving, leaving.stream("GET", f"/v1/runs/{run.id}/events") as response:
        lines = response.iter_lines()
        next(lines)
        assert hub._followed
    wait_until(lambda: not hub._followed)
