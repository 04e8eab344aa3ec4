"""Scores of descriptions and of features."""

from collections.abc import Iterable, Sequence
from uuid import UUID

from schema.labels import Score
from schema.store.database import Connection
from schema.store.queries import as_json, load_queries

_queries = load_queries("scores")


def put(connection: Connection, dictionary_id: UUID, scores: Iterable[Score]) -> None:
    """Write (or write again) scores under their recipes."""
    for score in scores:
        _queries.put(
            connection,
            dictionary_id=dictionary_id,
            feature=score.feature,
            kind=score.kind,
            description_id=score.description_id,
            recipe=score.recipe,
            status=score.status,
            body=as_json(score.model_dump(mode="json")),
        )


def load(connection: Connection, dictionary_id: UUID, recipe: str, features: Sequence[int]) -> list[Score]:
    """Return the scores that some features have under a recipe."""
    rows = _queries.load(connection, dictionary_id=dictionary_id, features=list(features), recipe=recipe)
    return [Score.model_validate(body) for (body,) in rows]


def outlines(connection: Connection, dictionary_id: UUID, recipe: str, features: Sequence[int]) -> list[Score]:
    """Return what `load` does without reasons and details, but for `revived`: they are most of what is to be read."""
    rows = _queries.outlines(connection, dictionary_id=dictionary_id, features=list(features), recipe=recipe)
    return [Score.model_validate_json(body) for (body,) in rows]


def of_feature(connection: Connection, dictionary_id: UUID, feature: int) -> list[Score]:
    """Return a feature's newest score of every kind and description."""
    rows = _queries.of_feature(connection, dictionary_id=dictionary_id, feature=feature)
    return [Score.model_validate(body) for (body,) in rows]
