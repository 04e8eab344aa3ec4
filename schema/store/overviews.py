"""Overviews: what pages show of many dictionaries, runs and features at once, for as little however many there are.

Nothing here looks at all features of a dictionary: what they come to is said by reports of runs, or by some of them.
"""

import random
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from schema.budgets import NANO
from schema.labels import Score, Status
from schema.records import Amount, Run, RunSpec
from schema.reports import Control, LabelReport, MethodReport
from schema.store import runs
from schema.store.database import Connection
from schema.store.queries import load_queries
from schema.store.search import Key

MOST_COUNTED = 5000
"""Labels of a dictionary that are counted; of more, the reports know."""
MOST_LISTED = 20_000
"""Features with a lift among which a sample is drawn; of more, it is drawn among all features."""

_queries = load_queries("overviews")


class Findings(NamedTuple):
    """What the newest report of a dictionary says."""

    run_id: UUID
    created_at: datetime
    n_features: int
    labels: LabelReport
    methods: tuple[MethodReport, ...]
    controls: tuple[Control, ...]


class Labelled(NamedTuple):
    """How many features have a label; `least` where it may be more."""

    n: int
    least: bool


class Overview(NamedTuple):
    """What is known of a dictionary at a glance. `spent.dollars` is None where the price of a call is not known."""

    labelled: Labelled
    run: Run | None = None
    findings: Findings | None = None
    spent: Amount | None = None


class Unfinished(NamedTuple):
    """A run that is not over, with its stages, and the name of its dictionary."""

    run: Run
    dictionary: str


class CollectionOutline(NamedTuple):
    """A collection and how many dictionaries are in it."""

    id: UUID
    name: str
    created_at: datetime
    n_dictionaries: int


class Named(NamedTuple):
    """Something by its name."""

    id: UUID
    name: str


class Measured(NamedTuple):
    """Who wrote a label, and its scores on both sides, without what they were made of."""

    author: str
    input: Score | None
    output: Score | None


class Lifts(NamedTuple):
    """Both lifts of a feature."""

    feature: int
    input: float
    output: float


class Sample(NamedTuple):
    """Features with both lifts, by index. `n_known` is how many have an input lift, None if nobody counted."""

    items: tuple[Lifts, ...]
    n_known: int | None


def of_dictionaries(connection: Connection, ids: Sequence[UUID]) -> dict[UUID, Overview]:
    """Return an overview of each of some dictionaries."""
    wanted = {"ids": list(ids)}
    latest = {run.dictionary_id: run for run in map(_run, _queries.latest_runs(connection, **wanted))}
    reports = findings(connection, ids)
    spent = {
        id_: Amount(dollars=None if nano is None else nano / NANO, tokens=tokens)
        for id_, tokens, nano in _queries.spent(connection, **wanted)
    }
    counted = dict(_queries.labelled(connection, **wanted, most=MOST_COUNTED))
    return {
        id_: Overview(_labelled(counted[id_], reports.get(id_)), latest.get(id_), reports.get(id_), spent.get(id_))
        for id_ in ids
    }


def findings(connection: Connection, ids: Sequence[UUID]) -> dict[UUID, Findings]:
    """Return what the newest report of each of some dictionaries says; those without one are left out."""
    return {
        id_: Findings(
            run_id,
            created_at,
            n_features,
            LabelReport.model_validate(labels),
            tuple(MethodReport.model_validate(one) for one in methods),
            tuple(Control.model_validate(one) for one in controls),
        )
        for id_, run_id, created_at, n_features, labels, methods, controls in _queries.latest_reports(
            connection, ids=list(ids)
        )
    }


def unfinished(connection: Connection, tenant_id: int, most: int) -> list[Unfinished]:
    """Return the newest runs that are not over, with their stages."""
    rows = [(_run(row[:-1]), row[-1]) for row in _queries.unfinished_runs(connection, tenant_id=tenant_id, most=most)]
    stages = runs.progress_of(connection, [run.id for run, _ in rows])
    return [Unfinished(run.model_copy(update={"stages": stages.get(run.id, ())}), name) for run, name in rows]


def collections(connection: Connection, tenant_id: int, most: int) -> list[CollectionOutline]:
    """Return the newest collections."""
    return [CollectionOutline(*row) for row in _queries.collections(connection, tenant_id=tenant_id, most=most)]


def collections_of(connection: Connection, dictionary_id: UUID, most: int) -> list[Named]:
    """Return the newest collections that a dictionary is in."""
    return [Named(*row) for row in _queries.collections_of(connection, dictionary_id=dictionary_id, most=most)]


def dictionary_names(connection: Connection, tenant_id: int, most: int) -> list[Named]:
    """Return the newest dictionaries by name."""
    return [Named(*row) for row in _queries.dictionary_names(connection, tenant_id=tenant_id, most=most)]


def names_of(connection: Connection, ids: Iterable[UUID]) -> dict[UUID, str]:
    """Return the names of some dictionaries, whoever has them."""
    return dict(_queries.names_of(connection, ids=list(set(ids))))


def measured(connection: Connection, keys: Iterable[Key]) -> dict[Key, Measured]:
    """Return who wrote the current labels of some features, and their scores; those without a label are left out."""
    listed = list(keys)
    rows = _queries.measured(
        connection, dictionaries=[key.dictionary_id for key in listed], indices=[key.feature for key in listed]
    )
    return {
        Key(id_, index): Measured(author, _score(inner), _score(outer)) for id_, index, author, inner, outer in rows
    }


def has_lifts(connection: Connection, dictionary_id: UUID) -> bool:
    """Return whether any label of a dictionary has an input lift."""
    return any(True for _ in _queries.with_input_lift(connection, dictionary_id=dictionary_id, most=1))


def sample(connection: Connection, dictionary_id: UUID, n_features: int, most: int, seed: int = 0) -> Sample:
    """Return the lifts of features of a dictionary: of all that have both, or of a sample drawn with a seed."""
    draw = random.Random(seed)
    rows = _queries.with_input_lift(connection, dictionary_id=dictionary_id, most=MOST_LISTED + 1)
    listed = sorted(index for (index,) in rows)
    if len(listed) <= MOST_LISTED:
        drawn, n_known = draw.sample(listed, min(most, len(listed))), len(listed)
    else:
        drawn, n_known = draw.sample(range(n_features), min(most, n_features)), None
    found = _queries.lifts(connection, dictionary_id=dictionary_id, indices=drawn)
    return Sample(tuple(sorted(Lifts(*row) for row in found)), n_known)


def _labelled(counted: int, known: Findings | None) -> Labelled:
    """Return what a count that stops at a limit and the newest report say together."""
    if counted < MOST_COUNTED or known is None:
        return Labelled(counted, counted == MOST_COUNTED)
    reported = sum(one.n for one in known.labels.statuses if one.status == Status.OK)
    return Labelled(max(counted, reported), True)


def _score(body: Any) -> Score | None:
    return None if body is None else Score.model_validate(body)


def _run(row: tuple[Any, ...]) -> Run:
    fields = ("id", "dictionary_id", "spec", "state", "note", "created_at", "started_at", "finished_at", "n_features")
    named = dict(zip(fields, row, strict=True))
    return Run(**{**named, "spec": RunSpec.model_validate(named["spec"])})
