"""What search knows beside the labels themselves: embeddings of their texts, their words, and a queue of what is new.

A row of the queue is written together with what it is about. Whoever takes it sees what is stored by then, and removes
no other row: so nothing is missed, however publishing and indexing overlap.
"""

from collections.abc import Sequence
from typing import Any, Literal, LiteralString, NamedTuple, cast
from uuid import UUID

from psycopg.sql import SQL, Identifier
from psycopg.sql import Literal as Number

from schema.store.database import Connection
from schema.store.queries import load_queries

Topic = Literal["labels", "tokens"]

MOST_DIMENSIONS = 4000
"""That an HNSW index of half-precision vectors takes."""

_queries = load_queries("indexing")


class Model(NamedTuple):
    """An embedding model, as far as vectors of different ones differ."""

    id: int
    dimensions: int


class Queued(NamedTuple):
    """A row of the queue."""

    number: int
    dictionary_id: UUID
    features: list[int]


class LabelText(NamedTuple):
    """The text of one or more labels."""

    sha256: bytes
    text: str


class Place(NamedTuple):
    """The key of an embedding; a round over all of them begins before the first."""

    model_id: int = 0
    sha256: bytes = b""


def add(connection: Connection, dictionary_id: UUID, what: Topic, features: Sequence[int]) -> None:
    """Have some features looked at, in rows of at most 256."""
    if features:
        _queries.add(connection, dictionary_id=dictionary_id, what=what, features=list(features))


def try_lock(connection: Connection) -> bool:
    """Return whether this transaction may index; there is one at a time."""
    return bool(_queries.try_lock(connection))


def take(connection: Connection, what: Topic, most: int) -> list[Queued]:
    """Return the oldest rows of the queue, with about as many features. They stay in it until they are done."""
    return [Queued(*row) for row in _queries.take(connection, what=what, most=most)]


def done(connection: Connection, rows: Sequence[Queued]) -> None:
    """Remove rows from the queue."""
    _queries.done(connection, numbers=[row.number for row in rows])


def texts(connection: Connection, rows: Sequence[Queued]) -> list[LabelText]:
    """Return the texts of the labels that queued features have now, each once."""
    return [LabelText(*row) for row in _queries.texts(connection, numbers=[row.number for row in rows])]


def add_words(connection: Connection, rows: Sequence[Queued]) -> None:
    """Remember the words of the labels that queued features have now."""
    _queries.add_words(connection, numbers=[row.number for row in rows])


def newest_model(connection: Connection, name: str) -> Model | None:
    """Return what is known of a model; where its dimensions changed, of its last form."""
    row = _queries.newest_model(connection, name=name)
    return None if row is None else Model(*row)


def find_model(connection: Connection, name: str, dimensions: int) -> Model | None:
    """Return a model by name and dimensions."""
    row = _queries.model(connection, name=name, dimensions=dimensions)
    return None if row is None else Model(*row)


def register(connection: Connection, name: str, dimensions: int) -> Model:
    """Return a model by name and dimensions. A new one has an index of its own, and all labels are queued for it."""
    found = find_model(connection, name, dimensions)
    if found is not None:
        return found
    made = Model(_queries.add_model(connection, name=name, dimensions=dimensions), dimensions)
    make_index(connection, made)
    _queries.add_all_labels(connection)
    return made


def make_index(connection: Connection, model: Model) -> None:
    """Make the index of a model."""
    statement = SQL(cast(LiteralString, _queries.make_index.sql)).format(
        index=Identifier(index_of(model)), model=Number(model.id), dimensions=Number(model.dimensions)
    )
    connection.execute(statement)


def index_of(model: Model) -> str:
    """Return the name of a model's index."""
    return f"embedding_of_model_{model.id}"


def unknown(connection: Connection, model: Model, some: Sequence[LabelText]) -> list[LabelText]:
    """Return those texts that have no embedding yet."""
    rows = _queries.known(connection, model_id=model.id, sha256s=[one.sha256 for one in some])
    known = {sha256 for (sha256,) in rows}
    return [one for one in some if one.sha256 not in known]


def put(connection: Connection, model: Model, some: Sequence[LabelText], vectors: Sequence[Sequence[float]]) -> None:
    """Store the embeddings of some texts: unit vectors of the model's dimensions."""
    _queries.put(
        connection,
        model_id=model.id,
        sha256s=[one.sha256 for one in some],
        vectors=[as_vector(vector) for vector in vectors],
    )


def forget_some(connection: Connection, current: Model, after: Place, most: int) -> Place:
    """Delete what nobody needs any more of the next embeddings, and return where to go on."""
    rows: list[Any] = list(_queries.some_embeddings(connection, model_id=after.model_id, after=after.sha256, most=most))
    if not rows:
        return Place()
    last = Place(*rows[-1])
    _queries.forget(
        connection,
        model_id=after.model_id,
        after=after.sha256,
        last_model=last.model_id,
        last=last.sha256,
        current=current.id,
    )
    return last


def as_vector(values: Sequence[float]) -> str:
    """Return a vector as pgvector reads it; its half precision has four digits."""
    return "[" + ",".join(f"{value:.5g}" for value in values) + "]"
