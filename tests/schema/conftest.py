"""What tests of the store start from."""

import uuid

import pytest
from psycopg.types.json import Jsonb

from schema.store.database import Connection


@pytest.fixture
def run_id(connection: Connection) -> uuid.UUID:
    """Return a stored run of a stored dictionary, without jobs."""
    dictionary, run = uuid.uuid4(), uuid.uuid4()
    connection.execute(
        "INSERT INTO dictionary (id, tenant_id, spec, state, digest) VALUES (%s, 1, %s, 'ready', '')",
        (dictionary, Jsonb({})),
    )
    connection.execute(
        "INSERT INTO run (id, tenant_id, dictionary_id, spec) VALUES (%s, 1, %s, %s)", (run, dictionary, Jsonb({}))
    )
    connection.execute("INSERT INTO spending (run_id) VALUES (%s)", (run,))
    connection.commit()
    return run
