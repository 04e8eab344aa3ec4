"""The features of a run by position, and the brief that every job of the run starts from."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from schema.errors import NotFound
from schema.records import Dictionary, RunSpec
from schema.store.database import Connection
from schema.store.queries import load_queries

_queries = load_queries("run_features")


class Brief(NamedTuple):
    """What a run was asked to do, and with which dictionary.

    llms:  the recipes of its LLM profiles when it was submitted, by name; None of runs that were submitted without.
    """

    run_id: UUID
    tenant_id: int
    spec: RunSpec
    dictionary: Dictionary
    llms: Mapping[str, Any] | None = None


class RunFeature(NamedTuple):
    """A feature at a position of a run; `pooled` ones supply distractors and controls, whether selected or not."""

    position: int
    feature: int
    selected: bool
    pooled: bool


def brief(connection: Connection, run_id: UUID) -> Brief:
    """Return the brief of a run. Raises NotFound."""
    row = _queries.brief(connection, run_id=run_id)
    if row is None:
        raise NotFound(f"run {run_id} is gone")
    names = ("id", "spec", "state", "weights_sha256", "digest", "error", "created_at")
    dictionary = Dictionary.model_validate(dict(zip(names, row[3:-1], strict=True)))
    return Brief(row[0], row[1], RunSpec.model_validate(row[2]), dictionary, row[-1])


def put(connection: Connection, run_id: UUID, features: Sequence[RunFeature]) -> None:
    """Write the features of a run, in the order of their positions from 0 on."""
    _queries.put(
        connection,
        run_id=run_id,
        features=[entry.feature for entry in features],
        selected=[entry.selected for entry in features],
        pooled=[entry.pooled for entry in features],
    )
    _queries.set_n_features(connection, run_id=run_id, n_features=sum(entry.selected for entry in features))


def block(connection: Connection, run_id: UUID, lo: int, hi: int) -> list[RunFeature]:
    """Return the features at positions lo..hi-1."""
    return [RunFeature(*row) for row in _queries.block(connection, run_id=run_id, lo=lo, hi=hi)]


def pool(connection: Connection, run_id: UUID) -> list[RunFeature]:
    """Return the pool of a run."""
    return [RunFeature(*row) for row in _queries.pool(connection, run_id=run_id)]


def selected(connection: Connection, run_id: UUID, most: int) -> list[int]:
    """Return up to `most` of the features that a run is about, by position."""
    return [feature for (feature,) in _queries.selected(connection, run_id=run_id, most=most)]
