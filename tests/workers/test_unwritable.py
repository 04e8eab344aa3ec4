"""A database that answers and can't be written: its disk is full, or it is a standby."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from schema.errors import DatabaseUnavailable, StorageFull
from schema.stages import Stage
from schema.store import database
from tests.workers.house import House, open_house

REFUSE = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    RAISE EXCEPTION 'could not extend file' USING ERRCODE = '{condition}';
END $$;
CREATE TRIGGER refuse BEFORE UPDATE ON job FOR EACH ROW WHEN (NEW.state = '{state}') EXECUTE FUNCTION refuse();
"""
REFUSE_READY = """
CREATE TRIGGER refuse_ready BEFORE UPDATE ON job FOR EACH ROW WHEN (NEW.state = 'ready') EXECUTE FUNCTION refuse()
"""


@pytest.fixture
def house(tmp_path: Path, database_url: str) -> Iterator[House]:
    with open_house(tmp_path, database_url, "http://127.0.0.1:1") as opened:
        yield opened


def refuse(house: House, condition: str, state: str) -> None:
    with database.lend(house.pool) as connection:
        connection.execute(REFUSE.format(condition=condition, state=state).encode())


def accept(house: House) -> None:
    with database.lend(house.pool) as connection:
        connection.execute("DROP FUNCTION refuse() CASCADE")
        connection.execute("UPDATE job SET run_at = now()")


@pytest.mark.parametrize(
    ("condition", "reason"),
    [("disk_full", "the disk that holds the database is full"), ("read_only_sql_transaction", "Postgres is read-only")],
)
def test_work_that_cannot_be_written_is_given_back_and_done_later(house: House, condition: str, reason: str) -> None:
    run_id = house.submit(llm="none", methods=("lexical",))
    refuse(house, condition, "done")
    assert house.work((Stage.INGEST,)) == 1
    assert house.query("SELECT state, attempt, lost FROM job WHERE stage = 'ingest'") == [("ready", 0, 0)]
    assert reason in str(house.run(run_id).note)
    accept(house)
    assert house.work((Stage.INGEST,)) == 1
    assert house.query("SELECT state FROM job WHERE stage = 'ingest'") == [("done",)]
    assert house.run(run_id).note is None


def test_a_job_is_ready_a_moment_after_a_standby_took_over_however_long_that_took(house: House) -> None:
    house.submit(llm="none", methods=("lexical",))
    refuse(house, "read_only_sql_transaction", "done")
    with database.lend(house.pool) as connection:
        connection.execute(REFUSE_READY)
    with ThreadPoolExecutor(1) as thread:
        working = thread.submit(house.engine().work, (Stage.INGEST,), lambda queues: True)
        time.sleep(5)
        assert not working.done()
        with database.lend(house.pool) as connection:
            connection.execute("DROP FUNCTION refuse() CASCADE")
        assert working.result(2)
    assert house.query("SELECT state, run_at <= now() FROM job WHERE stage = 'ingest'") == [("ready", True)]


@pytest.mark.parametrize(
    ("condition", "error"), [("disk_full", StorageFull), ("read_only_sql_transaction", DatabaseUnavailable)]
)
def test_a_claim_that_cannot_be_written_says_why(house: House, condition: str, error: type[Exception]) -> None:
    house.submit(llm="none", methods=("lexical",))
    refuse(house, condition, "leased")
    with pytest.raises(error, match="could not extend file"):
        house.work((Stage.INGEST,))
