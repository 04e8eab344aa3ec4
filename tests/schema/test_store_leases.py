"""What a stack does with the leases that it finds."""

import uuid

import pytest

from schema import graph
from schema.errors import LeaseLost
from schema.stages import Stage
from schema.store import jobs, leases
from schema.store.database import Connection


def test_a_released_job_is_ready_at_once_and_has_lost_nothing(connection: Connection, run_id: uuid.UUID) -> None:
    jobs.insert(connection, run_id, graph.initial_jobs(1))
    held = jobs.claim(connection, list(Stage), owner="before", lease_s=600)
    assert held is not None

    assert leases.release_all(connection) == 1
    assert leases.release_all(connection) == 0

    row = connection.execute("SELECT state, attempt, lost FROM job WHERE id = %s", (held.id,)).fetchone()
    assert row == ("ready", 0, 0)
    with pytest.raises(LeaseLost):  # whoever held it may not write any more
        jobs.finish(connection, held)
    again = jobs.claim(connection, list(Stage), owner="after", lease_s=600)
    assert again is not None
    assert (again.id, again.attempt) == (held.id, 1)
