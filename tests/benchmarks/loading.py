"""A large dictionary, loaded at once: features with labels, scores, evidence, embeddings and tokens, by COPY.

Synthetic, and as awkward as the real thing: every text is another one, of words of the bundled corpus, some frequent
and most rare; its vector is the sum of those of its words by the sentence model, and noise. Indexes are made after.
"""

import hashlib
import json
import re
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, LiteralString, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from psycopg.sql import SQL
from psycopg.types.json import Jsonb

from schema.corpora import bundled_path
from schema.labels import Feature
from schema.packing import pack
from schema.records import DictionarySpec, Encoder
from schema.store import indexing
from schema.store.database import Connection
from service import examples, feature_examples

Vectors = NDArray[np.float32]

MODEL = "all-MiniLM-L6-v2"
N_WORDS, N_TOKENS = 4000, 20_000
BLOCK = 20_000
_LISTS = ("fires", "promoted", "suppressed", "raised", "lowered")
_VERBS = ("fires on", "promotes", "talk of", "words about", "the end of", "names in", "texts with")
_INDEXED = ("feature", "embedding", "feature_token")


class Words(NamedTuple):
    """Words of the bundled corpus, how often each is drawn, and their unit vectors: (n, d)."""

    texts: list[str]
    shares: NDArray[np.float64]
    vectors: Vectors


def find_words(embed: Callable[[Sequence[str]], Vectors], n: int = N_WORDS) -> Words:
    """Return the most frequent words of the bundled corpus."""
    counts: Counter[str] = Counter()
    with bundled_path().open(encoding="utf-8") as lines:
        for line in lines:
            counts.update(re.findall(r"[a-z]{3,}", json.loads(line)["text"].lower()))
    common = counts.most_common(n)
    texts = [word for word, _ in common]
    shares = np.array([count for _, count in common], np.float64) ** 0.5  # labels name things; they are not prose
    return Words(texts, shares / shares.sum(), embed(texts))


def load(connection: Connection, n: int, words: Words, tell: Callable[[str], None]) -> uuid.UUID:
    """Store a dictionary of n features of which everything is known, and return its id."""
    id_ = uuid.uuid4()
    spec = DictionarySpec(
        name=f"bench {n}",
        subject="bundled:smollm2-135m-instruct",
        read_site="resid_post.14",
        encoder=Encoder(kind="linear"),
        n_features=n,
    )
    connection.execute("SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0")
    connection.execute(
        "INSERT INTO dictionary (id, tenant_id, spec, state, digest) VALUES (%s, 1, %s, 'ready', %s)",
        (id_, Jsonb(spec.model_dump(mode="json")), "0" * 64),
    )
    model = indexing.register(connection, MODEL, words.vectors.shape[1])
    later = list(_drop_indexes(connection))
    for lo in range(0, n, BLOCK):
        block = _Block(id_, lo, min(lo + BLOCK, n), words, np.random.default_rng(lo))
        said = block.sentences()
        _copy_features(connection, block, said)
        _copy_embeddings(connection, model.id, said)
        _copy_tokens(connection, block)
        tell(f"{block.hi:,} features")
    _add_the_rest(connection, id_, n)
    connection.commit()
    connection.execute("SET maintenance_work_mem = '2GB'; SET max_parallel_maintenance_workers = 1")
    for statement in later:
        tell(statement.split(" USING ")[0])
        connection.execute(SQL(cast(LiteralString, statement)))
        connection.commit()
    connection.execute("ANALYZE")
    connection.commit()
    return id_


class _Said(NamedTuple):
    """The labels of a block, and the unit vectors of their texts."""

    texts: list[str]
    vectors: Vectors


class _Block(NamedTuple):
    """Features from `lo` to `hi` - 1, and the chance that they are made of."""

    dictionary: uuid.UUID
    lo: int
    hi: int
    words: Words
    draw: np.random.Generator

    @property
    def n(self) -> int:
        """Return how many features it has."""
        return self.hi - self.lo

    def sentences(self) -> _Said:
        """Return a label for each feature: four words, the number that makes it another one, and a verb."""
        chosen = self.draw.choice(len(self.words.texts), size=(self.n, 4), p=self.words.shares)
        texts = [
            f"{_VERBS[feature % len(_VERBS)]} {first} {second}, {third} and {fourth} ({feature})"
            for feature, (first, second, third, fourth) in enumerate(
                ([self.words.texts[word] for word in row] for row in chosen), self.lo
            )
        ]
        sums = self.words.vectors[chosen].sum(1)
        noise = self.draw.normal(size=sums.shape) * 0.5 / np.sqrt(sums.shape[1])
        vectors = sums / np.linalg.norm(sums, axis=1, keepdims=True) + noise
        return _Said(texts, (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32))


def _drop_indexes(connection: Connection) -> Iterator[str]:
    """Drop what is built faster afterwards, and yield the statements that make it again."""
    rows = connection.execute(
        """SELECT indexname, indexdef FROM pg_indexes LEFT JOIN pg_constraint ON conname = indexname
           WHERE schemaname = 'public' AND tablename = ANY(%s) AND conname IS NULL""",
        (list(_INDEXED),),
    ).fetchall()
    for name, statement in rows:
        connection.execute(SQL(cast(LiteralString, f'DROP INDEX "{name}"')))
        yield statement


def _copy_features(connection: Connection, block: _Block, said: _Said) -> None:
    draw, n = block.draw, block.n
    lifts, densities = draw.normal(0.2, 0.3, (2, n)), draw.lognormal(-6, 2, n).clip(0, 1)
    states = draw.choice(["ok", "no_pattern", "unparsed"], n, p=[0.9, 0.07, 0.03])
    columns = "dictionary_id, index, status, label, method, density, max_activation, input_success, input_value, "
    columns += "input_lift, output_success, output_value, output_lift, label_id"
    with connection.cursor().copy(SQL(cast(LiteralString, f"COPY feature ({columns}) FROM STDIN"))) as copy:
        for row, text in enumerate(said.texts):
            feature, (input_lift, output_lift) = block.lo + row, lifts[:, row].tolist()
            input_facet = (input_lift > 0.2, 0.5 + input_lift / 2, input_lift)
            output_facet = (output_lift > 0.2, 0.3 + output_lift / 2, output_lift)
            known = ("combined", float(densities[row]), 9.0, *input_facet, *output_facet)
            copy.write_row((block.dictionary, feature, str(states[row]), text, *known, feature + 1))


def _copy_embeddings(connection: Connection, model_id: int, said: _Said) -> None:
    """Write rows as Postgres sends them: three fields, each after its length; a halfvec is its size, 0, and halves."""
    n, dimensions = said.vectors.shape
    row = np.dtype(
        [
            ("fields", ">i2"),
            ("model_bytes", ">i4"),
            ("model", ">i4"),
            ("sha256_bytes", ">i4"),
            ("sha256", "V32"),
            ("vector_bytes", ">i4"),
            ("dimensions", ">i2"),
            ("unused", ">i2"),
            ("vector", ">f2", (dimensions,)),
        ]
    )
    rows = np.zeros(n, row)
    for name, value in (
        ("fields", 3),
        ("model_bytes", 4),
        ("model", model_id),
        ("sha256_bytes", 32),
        ("vector_bytes", 4 + 2 * dimensions),
        ("dimensions", dimensions),
    ):
        rows[name] = value
    rows["sha256"] = [np.void(hashlib.sha256(text.encode()).digest()) for text in said.texts]
    rows["vector"] = said.vectors
    statement = SQL("COPY embedding (model_id, text_sha256, vector) FROM STDIN (FORMAT BINARY)")
    with connection.cursor().copy(statement) as copy:
        copy.write(b"PGCOPY\n\xff\r\n\0" + bytes(8))
        copy.write(rows.tobytes())
        copy.write(b"\xff\xff")


def _copy_tokens(connection: Connection, block: _Block) -> None:
    """Write ten tokens a list, the frequent ones in many."""
    chosen = block.draw.zipf(1.3, (block.n, len(_LISTS), 10)) % N_TOKENS + 1
    statement = f"COPY feature_token (dictionary_id, feature, {', '.join(_LISTS)}) FROM STDIN"
    with connection.cursor().copy(SQL(cast(LiteralString, statement))) as copy:
        for row, lists in enumerate(chosen.tolist()):
            copy.write_row((block.dictionary, block.lo + row, *lists))


def _add_the_rest(connection: Connection, id_: uuid.UUID, n: int) -> None:
    whole = Feature.model_validate(feature_examples.FEATURE)
    assert whole.vocabulary is not None
    assert whole.steered_texts is not None
    own = ("feature", "run_id", "author", "created_at")
    names: dict[str, Any] = {
        "id": id_,
        "n": n,
        "n_tokens": N_TOKENS,
        "label": Jsonb({name: value for name, value in examples.LABEL.items() if name not in own}),
        "score": Jsonb({**examples.INPUT_SCORE, "description_id": None}),
        "vocabulary": pack(whole.vocabulary),
        "steered_texts": pack(whole.steered_texts),
    }
    for statement in _THE_REST:
        connection.execute(statement, names)


_THE_REST = (
    "INSERT INTO token (text) SELECT ' token' || i FROM generate_series(1, %(n_tokens)s) AS i",
    """INSERT INTO label (dictionary_id, feature, recipe, body)
       SELECT dictionary_id, index, 'l', CAST(%(label)s AS jsonb) || jsonb_build_object('text', label)
       FROM feature WHERE dictionary_id = %(id)s ORDER BY index""",
    """INSERT INTO score (dictionary_id, feature, kind, recipe, status, body)
       SELECT %(id)s, i, 'input', 's', 'ok', CAST(%(score)s AS jsonb) || jsonb_build_object('feature', i)
       FROM generate_series(0, %(n)s - 1) AS i""",
    """WITH made AS (INSERT INTO provenance (document) VALUES ('{}') RETURNING id)
       INSERT INTO evidence (dictionary_id, feature, kind, recipe, payload, provenance_id)
       SELECT %(id)s, i, kind, 'e', payload, made.id
       FROM made, generate_series(0, %(n)s - 1) AS i,
            (VALUES ('vocabulary', CAST(%(vocabulary)s AS bytea)), ('steered_texts', CAST(%(steered_texts)s AS bytea)))
            AS kinds (kind, payload)""",
    "INSERT INTO label_word (tenant_id, word) SELECT DISTINCT 1, word FROM feature, "
    "unnest(tsvector_to_array(to_tsvector('simple', regexp_replace(label, '[(].*', '')))) AS word "
    "WHERE index < 200000 ON CONFLICT DO NOTHING",
)
