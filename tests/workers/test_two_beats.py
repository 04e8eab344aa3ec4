"""Two clocks, workers that come and go, and a slot in the middle: exactly one refresh."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from schema.records import DictionarySpec, Encoder, RunSpec
from schema.schedules import ScheduleSpec
from schema.store import database, dictionaries, refreshes, schedules

CELERY = [sys.executable, "-m", "celery", "-A", "workers.app"]
AHEAD_S = 20  # of the slot, for two beats and two workers to come up


class Crew:
    """Two beats and two workers, any of which can be killed and started again."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._environment = environment
        self._argv = {
            **{
                f"beat{n}": [*CELERY, "beat", "-s", str(folder / f"beat{n}"), "--pidfile=", "--loglevel", "WARNING"]
                for n in (1, 2)
            },
            **{
                f"worker{n}": [*CELERY, "worker", "-Q", "control", "-n", f"w{n}@%h", "--pool", "threads", "-c", "2"]
                for n in (1, 2)
            },
        }
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        self._running[name] = subprocess.Popen(
            self._argv[name], env=self._environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def restart(self, name: str) -> None:
        """Kill a process, and start it again."""
        self.kill(name)
        self.start(name)

    def kill(self, name: str) -> None:
        with suppress(ProcessLookupError):
            self._running[name].send_signal(signal.SIGKILL)
        self._running.pop(name).wait()

    def start_all(self) -> None:
        for name in self._argv:
            self.start(name)

    def kill_all(self) -> None:
        for name in list(self._running):
            self.kill(name)


@pytest.fixture
def crew(tmp_path: Path, database_url: str, redis_url: str) -> Iterator[Crew]:
    environment = {
        **os.environ,
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "GLOSSARIUM_SWEEP_S": "0.5",
        "GLOSSARIUM_DATA_DIR": str(tmp_path / "data"),
    }
    made = Crew(tmp_path, environment)
    try:
        yield made
    finally:
        made.kill_all()


@pytest.mark.timeout(240)
def test_two_beats_and_restarts_across_a_slot_make_exactly_one_refresh(database_url: str, crew: Crew) -> None:
    slot = (datetime.now(UTC) + timedelta(seconds=AHEAD_S + 60)).replace(second=0, microsecond=0)
    dictionary_id, schedule_id = uuid.uuid4(), uuid.uuid4()
    encoder = Encoder(kind="neurons")
    dictionary = DictionarySpec(name="d", subject="s", read_site="mlp_hidden.1", encoder=encoder, n_features=4)
    spec = ScheduleSpec(name="once", run=RunSpec(dictionary_id=dictionary_id), cron=f"{slot.minute} {slot.hour} * * *")
    with database.connect(database_url) as connection:
        dictionaries.create(connection, 1, dictionary_id, dictionary)
        schedules.create(connection, 1, schedule_id, spec)
    crew.start_all()
    _sleep_until(slot - timedelta(seconds=2))
    with database.connect(database_url, autocommit=True) as connection:
        assert refreshes.page(connection, schedule_id) == []
        for name in ("beat1", "worker1", "worker2", "beat2", "worker1"):  # before, in and after the slot
            crew.restart(name)
            time.sleep(1)
        deadline = time.monotonic() + 60
        while not any(found.state == "running" for found in refreshes.page(connection, schedule_id)):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        crew.restart("worker2")
        time.sleep(8)
        (found,) = refreshes.page(connection, schedule_id)
        assert (found.slot, found.state, found.n_features) == (slot, "running", 4)
        assert connection.execute("SELECT id FROM run").fetchall() == [(found.run_id,)]
        assert connection.execute("SELECT count(*) FROM refresh_feature").fetchone() == (4,)


def _sleep_until(when: datetime) -> None:
    time.sleep(max(0.0, (when - datetime.now(UTC)).total_seconds()))
