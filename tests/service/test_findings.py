"""The report of a run as people read it in a terminal."""

import io
from typing import Any

import pytest
from rich.console import Console

from schema.reports import RunReport
from service import examples, findings

SCORED: dict[str, Any] = {
    **examples.RUN_REPORT["labels"]["scores"][0],
    "statuses": {"ok": 20, "unparsed": 3, "too_rare": 1},
    "lift": {"value": 0.37, "low": -0.26, "high": 0.48, "n": 20},
}


def report_of(**changes: object) -> RunReport:
    """Return the documentation's report with all kinds of tables, as wide as they get."""
    scores = [{**SCORED, "kind": kind} for kind in ("input", "output", "output_llm", "detection", "fuzzing")]
    label = {**examples.RUN_REPORT["labels"], "scores": scores}
    method = {"method": "max_activating", "descriptions": {"ok": 21, "unparsed": 3}, "scores": scores}
    control = examples.RUN_REPORT["controls"][0]
    controls = [{**control, "kind": "output_llm", "contains_chance": False}, control]
    controls += [{**control, "kind": kind, "chance": None, "contains_chance": None} for kind in ("input", "free_input")]
    more = {"labels": label, "methods": [method], "controls": controls}
    return RunReport.model_validate({**examples.RUN_REPORT, **more, **changes})


def shown(found: RunReport, width: int) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(findings.report(found))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 120])
def test_everything_is_said_and_fits_the_terminal(width: int) -> None:
    text = shown(report_of(), width)
    for piece in (
        "labels of 24 features: 21 ok (88%), 3 unparsed (12%)",
        "written by: 13 combined, 8 lexical",
        "max_activating: descriptions 21 ok, 3 unparsed",
        "dead (never fired in the corpus): 1, 0 of 1 revived",
        "80% [58%, 92%] 0.71 [0.62, 0.80] +0.37 [-0.26, +0.48]",
        "not scored: 3 unparsed, 1 too rare (published label, max_activating)",
        "0.34 [0.29, 0.39] 0.33     yes",
        "0.34 [0.29, 0.39] 0.33     no",
        "0.34 [0.29, 0.39] measured –",
        "the best of 20 labels, by the lower bounds of their lifts",
        "+0.37 +0.27  +0.10",
        "9,216",
        "the paper's success (arXiv 2501.08319)",
        "max_activating       42.5%       40.7%        43.3%        60.8%",
        "exemplars",
    ):
        assert piece in text, piece
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text.replace("[…]", "")


def test_what_has_no_number_is_a_dash_and_never_a_zero() -> None:
    nothing = {"kind": "input", "statuses": {"refused": 24}, "success": None, "value": None, "lift": None}
    labels = {"statuses": [{"status": "refused", "n": 24, "share": 1.0}], "methods": {}, "scores": [nothing]}
    bare = {"methods": [], "features": [], "controls": [], "usage": None}
    ranking = {"n_ranked": 0, "best": [], "worst": []}
    text = shown(report_of(labels=labels, ranking=ranking, dead={"n": 0, "n_tested": 0, "n_revived": 0}, **bare), 80)
    line = next(line for line in text.splitlines() if line.strip().startswith("published label"))
    assert line.split() == ["published", "label", "0", "–", "–"]
    assert "not scored: 24 refused" in text
    assert "dead" not in text
    assert "the best" not in text


def test_labels_can_not_steer_the_terminal() -> None:
    best = [{**examples.RUN_REPORT["ranking"]["best"][0], "text": "[bold]a\x1b[2J[/x]"}]
    text = shown(report_of(ranking={**examples.RUN_REPORT["ranking"], "best": best}), 120)
    assert "[bold]a·[2J[/x]" in text
