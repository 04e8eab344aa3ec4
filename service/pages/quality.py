"""How good the labels of a dictionary are, by its newest report: a line a method, a column a side, and the controls."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from schema.labels import ScoreKind, Status
from schema.reports import Control, Summary
from schema.store.overviews import Findings

KINDS: dict[ScoreKind, tuple[str, str]] = {
    "input": ("Input", "input"),
    "output": ("Output, by embeddings", "output"),
    "output_llm": ("Output, by an LLM", "output"),
}
"""The scores that pages sum up: what they are called, and the side they are drawn as."""


class Line(NamedTuple):
    """Descriptions of one method, or the published labels where `method` is None, with their scores by kind."""

    method: str | None
    n_ok: int
    n: int
    scores: dict[ScoreKind, Summary]


class Quality(NamedTuple):
    """Lines and the columns that any of them has a score in; the controls say what each is measured against."""

    findings: Findings
    kinds: dict[ScoreKind, tuple[str, str]]
    lines: tuple[Line, ...]
    controls: dict[ScoreKind, list[Control]]


def quality_of(findings: Findings | None) -> Quality | None:
    """Return what a report says of the labels and of each method; None without a report."""
    if findings is None:
        return None
    n_ok = sum(one.n for one in findings.labels.statuses if one.status == Status.OK)
    lines = (
        Line(None, n_ok, findings.n_features, _by_kind(findings.labels.scores)),
        *(_line(one.method, one.descriptions, one.scores) for one in findings.methods),
    )
    kinds = {kind: named for kind, named in KINDS.items() if any(kind in line.scores for line in lines)}
    return Quality(
        findings, kinds, lines, {kind: [one for one in findings.controls if one.kind == kind] for kind in kinds}
    )


def summary_of(findings: Findings | None, side: str) -> Summary | None:
    """Return how the published labels score on a side: by the first kind that has a lift, else by any."""
    scores = {} if findings is None else _by_kind(findings.labels.scores)
    of_side = [scores[kind] for kind, (_, drawn_as) in KINDS.items() if drawn_as == side and kind in scores]
    return next((one for one in of_side if one.lift), of_side[0] if of_side else None)


def _line(method: str, descriptions: Mapping[Status, int], scores: Sequence[Summary]) -> Line:
    return Line(method, descriptions.get(Status.OK, 0), sum(descriptions.values()), _by_kind(scores))


def _by_kind(scores: Sequence[Summary]) -> dict[ScoreKind, Summary]:
    return {one.kind: one for one in scores if one.kind in KINDS}
