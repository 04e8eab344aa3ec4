"""A stored run of a stored dictionary, of which nothing else is known."""

import uuid

from psycopg.types.json import Jsonb

from schema.store.database import Connection


def store_bare_run(connection: Connection) -> uuid.UUID:
    """Store a dictionary and a run of it without jobs, and return the run's id. The caller commits."""
    dictionary, run = uuid.uuid4(), uuid.uuid4()
    connection.execute(
        "INSERT INTO dictionary (id, tenant_id, spec, state, digest) VALUES (%s, 1, %s, 'ready', '')",
        (dictionary, Jsonb({})),
    )
    connection.execute(
        "INSERT INTO run (id, tenant_id, dictionary_id, spec) VALUES (%s, 1, %s, %s)", (run, dictionary, Jsonb({}))
    )
    return run
