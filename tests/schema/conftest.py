"""What tests of the store start from."""

import uuid

import pytest

from schema.store.database import Connection
from tests.bare_run import store_bare_run


@pytest.fixture
def run_id(connection: Connection) -> uuid.UUID:
    """Return a stored run of a stored dictionary, without jobs."""
    run = store_bare_run(connection)
    connection.execute("INSERT INTO spending (run_id) VALUES (%s)", (run,))
    connection.commit()
    return run
