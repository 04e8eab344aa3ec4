"""A run's report as tables: who was scored, how, and beside what. Values in, rows out; asks nobody for anything."""

from collections.abc import Iterator
from typing import NamedTuple

from schema.labels import Estimate, ScoreKind
from schema.reports import Control, RunReport, Summary

PUBLISHED = "published labels"
CHANCE = 1 / 3
"""Of the judges, who choose one of three sets."""

_QUESTIONS: dict[ScoreKind, str] = {
    "input": "Does the feature fire on sentences that were written from the description alone?",
    "output": "Are its steered texts told from those of two others, by embeddings? Success: more often than not.",
    "output_llm": "The same, by an LLM judge that only ever reports; success: in most of its trials.",
    "embedding_auroc": "Are contexts where it fires nearer to the description than others?",
    "detection": "Does the LLM judge know in which contexts it fires?",
    "fuzzing": "Does the LLM judge know on which tokens it fires?",
}
_NAMES: dict[ScoreKind, str] = {
    "input": "Input",
    "output": "Output",
    "output_llm": "Output, LLM judge",
    "embedding_auroc": "Embedding AUROC",
    "detection": "Detection",
    "fuzzing": "Fuzzing",
    "sensitivity": "Sensitivity: fires on texts like its exemplars",
    "free_input": "Input score: fires where it promotes",
    "free_output": "Output score: promoted tokens follow",
}
_CONTROLS: dict[ScoreKind, str] = {
    "input": "The feature fires on sentences for other features",
    "output": "Another feature's description is chosen",
    "output_llm": "Another feature's description is chosen, LLM judge",
    "embedding_auroc": "AUROC of other features' descriptions",
    "sensitivity": "Fires on texts like others' exemplars",
    "free_input": "Input score with other features' tokens",
    "free_output": "Output score with other features' tokens",
}


class Line(NamedTuple):
    """Whose scores they are, and the scores; the published labels come first."""

    name: str
    summary: Summary

    @property
    def is_published(self) -> bool:
        """Return whether these are the labels rather than the descriptions of one method."""
        return self.name == PUBLISHED


class Table(NamedTuple):
    """The scores of one kind, of the labels and of every method."""

    kind: ScoreKind | None
    name: str
    question: str
    lines: tuple[Line, ...]

    @property
    def side(self) -> str:
        """Return the colour of the table's bars."""
        return "output" if self.kind in ("output", "output_llm", "free_output") else "input"

    @property
    def chance(self) -> float | None:
        """Return what guessing would score, where that is a constant."""
        return CHANCE if self.kind in ("output", "output_llm") else None

    def of(self, name: str) -> Summary | None:
        """Return the scores of one line, None where there is none of that name."""
        return next((line.summary for line in self.lines if line.name == name), None)

    @property
    def has_success(self) -> bool:
        """Return whether there is a yes or no of anybody."""
        return any(line.summary.success for line in self.lines)


class Overview(NamedTuple):
    """The tables beside each other, and whose lines they have: the published labels first, then the methods."""

    tables: tuple[Table, ...]
    names: tuple[str, ...]


class ControlLine(NamedTuple):
    """A control, with what its interval means for the scores above it."""

    name: str
    control: Control
    meaning: str


def tables(found: RunReport) -> tuple[Table, ...]:
    """Return the scores of a run's labels and methods by kind, and those of the features themselves."""
    made = [Table(kind, _NAMES[kind], question, tuple(_lines(found, kind))) for kind, question in _QUESTIONS.items()]
    own = tuple(Line(_NAMES[summary.kind], summary) for summary in found.features)
    made.append(Table(None, "The features themselves", "Whatever their labels say, and without an LLM.", own))
    return tuple(table for table in made if table.lines)


def overview(made: tuple[Table, ...]) -> Overview:
    """Return the tables of labels and methods for one look at all of them."""
    found = tuple(table for table in made if table.kind is not None)
    return Overview(found, tuple(dict.fromkeys(line.name for table in found for line in table.lines)))


def controls_in_words(found: RunReport) -> tuple[ControlLine, ...]:
    """Return the controls of a run, each with what it says."""
    return tuple(
        ControlLine(_CONTROLS.get(control.kind, control.kind), control, _meaning(control)) for control in found.controls
    )


def _lines(found: RunReport, kind: ScoreKind) -> Iterator[Line]:
    whose = [(PUBLISHED, found.labels.scores), *((method.method, method.scores) for method in found.methods)]
    for name, summaries in whose:
        yield from (Line(name, summary) for summary in summaries if summary.kind == kind)


def _meaning(control: Control) -> str:
    if control.chance is None:
        return "No constant says what chance is here: this measured rate is it."
    chance = "1/3" if abs(control.chance - CHANCE) < 1e-6 else f"{control.chance:.2f}"
    if control.contains_chance:
        return f"The interval holds {chance}, which is guessing: wrong descriptions win nothing, as it should be."
    rate: Estimate = control.rate
    if rate.low > control.chance:
        return f"Above {chance}: wrong descriptions win more than guesses would. Take the successes with that much off."
    return f"Below {chance}: wrong descriptions win less than guesses would. Lifts are over this rate, not over chance."
