"""Contrasts: what two runs, or two methods of one run, say of the same features, a part of the features at a time.

Biggest changes can't be found by an index: a part is read whole, and sorted by whoever shows it. Knows no order but
that of positions.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast
from uuid import UUID

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
    connection: Connection, run_id: UUID, methods: tuple[Method, Method], *, after: int = -1, most: int = PART
) -> Part:
    """Return what the first method of a run (`before`) and the second (`after`) say of features, by position."""
    rows = list(_queries.part(connection, run_id=run_id, after=after, most=most + 1))
    if not rows:
        return Part(0, (), None)
    lo, hi = rows[0][0], rows[:most][-1][0] + 1
    recipe = _queries.recipe(connection, run_id=run_id, lo=lo, hi=hi)
    said = _described(connection, run_id, methods, range(lo, hi), recipe)
    sides = [(feature, *(said.get((feature, method)) for method in methods)) for _, feature in rows[:most]]
    found = [Contrast(feature, old, new) for feature, old, new in sides if old is not None or new is not None]
    return Part(min(len(rows), most), tuple(found), rows[most - 1][0] if len(rows) > most else None)


def _described(
    connection: Connection, run_id: UUID, methods: Sequence[Method], positions: range, recipe: str | None
) -> Mapping[tuple[int, str], Said]:
    """Return what methods of a run say, by feature and method."""
    blocks = jobs.blocks_of(connection, run_id, Stage.DESCRIBE, positions.start, positions.stop)
    names = {"run_id": run_id, "methods": list(methods), "blocks": blocks, "recipe": recipe}
    rows = list(_queries.of_methods(connection, stage=Stage.DESCRIBE, part="descriptions", **names))
    if "refined" in methods:
        rows += _queries.of_methods(connection, stage=Stage.RANK, part="features", **names)
    return {
        (feature, method): Said(text if status == Status.OK else None, status, method, _lift(input_), _lift(output))
        for feature, method, text, status, input_, output in rows
    }


def _of_runs(row: tuple[Any, ...], swapped: bool) -> Contrast:
    _, feature, _, *both = row
    mine, theirs = _said(both[:6]), _said(both[6:])
    return Contrast(feature, mine, theirs) if swapped else Contrast(feature, theirs, mine)


def _said(columns: Sequence[Any]) -> Said | None:
    id_, text, status, method, input_, output = columns
    return None if id_ is None else Said(text, status, method, _lift(input_), _lift(output))


def _lift(score: Mapping[str, Any] | None) -> Lift | None:
    if score is None or score.get("lift") is None:
        return None
    value, low, high, success = (score.get(name) for name in ("lift", "lift_low", "lift_high", "success"))
    return Lift(cast(float, value), low, high, success)
