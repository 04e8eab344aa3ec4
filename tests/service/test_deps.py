"""Transactions of the API: deadlocks are tried again, and nothing is answered before it is committed."""

import threading
from collections.abc import Iterator

import psycopg
import pytest
from psycopg.pq import TransactionStatus

from schema.errors import DatabaseUnavailable
from schema.store.database import Connection, open_pool
from service.deps import Database


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    pool = open_pool(database_url)
    yield Database(pool)
    pool.close()


def test_work_is_committed_when_it_returns_and_undone_when_it_fails(database: Database, connection: Connection) -> None:
    add = "INSERT INTO tenant (id, name) VALUES (%s, %s)"

    def fail(lent: Connection) -> None:
        lent.execute(add, (3, "three"))
        raise KeyError("three")

    database.run(lambda lent: lent.execute(add, (2, "two")))
    with pytest.raises(KeyError):
        database.run(fail)
    assert connection.execute("SELECT id FROM tenant ORDER BY id").fetchall() == [(1,), (2,)]


def test_looking_begins_no_transaction_and_leaves_the_connection_as_it_was(
    database: Database, connection: Connection
) -> None:
    def look(lent: Connection) -> list[int]:
        before = lent.execute("SELECT count(*) FROM tenant").fetchall()
        assert lent.info.transaction_status == TransactionStatus.IDLE
        connection.execute("INSERT INTO tenant (id, name) VALUES (2, 'two')")
        connection.commit()
        return [n for (n,) in [*before, *lent.execute("SELECT count(*) FROM tenant").fetchall()]]

    assert database.look(look) == [1, 2]
    assert not database.run(lambda lent: lent.autocommit)


def test_looking_says_that_the_database_is_away(database: Database, connection: Connection) -> None:
    def cut(lent: Connection) -> None:
        connection.execute("SELECT pg_terminate_backend(%s, 5000)", (lent.info.backend_pid,))
        lent.execute("SELECT 1")

    with pytest.raises(DatabaseUnavailable):
        database.look(cut)
    assert database.look(lambda lent: lent.execute("SELECT 1").fetchone()) == (1,)


def test_of_two_that_wait_for_each_other_both_get_done(database: Database, connection: Connection) -> None:
    connection.execute("INSERT INTO tenant (id, name) VALUES (2, 'two')")
    connection.commit()
    both_hold_one = threading.Barrier(2)
    attempts: list[int] = []

    def work(first: int, second: int) -> None:
        tried = 0

        def rename(lent: Connection) -> None:
            nonlocal tried
            tried += 1
            lent.execute("UPDATE tenant SET name = name || 'x' WHERE id = %s", (first,))
            if tried == 1:
                both_hold_one.wait(10)
            lent.execute("UPDATE tenant SET name = name || 'x' WHERE id = %s", (second,))

        database.run(rename)
        attempts.append(tried)

    threads = [threading.Thread(target=work, args=order) for order in ((1, 2), (2, 1))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert min(attempts) == 1
    assert max(attempts) > 1
    assert connection.execute("SELECT name FROM tenant ORDER BY id").fetchall() == [("defaultxx",), ("twoxx",)]


def test_a_database_that_goes_away_is_unavailable_and_not_tried_again(database: Database) -> None:
    tried = 0

    def end_own_connection(lent: Connection) -> None:
        nonlocal tried
        tried += 1
        lent.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    with pytest.raises(DatabaseUnavailable) as caught:
        database.run(end_own_connection)
    assert isinstance(caught.value.__cause__, psycopg.OperationalError)
    assert tried == 1
