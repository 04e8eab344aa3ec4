"""Contrasts: what two runs, or two methods of one run, say of the same features, a part of the features at a time.

Biggest changes can't be found by an index: a part is read whole, and sorted by whoever shows it. Knows no order but
that of positions.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from schema.comparisons import RunChange
from schema.labels import Status
from schema.records import Method, Run
from schema.stages import Stage
from schema.store import jobs
from schema.store.database import Connection
from schema.store.queries import load_queries

PART = 500
"""Features that are compared at once: about a megabyte of labels."""

_queries = load_queries("contrasts")


class Lift(NamedTuple):
    """A lift over the control with its 95 % interval, and the paper's yes or no, where there is one."""

    value: float
    low: float | None
    high: float | None
    success: bool | None


class Said(NamedTuple):
    """What one side says of a feature. The output is the embedding judge's, or else the LLM judge's."""

    text: str | None
    status: str
    method: str | None
    input: Lift | None
    output: Lift | None


class Contrast(NamedTuple):
    """What two sides say of a feature; None where one says nothing."""

    feature: int
    before: Said | None
    after: Said | None

    @property
    def change(self) -> RunChange:
        """Return what became of the text, and whether the scores are others where the text is the same."""
        old, new = (None if side is None else side.text for side in (self.before, self.after))
        if old is None and new is not None:
            return "new"
        if old is not None and new is None:
            return "lost"
        if old != new:
            return "changed"
        return "same" if self.before == self.after else "rescored"

    @property
    def distance(self) -> float:
        """Return the larger of the differences of the two lifts; -1 where none of them is known."""
        return max((abs(d) for d in (self.difference("input"), self.difference("output")) if d is not None), default=-1)

    def difference(self, facet: str) -> float | None:
        """Return by how much the lift of a facet (`input`, `output`) grew; None where a side has none."""
        old, new = (None if side is None else getattr(side, facet) for side in (self.before, self.after))
        return None if old is None or new is None else new.value - old.value


class Part(NamedTuple):
    """Some features of a run, those of them that both sides are about, and where to go on; None at the end."""

    n_looked_at: int
    contrasts: tuple[Contrast, ...]
    after: int | None


def of_runs(connection: Connection, run: Run, other: Run, *, after: int = -1, most: int = PART) -> Part:
    """Return what a run (`after`) and another (`before`) said of features that both selected.

    Goes through the features of the smaller run, by position; `after` is the last position seen.
    """
    swapped = (other.n_features or 0) < (run.n_features or 0)
    mine, theirs = (other, run) if swapped else (run, other)
    rows = list(_queries.of_runs(connection, run_id=mine.id, against=theirs.id, after=after, most=most + 1))
    found = [_of_runs(row, swapped) for row in rows[:most] if row[2]]
    return Part(min(len(rows), most), tuple(found), rows[most - 1][0] if len(rows) > most else None)


def of_methods(
    connection: Connection, run: Run, methods: tuple[Method, Method], *, after: int = -1, most: int = PART
) -> Part:
    """Return what the first method of a run (`before`) and the second (`after`) say of features, by position."""
    rows = list(_queries.part(connection, run_id=run.id, after=after, most=most + 1))
    if not rows:
        return Part(0, (), None)
    shown = rows[:most]
    said = _described(connection, run, methods, range(shown[0][0], shown[-1][0] + 1))
    sides = [(feature, *(said.get((feature, method)) for method in methods)) for _, feature in shown]
    found = [Contrast(feature, old, new) for feature, old, new in sides if old is not None or new is not None]
    return Part(len(shown), tuple(found), shown[-1][0] if len(rows) > most else None)


def _described(
    connection: Connection, run: Run, methods: Sequence[Method], positions: range
) -> Mapping[tuple[int, str], Said]:
    """Return what methods of a run say, by feature and method."""
    recipe = _queries.recipe(connection, run_id=run.id, lo=positions.start, hi=positions.stop)
    ids = _description_ids(connection, run, methods, positions)
    rows = _queries.described(connection, ids=ids, methods=list(methods), recipe=recipe)
    said = {(feature, method): _said(columns) for feature, method, *columns in rows}
    return {key: one._replace(text=one.text if one.status == Status.OK else None) for key, one in said.items() if one}


def _description_ids(connection: Connection, run: Run, methods: Sequence[Method], positions: range) -> list[int]:
    """Return the ids of the descriptions that a run has about some positions, and maybe about those beside them."""
    # Blocks hold so many positions or a few less, in their order: see `graph.blocks_of`.
    size = _queries.block_size(connection, run_id=run.id) or 1
    blocks = range(max(0, positions.start // size - 1), positions.stop // size + 4)
    made = [job.result for job in jobs.results(connection, run.id, Stage.DESCRIBE, blocks) if job.result]
    ids = [id_ for result in made for of_one in result["descriptions"].values() for id_ in of_one]
    if "refined" in methods:
        ranked = [job.result for job in jobs.results(connection, run.id, Stage.RANK, blocks) if job.result]
        ids += [id_ for result in ranked for left in result["features"].values() for id_ in left["refined"]]
    return ids


def _of_runs(row: tuple[Any, ...], swapped: bool) -> Contrast:
    _, feature, _, *both = row
    mine, theirs = _said(both[:12]), _said(both[12:])
    return Contrast(feature, mine, theirs) if swapped else Contrast(feature, theirs, mine)


def _said(columns: Sequence[Any]) -> Said | None:
    id_, text, status, method = columns[:4]
    return None if id_ is None else Said(text, status, method, _lift(columns[4:8]), _lift(columns[8:]))


def _lift(texts: Sequence[str | None]) -> Lift | None:
    value, low, high, success = texts
    if value is None:
        return None
    return Lift(float(value), _number(low), _number(high), None if success is None else success == "true")


def _number(text: str | None) -> float | None:
    return None if text is None else float(text)
