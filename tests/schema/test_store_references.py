"""Which blobs rows refer to."""

import uuid

from psycopg.types.json import Jsonb

from schema.blobs import BlobRef
from schema.store import artifacts, corpora, references
from schema.store.database import Connection

OF_BLOBS = {("artifact", "sha256"), ("corpus", "sha256"), ("dictionary", "weights_sha256")}
OF_OTHER_THINGS = {
    ("idempotency", "body_sha256"),
    ("completion", "request_sha256"),
    ("api_key", "secret_sha256"),
    ("feature", "label_sha256"),
    ("embedding", "text_sha256"),
}


def test_every_blob_is_named_once(connection: Connection) -> None:
    connection.execute(
        "INSERT INTO dictionary (id, tenant_id, spec, state, digest, weights_sha256) "
        "VALUES (%s, 1, %s, 'ready', '', %s)",
        (uuid.uuid4(), Jsonb({}), "a" * 64),
    )
    corpora.create(connection, 1, uuid.uuid4(), "one", BlobRef("b" * 64, 1))
    corpora.create(connection, 1, uuid.uuid4(), "two", BlobRef("b" * 64, 1))
    artifacts.put(connection, "recipe", "c" * 64, 1)
    assert references.all_blobs(connection) == ["a" * 64, "b" * 64, "c" * 64]


def test_no_column_that_names_blobs_is_forgotten(connection: Connection) -> None:
    rows = connection.execute(
        "SELECT table_name, column_name FROM information_schema.columns "
        "WHERE table_schema = 'public' AND column_name LIKE '%sha256%'"
    ).fetchall()
    assert {(table, column) for table, column in rows} == OF_BLOBS | OF_OTHER_THINGS
