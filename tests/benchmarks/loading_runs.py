"""Two runs of a large dictionary, loaded at once: one that is done, and one that is half done, with a million jobs.

They are what the pages of a run and of a comparison are measured on. Nearly all labels of both are the same.
"""

import uuid
from typing import NamedTuple

from psycopg.types.json import Jsonb

from schema.records import RunSpec
from schema.store.database import Connection

BLOCK = 6
"""Features of a job."""


class Runs(NamedTuple):
    """The runs of a dictionary."""

    done: uuid.UUID
    running: uuid.UUID


def stored_runs(connection: Connection, dictionary: uuid.UUID, n: int) -> Runs:
    """Return the runs of a dictionary of n features, and store them where it has none."""
    rows = connection.execute("SELECT state, id FROM run WHERE dictionary_id = %s", (dictionary,)).fetchall()
    found = dict(rows)
    return Runs(found["done"], found["running"]) if found else _load(connection, dictionary, n)


def _load(connection: Connection, dictionary: uuid.UUID, n: int) -> Runs:
    made = Runs(uuid.uuid4(), uuid.uuid4())
    spec = RunSpec(dictionary_id=dictionary, features="all")
    names = {
        **made._asdict(),
        "dictionary": dictionary,
        "n": n,
        "block": BLOCK,
        "spec": Jsonb(spec.model_dump(mode="json")),
    }
    connection.execute("SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0")
    for statement in _STATEMENTS:
        connection.execute(statement, names)
    connection.commit()
    connection.execute("ANALYZE")
    connection.commit()
    return made


_STATEMENTS = (
    """INSERT INTO run (id, tenant_id, dictionary_id, spec, state, n_features, created_at, started_at, finished_at)
       SELECT %(done)s, 1, %(dictionary)s, CAST(%(spec)s AS jsonb), 'done', CAST(%(n)s AS integer),
              now() - interval '2 days', now() - interval '2 days', now() - interval '1 day'
       UNION ALL
       SELECT %(running)s, 1, %(dictionary)s, CAST(%(spec)s AS jsonb), 'running', CAST(%(n)s AS integer),
              now() - interval '10 h', now() - interval '10 h', NULL""",
    # One feature in fifty says something else in the second run.
    """INSERT INTO label (dictionary_id, feature, run_id, recipe, body)
       SELECT dictionary_id, feature, %(running)s, 'm',
              body || jsonb_build_object('text', 'by now ' || (body ->> 'text'), 'status', 'ok')
       FROM label WHERE dictionary_id = %(dictionary)s AND recipe = 'l' AND feature %% 50 = 0""",
    """INSERT INTO run_feature (run_id, position, feature, selected, pooled, label_id)
       SELECT %(done)s, feature, feature, true, feature < 200, id
       FROM label WHERE dictionary_id = %(dictionary)s AND recipe = 'l' ORDER BY feature""",
    "ANALYZE label, run_feature",  # or the next statement looks through all labels for each of its rows
    """INSERT INTO run_feature (run_id, position, feature, selected, pooled, label_id)
       SELECT %(running)s, before.position, before.feature, true, before.pooled,
              CASE WHEN before.feature < %(n)s * 6 / 10 THEN coalesce(label.id, before.label_id) END
       FROM run_feature AS before
       LEFT JOIN label ON label.dictionary_id = %(dictionary)s AND label.feature = before.feature AND label.recipe = 'm'
       WHERE before.run_id = %(done)s ORDER BY before.position""",
    """INSERT INTO label_tally (run_id, method, status, slot, n)
       SELECT run_feature.run_id, label.body ->> 'method', label.body ->> 'status', 0, count(*)
       FROM run_feature JOIN label ON label.id = run_feature.label_id
       WHERE run_feature.run_id IN (%(done)s, %(running)s) GROUP BY 1, 2, 3""",
    """INSERT INTO job (run_id, stage, queue, block, feature_lo, feature_hi, state, deps_left, units, progress, seconds,
                        started_at, finished_at, lease_until, last_error)
       SELECT %(running)s, stage, queue, block, block * %(block)s, (block + 1) * %(block)s, state, 1, %(block)s,
              CASE state WHEN 'done' THEN %(block)s WHEN 'leased' THEN 3 ELSE 0 END,
              CASE state WHEN 'done' THEN 2.5 END,
              CASE WHEN state IN ('done', 'leased', 'dead') THEN now() - interval '10 h' END,
              CASE WHEN state IN ('done', 'dead') THEN now() - interval '1 h' END,
              CASE state WHEN 'leased' THEN now() + interval '1 day' END,
              CASE state WHEN 'dead' THEN 'it failed' END
       FROM (
           SELECT stage, queue, block,
                  CASE WHEN block < %(n)s / %(block)s * 6 / 10
                       THEN CASE WHEN block %% 1000 = 7 AND stage = 'judge' THEN 'dead' ELSE 'done' END
                       WHEN block < %(n)s / %(block)s * 6 / 10 + 64 AND stage = 'describe' THEN 'leased'
                       WHEN stage = 'steering' THEN 'ready' ELSE 'blocked' END AS state
           FROM generate_series(0, %(n)s / %(block)s) AS block,
                (VALUES ('steering', 'subject'), ('describe', 'llm'), ('rank', 'control'), ('write', 'llm'),
                        ('activate', 'subject'), ('judge', 'llm'), ('publish', 'control')) AS stages (stage, queue)
       ) AS made""",
)
