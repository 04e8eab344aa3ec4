"""The report of a run as a person reads it in a terminal. Values in, rich renderables out; asks nobody for anything."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from schema.labels import Estimate, ScoreKind, Status
from schema.reports import Control, LabelStatus, RankedFeature, RunReport, Summary
from service.paper import PAPER
from service.render import printable, stages_table, usage_table

_PUBLISHED = "published label"
_QUESTIONS: dict[ScoreKind, str] = {
    "input": "input: does the feature fire on sentences written from the description alone?",
    "output": "output, embedding judge: are its steered texts told from those of two others?",
    "output_llm": "output, LLM judge: the same, asked of an LLM that only ever reports",
    "embedding_auroc": "embedding AUROC: are contexts where it fires nearer to the description?",
    "detection": "detection: does the LLM judge know in which contexts it fires?",
    "fuzzing": "fuzzing: does the LLM judge know on which tokens it fires?",
}
_OF_FEATURES: dict[ScoreKind, str] = {
    "sensitivity": "sensitivity: fires on texts like its exemplars",
    "free_input": "input score: fires where it promotes",
    "free_output": "output score: promoted tokens follow",
}
_CONTROLS: dict[ScoreKind, str] = {
    "input": "input: succeeds on sentences for other features",
    "output": "output: another feature's description is chosen",
    "output_llm": "LLM judge: another feature's description is chosen",
    "embedding_auroc": "embedding AUROC of other features' descriptions",
    "sensitivity": "sensitivity: fires on texts like others' exemplars",
    "free_input": "input score with other features' tokens",
    "free_output": "output score with other features' tokens",
}


class Line(NamedTuple):
    """One line of a table: whose scores they are."""

    name: str
    summary: Summary


def report(found: RunReport) -> Group:
    """Return everything that a report says, the labels first."""
    parts: list[RenderableType] = [_head(found), Text()]
    for kind, question in _QUESTIONS.items():
        lines = list(_lines(found, kind))
        parts += [_scores(question, lines), Text()] if lines else []
    if any(method.method in of_model for method in found.methods for of_model in PAPER.values()):
        parts += [_paper(found), Text()]
    if found.features:
        lines = [Line(_OF_FEATURES.get(summary.kind, summary.kind), summary) for summary in found.features]
        parts += [_scores("the features themselves, whatever their labels say", lines), Text()]
    if found.controls:
        parts += [_controls(found.controls), Text()]
    parts += [*_ranking(found), stages_table(found.stages)]
    if found.usage is not None and found.usage.calls:
        parts += [Text(), usage_table(found.usage)]
    return Group(*parts)


def interval(estimate: Estimate | None, form: str) -> Text:
    """Return a value with its interval, `0.71 [0.62, 0.80]`, or a dash where there is none."""
    if estimate is None:
        return Text("–", "dim")
    value, low, high = (_number(number, form) for number in (estimate.value, estimate.low, estimate.high))
    return Text(value).append(f" [{low}, {high}]", "dim")


def in_words(statuses: Mapping[Status, int] | Mapping[LabelStatus, int]) -> str:
    """Return statuses as words: `3 unparsed, 1 too rare`."""
    return ", ".join(f"{n} {status.replace('_', ' ')}" for status, n in statuses.items())


def _number(value: float, form: str) -> str:
    return f"{value:.0%}" if form == "%" else format(value, form)


def _head(found: RunReport) -> Panel:
    body = Text()
    statuses = [f"{share.n} {share.status.replace('_', ' ')} ({share.share:.0%})" for share in found.labels.statuses]
    body.append(f"labels of {found.n_features} features: ", "bold").append(", ".join(statuses))
    winners = ", ".join(f"{n} {method}" for method, n in found.labels.methods.items())
    body.append(f"\nwritten by: {winners or 'no method'}")
    for method in found.methods:
        body.append(f"\n{method.method}: descriptions {in_words(method.descriptions) or 'none'}", "dim")
    dead = found.dead
    if dead.n:
        revived = (
            f", {dead.n_revived} of {dead.n_tested} revived by sentences written for them" if dead.n_tested else ""
        )
        body.append(f"\ndead (never fired in the corpus): {dead.n}{revived}")
    return Panel(body, title=f"run {str(found.run_id)[:8]}", subtitle="[…]: 95 % over features", title_align="left")


def _lines(found: RunReport, kind: ScoreKind) -> Iterator[Line]:
    lines = [(_PUBLISHED, found.labels.scores), *((method.method, method.scores) for method in found.methods)]
    for name, summaries in lines:
        yield from (Line(name, summary) for summary in summaries if summary.kind == kind)


def _scores(title: str, lines: list[Line]) -> Group:
    table = _table()
    table.add_column("")
    has_success = any(line.summary.success for line in lines)
    for heading in ("n", *(("success",) if has_success else ()), "mean", "lift"):
        table.add_column(heading, no_wrap=True, justify="right" if heading == "n" else "left")
    for name, summary in lines:
        table.add_row(
            Text(name, "bold" if name == _PUBLISHED else ""),
            str(summary.n_scored),
            *((interval(summary.success, "%"),) if has_success else ()),
            interval(summary.value, ".2f"),
            interval(summary.lift, "+.2f"),
        )
    return Group(_title(title), table, *_not_scored(lines))


def _not_scored(lines: list[Line]) -> list[Padding]:
    """Return who was not scored and why, in words, lines of the same words together; nothing where everybody was."""
    names: dict[str, list[str]] = {}
    for name, summary in lines:
        if summary.not_scored:
            names.setdefault(in_words(summary.not_scored), []).append(name.split(":")[0])
    said = "; ".join(f"{words} ({', '.join(of)})" for words, of in names.items())
    return [Padding(Text(f"not scored: {said}", "dim"), (0, 1))] if said else []


def _paper(found: RunReport) -> Group:
    """Return what the paper's authors found with the methods of the run."""
    table = _table()
    table.add_column("")
    for model in PAPER:
        for side in ("input", "output"):
            table.add_column(f"{model}\n{side}", no_wrap=True, justify="right")
    for method in found.methods:
        known = [of_model[method.method] for of_model in PAPER.values() if method.method in of_model]
        if known:
            table.add_row(method.method, *(f"{percent:.1f}%" for success in known for percent in success))
    return Group(_title("the paper's success (arXiv 2501.08319), with other subjects, LLMs and distractors"), table)


def _controls(controls: tuple[Control, ...]) -> Group:
    table = _table()
    table.add_column("")
    for heading in ("n", "rate", "chance", "contains it"):
        table.add_column(heading, no_wrap=True, justify="right" if heading == "n" else "left")
    for control in controls:
        form = "%" if control.figure == "success" else ".2f"
        chance = "measured" if control.chance is None else f"{control.chance:.2f}"
        name = _CONTROLS.get(control.kind, control.kind)
        table.add_row(name, str(control.rate.n), interval(control.rate, form), chance, _contains(control))
    return Group(_title("controls: what is scored where nothing should be found"), table)


def _contains(control: Control) -> Text:
    if control.contains_chance is None:
        return Text("–", "dim")
    return Text("yes", "green") if control.contains_chance else Text("no", "red")


def _ranking(found: RunReport) -> Iterator[RenderableType]:
    ranking = found.ranking
    for name, ranked in (("best", ranking.best), ("worst", ranking.worst)):
        if ranked:
            yield _ranked(f"the {name} of {ranking.n_ranked} labels, by the lower bounds of their lifts", ranked)
            yield Text()


def _ranked(title: str, ranked: tuple[RankedFeature, ...]) -> Group:
    table = _table()
    table.add_column("feature", no_wrap=True, justify="right")
    table.add_column("label", ratio=1)
    for heading in ("sum", "input", "output"):
        table.add_column(heading, no_wrap=True, justify="right")
    for one in ranked:
        sides = ("–" if low is None else f"{low:+.2f}" for low in (one.input_lift_low, one.output_lift_low))
        table.add_row(str(one.feature), Text(printable(one.text or "")), f"{one.lift_low:+.2f}", *sides)
    return Group(_title(title), table)


def _title(text: str) -> Text:
    return Text(text, "bold italic")


def _table() -> Table:
    return Table(box=None, padding=(0, 1), header_style="dim", collapse_padding=True)
