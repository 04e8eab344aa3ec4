"""A whole run in one process: real Postgres, the tiny subject and its planted dictionary, the rule-based LLM server."""

import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from psycopg_pool import ConnectionPool

from schema.blobs import open_blobs
from schema.labels import Description, Label, Score
from schema.records import DictionarySpec, Run, RunOptions, RunSpec
from schema.settings import Settings
from schema.stages import Stage
from schema.store import corpora, database, descriptions, dictionaries, evidence, labels, runs, scores
from schema.store.database import Connection
from schema.store.evidence import Stored
from tests.tiny import PlantedDictionary, make_subject, planted_dictionary, tiny_corpus
from workers.engine import Engine

SMALL = RunOptions(
    k_exemplars=8,
    k_tokens=10,
    token_change_contexts=4,
    token_change_length=12,
    n_steered_tokens=8,
    judge_trials=3,
    context_length=32,
    exemplars_in_prompt=6,
)


class House(NamedTuple):
    """What a run needs, and what it leaves."""

    settings: Settings
    pool: ConnectionPool[Connection]
    dictionary_id: UUID
    corpus_id: UUID

    def submit(self, *, n_shards: int = 2, **changes: object) -> UUID:
        """Store a run of the planted dictionary and return its id."""
        run_id = uuid.uuid4()
        spec = RunSpec.model_validate(
            {
                "dictionary_id": self.dictionary_id,
                "features": "0-7",
                "methods": ("lexical", "max_activating", "vocabulary", "combined"),
                "corpus": str(self.corpus_id),
                "options": SMALL,
                **changes,
            }
        )
        with database.lend(self.pool) as connection:
            runs.submit(connection, 1, run_id, spec, n_features=8, n_shards=n_shards)
        return run_id

    def engine(self, **changes: object) -> Engine:
        """Return a worker."""
        return Engine(self.settings.model_copy(update=changes), self.pool, owner="test")

    def work(self, stages: Sequence[Stage] = tuple(Stage), engine: Engine | None = None) -> int:
        """Carry out ready jobs of some stages until there are none, and return how many there were."""
        done = 0
        worker = engine or self.engine()
        while worker.work(stages, lambda queues: True):
            done += 1
        return done

    def run(self, run_id: UUID) -> Run:
        """Return a run with its progress."""
        with database.lend(self.pool) as connection:
            return runs.report(connection, 1, run_id)

    def labels(self, run_id: UUID) -> dict[int, Label]:
        """Return a run's labels by feature."""
        with database.lend(self.pool) as connection:
            return {label.feature: label for label in labels.of_run(connection, run_id)}

    def descriptions(self, feature: int) -> dict[str, Description]:
        """Return a feature's descriptions by method."""
        with database.lend(self.pool) as connection:
            return {d.method: d for d in descriptions.of_feature(connection, self.dictionary_id, feature)}

    def scores(self, feature: int) -> list[Score]:
        """Return a feature's scores."""
        with database.lend(self.pool) as connection:
            return scores.of_feature(connection, self.dictionary_id, feature)

    def evidence(self, feature: int) -> dict[str, Stored]:
        """Return a feature's evidence by kind."""
        with database.lend(self.pool) as connection:
            return dict(evidence.latest(connection, self.dictionary_id, feature))

    def query(self, sql: str, *values: object) -> list[tuple[object, ...]]:
        """Return what a query finds."""
        with database.lend(self.pool) as connection:
            return connection.execute(sql.encode(), values).fetchall()


@contextmanager
def open_house(
    folder: Path,
    database_url: str,
    llm_url: str,
    arch: str = "llama",
    plant: Callable[[Path, Path], PlantedDictionary] = planted_dictionary,
) -> Iterator[House]:
    """Yield a house with a planted dictionary and the tiny corpus submitted."""
    subject = make_subject(folder / "subject", arch)
    planted = plant(folder / "dictionary", subject)
    settings = Settings(
        database_url=database_url,
        llm_base_url=llm_url,
        embeddings_base_url=llm_url,
        data_dir=folder / "data",
        subjects_allowed=(str(subject),),
        dtype="float32",
        llm_timeout_s=5,
    )
    corpus = folder / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in tiny_corpus()))
    pool = database.open_pool(database_url)
    try:
        yield House(settings, pool, *_submit(settings, pool, planted.spec, planted.weights, corpus))
    finally:
        pool.close()


def _submit(
    settings: Settings, pool: ConnectionPool[Connection], spec: DictionarySpec, weights: Path, corpus: Path
) -> tuple[UUID, UUID]:
    dictionary_id, corpus_id, blobs = uuid.uuid4(), uuid.uuid4(), open_blobs(settings)
    with database.lend(pool) as connection:
        dictionaries.create(connection, 1, dictionary_id, spec)
        stored = blobs.put(weights.read_bytes())
        dictionaries.set_weights(connection, 1, dictionary_id, stored.sha256)
        corpora.create(connection, 1, corpus_id, "tiny", blobs.put(corpus.read_bytes()))
    return dictionary_id, corpus_id
