"""Exports: how fast a dictionary of 100,000 features leaves through the API, and in how much memory."""

import os
import resource
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

from psycopg.types.json import Jsonb

from schema.records import DictionarySpec, Encoder
from schema.settings import Settings
from schema.store import database
from schema.store.database import Connection
from schema.wire import ExportFormat
from service import examples
from service.client import Client
from tests.benchmarks.claiming import running_postgres
from tests.benchmarks.measure import Row, at_most, timed
from tests.service.conftest import serving

N, N_FEW = 100_000, 10_000
LEAST = 5_000  # features a second
EVIDENCE_BYTES = 3_900  # of a feature, all five kinds together
_FORMATS: tuple[tuple[ExportFormat, dict[str, object]], ...] = (
    ("csv", {}),
    ("json", {}),
    ("parquet", {}),
    ("delphi", {}),
    ("neuronpedia", {"parts": ["explanations"]}),
    ("archive", {}),
)


def exporting() -> Iterator[Row]:
    """Yield the features a second of every format, file and all, and the growth of memory from a tenth to the whole."""
    with running_postgres() as postgres, tempfile.TemporaryDirectory(prefix="glossarium-bench-") as folder:
        few, many = uuid.uuid4(), uuid.uuid4()
        with database.connect(postgres.url) as connection:
            _fill(connection, few, N_FEW)
            _fill(connection, many, N)
            connection.commit()
            connection.execute("ANALYZE")
        settings = Settings(database_url=postgres.url, redis_url="redis://127.0.0.1:1/0", data_dir=Path(folder))
        with serving(settings) as api:
            # All formats of the small one first: what they load and grow once is there before the large one comes.
            for format_, options in _FORMATS:
                _seconds(api.client, few, format_, options, Path(folder))
            before = _peak_mb()
            for format_, options in _FORMATS:
                seconds = _seconds(api.client, many, format_, options, Path(folder))
                ours = N / seconds
                parts = f", {', '.join(map(str, options['parts']))}" if "parts" in options else ""  # type: ignore[arg-type]
                name = f"export of {N:,} features, {format_}{parts}"
                target = f">= {LEAST:,}/s"
                yield Row(name, ours, LEAST, ours / LEAST, "1/s", target, ours >= LEAST, "speed against the target")
            yield at_most("peak memory of API and client, after that", _peak_mb(), before, 1.1, "MB", "10,000 features")


def _seconds(client: Client, id_: uuid.UUID, format_: ExportFormat, options: dict[str, object], folder: Path) -> float:
    out = folder / uuid.uuid4().hex
    return timed(lambda: client.export(id_, format_, out, **options)).seconds


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _fill(connection: Connection, id_: uuid.UUID, n: int) -> None:
    """Store a dictionary of which every feature has evidence, a description, two scores and a label."""
    spec = DictionarySpec(
        name=f"bench {n}",
        subject="bundled:smollm2-135m-instruct",
        read_site="resid_post.14",
        encoder=Encoder(kind="linear"),
        n_features=n,
    )
    body = {"method": "combined", "status": "ok", "text": examples.LABEL["text"], "trigger": "rivers", "recipe": "d"}
    label = {
        key: value for key, value in examples.LABEL.items() if key not in ("feature", "run_id", "author", "created_at")
    }
    names = {
        "id": id_,
        "n": n,
        "spec": Jsonb(spec.model_dump(mode="json")),
        "body": Jsonb(body),
        "label": Jsonb(label),
        "score": Jsonb(examples.INPUT_SCORE),
        "payload": os.urandom(EVIDENCE_BYTES),
    }
    for statement in _FILL:
        connection.execute(statement, names)


_FILL = (
    "INSERT INTO dictionary (id, tenant_id, spec, state, digest) VALUES (%(id)s, 1, %(spec)s, 'ready', '"
    + "0" * 64
    + "')",
    """INSERT INTO description (dictionary_id, feature, method, recipe, status, body)
       SELECT %(id)s, i, 'combined', 'd', 'ok', CAST(%(body)s AS jsonb) || jsonb_build_object('feature', i)
       FROM generate_series(0, %(n)s - 1) AS i""",
    """INSERT INTO score (dictionary_id, feature, kind, description_id, recipe, status, body)
       SELECT dictionary_id, feature, kind, id, 's', 'ok',
              CAST(%(score)s AS jsonb) || jsonb_build_object('feature', feature, 'description_id', id, 'kind', kind)
       FROM description CROSS JOIN (VALUES ('input'), ('output')) AS kinds (kind) WHERE dictionary_id = %(id)s""",
    """INSERT INTO label (dictionary_id, feature, recipe, body)
       SELECT dictionary_id, feature, 'l', CAST(%(label)s AS jsonb) || jsonb_build_object('description_id', id)
       FROM description WHERE dictionary_id = %(id)s""",
    """INSERT INTO feature (dictionary_id, index, status, label, method, density, label_id)
       SELECT dictionary_id, feature, 'ok', body ->> 'text', 'combined', 0.01, id
       FROM label WHERE dictionary_id = %(id)s""",
    """WITH made AS (INSERT INTO provenance (document) VALUES ('{}') RETURNING id)
       INSERT INTO evidence (dictionary_id, feature, kind, recipe, payload, provenance_id)
       SELECT %(id)s, i, 'vocabulary', 'e', %(payload)s, made.id FROM made, generate_series(0, %(n)s - 1) AS i""",
)
