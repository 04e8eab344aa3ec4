"""Searching labels: by word, by words that are spelt nearly so, and by meaning. Knows not how ways are joined."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, LiteralString, NamedTuple, cast
from uuid import UUID

from psycopg.sql import SQL, Composable, Literal

from schema.errors import NotFound
from schema.labels import FeatureSummary
from schema.search import LabelFilter
from schema.store.database import Connection
from schema.store.filters import conditions_of
from schema.store.indexing import Model
from schema.store.queries import load_queries

MOST_RANKED = 2000
"""Features with the words of a question that are ranked."""
MOST_WORDS = 16
"""Words of a question for which words like them are looked for."""
SIMILAR_WORDS = 5
COMPARE_ALL = 10_000
"""Features up to which all are compared: faster than walking an index past everybody else's."""
EF_SEARCH = 200
"""Candidates of a walk: twice as many find a little more of what is nearest, for the price of some milliseconds."""
MOST_WALKED = 10_000
"""Texts that a walk compares; then it hands out those of them that are left, nearest first, and goes no further. If too
few of all pass the conditions, all that pass are compared, without the index."""

_queries = load_queries("search")
_NEGATIONS = re.compile(r"-(?:[\s\"]*-)+")
_OPERATORS = re.compile(r'"|(^|\s)-')
_COLUMNS = tuple(FeatureSummary.model_fields)
_AS_TYPED: LiteralString = "websearch_to_tsquery('english', %(question)s)"
_AS_TREE: LiteralString = "CAST(%(question)s AS tsquery)"


class Key(NamedTuple):
    """A feature of a dictionary."""

    dictionary_id: UUID
    feature: int


class Near(NamedTuple):
    """A feature whose label is near in meaning; `similarity` is the cosine."""

    key: Key
    similarity: float


class Shown(NamedTuple):
    """What is shown of a feature that was found; `similarity` is the cosine."""

    summary: FeatureSummary
    similarity: float | None


class Scope(NamedTuple):
    """Where to search: dictionaries of one tenant, and what their features must be like."""

    tenant_id: int
    dictionaries: list[UUID]
    n_features: int
    filters: LabelFilter


def open_scope(connection: Connection, tenant_id: int, filters: LabelFilter) -> Scope:
    """Return where to search.

    Raises: NotFound if this tenant does not have the dictionary that is asked for.
    """
    wanted = filters.dictionary_id
    rows = list(_queries.dictionaries(connection, tenant_id=tenant_id, dictionary_id=wanted))
    if wanted is not None and not rows:
        raise NotFound(f"no dictionary {wanted}")
    return Scope(tenant_id, [id_ for id_, _ in rows], sum(n for _, n in rows), filters)


def by_words(connection: Connection, scope: Scope, q: str, most: int) -> list[Key]:
    """Return the features whose labels have the words of a question, the best match first."""
    return _by_words(connection, scope, _AS_TYPED, plain(q), most)


def plain(q: str) -> str:
    """Return a question without repeated signs of negation, which Postgres refuses to nest."""
    return _NEGATIONS.sub(" -", q)


def by_similar_words(connection: Connection, scope: Scope, q: str, most: int) -> list[Key]:
    """Return the features whose labels have each word of a question, or one that is spelt nearly so.

    None where no word has one like it, or where phrases or words to be left out are asked for.
    """
    if _OPERATORS.search(q):
        return []
    names = {"q": q, "tenant_id": scope.tenant_id, "most": SIMILAR_WORDS, "most_words": MOST_WORDS}
    alike: list[list[str]] = [lexemes for _, lexemes in _queries.lexemes(connection, **names)]
    if all(len(lexemes) == 1 for lexemes in alike):
        return []
    tree = " & ".join(f"({' | '.join(map(_quoted, lexemes))})" for lexemes in alike)
    return _by_words(connection, scope, _AS_TREE, tree, most)


def by_meaning(connection: Connection, scope: Scope, model: Model, vector: str, most: int) -> list[Near]:
    """Return the features whose labels are nearest to a vector, the nearest first."""
    if scope.n_features > COMPARE_ALL:
        found = _walk(connection, scope, model, vector, most)
        if len(found) == most:
            return found
        _queries.walk_no_more(connection)
    return compare_all(connection, scope, model, vector, most)


def compare_all(connection: Connection, scope: Scope, model: Model, vector: str, most: int) -> list[Near]:
    """Return what `by_meaning` looks for, without an index: exactly, in time that grows with the features."""
    parameters = {"vector": vector, "most": most, "model": model.id}
    return [_near(row) for row in _run(connection, "by_all_meanings", scope, parameters)]


def show(
    connection: Connection, keys: Iterable[Key], model: Model | None = None, vector: str | None = None
) -> dict[Key, Shown]:
    """Return what is shown of some features, and how near their labels are to a vector; those that are gone stay out.

    One without an embedding, or where there is no vector, has no similarity.
    """
    rows = _queries.features(connection, model=model and model.id, vector=vector, **_wanted(keys))
    return {
        Key(dictionary_id, values[0]): Shown(FeatureSummary(**dict(zip(_COLUMNS, values, strict=True))), similarity)
        for dictionary_id, similarity, *values in rows
    }


def n_waiting(connection: Connection, scope: Scope) -> int:
    """Return how many labels are not embedded yet; of very many, some."""
    return int(_queries.n_waiting(connection, dictionaries=scope.dictionaries))


def _by_words(connection: Connection, scope: Scope, question: LiteralString, text: str, most: int) -> list[Key]:
    parameters = {"question": text, "most": most, "most_ranked": MOST_RANKED}
    rows = _run(connection, "by_words", scope, parameters, question=SQL(question))
    return [Key(*row) for row in rows]


def _walk(connection: Connection, scope: Scope, model: Model, vector: str, most: int) -> list[Near]:
    parameters = {"vector": vector, "most": most, "most_texts": MOST_WALKED}
    names = {"model": Literal(model.id), "dimensions": Literal(model.dimensions)}
    with connection.pipeline():  # one round trip
        _queries.walk_the_index(connection, ef=str(EF_SEARCH), most=str(MOST_WALKED))
        rows = _run(connection, "by_meaning", scope, parameters, **names)
    return sorted((_near(row) for row in rows), key=lambda near: (-near.similarity, near.key))


def _run(
    connection: Connection, name: str, scope: Scope, parameters: Mapping[str, Any], **parts: Composable
) -> list[tuple[Any, ...]]:
    """Return the rows of a query with a scope's conditions; planned anew each time, as values decide how."""
    asked = conditions_of(scope.filters)
    conditions = ["feature.dictionary_id = ANY(CAST(%(dictionaries)s AS uuid[]))", *asked.parts]
    text = cast(LiteralString, getattr(_queries, name).sql)
    statement = SQL(text).format(conditions=SQL(" AND ").join(map(SQL, conditions)), **parts)
    everything = {"dictionaries": scope.dictionaries, **asked.parameters, **parameters}
    return connection.execute(statement, everything, prepare=False).fetchall()


def _near(row: tuple[Any, ...]) -> Near:
    dictionary_id, index, similarity = row
    return Near(Key(dictionary_id, index), similarity)


def _wanted(keys: Iterable[Key]) -> dict[str, Sequence[Any]]:
    listed = list(keys)
    return {"dictionaries": [key.dictionary_id for key in listed], "indices": [key.feature for key in listed]}


def _quoted(lexeme: str) -> str:
    escaped = lexeme.replace("\\", "\\\\").replace("'", "''")
    return f"'{escaped}'"
