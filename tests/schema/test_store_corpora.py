"""Corpora and idempotency keys in a real Postgres."""

import threading
import uuid

import pytest

from schema.blobs import BlobRef
from schema.errors import Conflict, NotFound
from schema.store import corpora, database, idempotency, sweeper
from schema.store.database import Connection

BLOB = BlobRef("a" * 64, 100)


def test_a_corpus_is_found_by_id_and_by_name_and_bytes(connection: Connection) -> None:
    made = corpora.create(connection, 1, uuid.uuid4(), "mails", BLOB)
    assert (made.name, made.sha256, made.n_bytes) == ("mails", "a" * 64, 100)
    assert corpora.get(connection, 1, made.id) == made
    assert corpora.find(connection, 1, "mails", "a" * 64) == made
    assert corpora.find(connection, 1, "mails", "b" * 64) is None
    assert corpora.find(connection, 1, "other", "a" * 64) is None


def test_a_foreign_corpus_is_not_found(connection: Connection) -> None:
    connection.execute("INSERT INTO tenant (id, name) VALUES (2, 'other')")
    made = corpora.create(connection, 2, uuid.uuid4(), "mails", BLOB)
    with pytest.raises(NotFound, match=f"no corpus {made.id}"):
        corpora.get(connection, 1, made.id)
    assert corpora.find(connection, 1, "mails", "a" * 64) is None
    assert corpora.page(connection, 1) == []


def test_pages_of_corpora_are_newest_first(connection: Connection) -> None:
    made = []
    for number in range(3):
        made.append(corpora.create(connection, 1, uuid.uuid4(), f"c{number}", BLOB))
        connection.commit()
    first = corpora.page(connection, 1, limit=2)
    assert first == [made[2], made[1]]
    assert corpora.page(connection, 1, after=(first[-1].created_at, first[-1].id)) == [made[0]]


def test_a_key_stands_for_what_it_made_first(connection: Connection) -> None:
    first, second = uuid.uuid4(), uuid.uuid4()
    assert idempotency.claim(connection, 1, "key", "body", first) == first
    assert idempotency.claim(connection, 1, "key", "body", second) == first
    assert idempotency.claim(connection, 1, "another", "body", second) == second
    with pytest.raises(Conflict, match="Idempotency-Key 'key' came with another request before; use a new key"):
        idempotency.claim(connection, 1, "key", "other body", second)


def test_a_second_request_waits_for_the_first_and_gets_its_resource(connection: Connection, database_url: str) -> None:
    first, second = uuid.uuid4(), uuid.uuid4()
    idempotency.claim(connection, 1, "key", "body", first)
    got: list[uuid.UUID] = []

    def repeat() -> None:
        with database.connect(database_url) as other:
            got.append(idempotency.claim(other, 1, "key", "body", second))

    thread = threading.Thread(target=repeat)
    thread.start()
    thread.join(0.3)
    assert got == []
    connection.commit()
    thread.join(10)
    assert got == [first]


def test_a_request_that_failed_frees_its_key(connection: Connection) -> None:
    first, second = uuid.uuid4(), uuid.uuid4()
    idempotency.claim(connection, 1, "key", "body", first)
    connection.rollback()
    assert idempotency.claim(connection, 1, "key", "other body", second) == second


def test_a_key_is_forgotten_a_month_later_the_oldest_first(connection: Connection) -> None:
    for days in (29, 31, 32):
        idempotency.claim(connection, 1, f"of {days} days", "body", uuid.uuid4())
        connection.execute(
            "UPDATE idempotency SET created_at = clock_timestamp() - make_interval(days => %s) WHERE key = %s",
            (days, f"of {days} days"),
        )
    sweeper.sweep(connection, most=1)
    assert keys(connection) == ["of 29 days", "of 31 days"]
    sweeper.sweep(connection)
    assert keys(connection) == ["of 29 days"]


def keys(connection: Connection) -> list[str]:
    return [key for (key,) in connection.execute("SELECT key FROM idempotency ORDER BY key")]
