"""An arm as a run on the embedded stack, and what it left of each feature. Everything done once is found again."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from rich.console import Console

from schema.errors import GlossariumError
from schema.labels import Feature, Label, Score
from schema.records import Method, Run
from schema.store import database
from service import progress
from service.client import Client
from tests.quality.arms import Arm

KINDS = ("input", "output", "output_llm")


class Row(NamedTuple):
    """A description that was tested: success by kind of evaluation, None where it has no score; `status` of each."""

    feature: int
    method: str | None
    text: str | None
    success: dict[str, bool | None]
    status: dict[str, str]


class Spent(NamedTuple):
    """What LLM calls of one purpose used on the arm's own features, cached prefixes included; seconds of waiting.

    n_features: features that were asked about; what an earlier arm had asked already is not asked again.
    """

    calls: int
    n_features: int
    prompt_tokens: int
    completion_tokens: int
    seconds: float


class Result(NamedTuple):
    """What an arm left: the label of each feature, every description, what LLM calls used, and the controls."""

    arm: str
    n_features: int
    labels: list[Row]
    descriptions: list[Row]
    spent: dict[str, Spent]
    controls: dict[str, dict[str, float]]
    seconds_by_stage: dict[str, float]


class Bed(NamedTuple):
    """Where arms are run."""

    client: Client
    database_url: str
    embeddings_base_url: str
    dictionary_id: UUID
    corpus: str
    folder: Path
    console: Console


def result(bed: Bed, arm: Arm) -> Result:
    """Return what an arm left: read from its file, or found out now."""
    path = bed.folder / "arms" / f"{arm.name}.json"
    spec = arm.spec(bed.dictionary_id, bed.corpus)
    asked = json.loads(spec.model_dump_json())
    if path.exists():
        known = json.loads(path.read_text("utf-8"))
        if known["spec"] == asked:
            return read(known["result"])
    bed.console.print(f"{arm.name} …")
    run = _unfinished(bed, arm, asked) or bed.client.submit_run(spec)
    if run.state == "paused":
        run = bed.client.resume(run.id)
    run = progress.watch(bed.client, run.id, bed.console)
    if run.state != "done":
        raise GlossariumError(f"{arm.name} ended {run.state}: {run.note or 'no reason given'}")
    found = _gather(bed, arm, run)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"spec": asked, "run": str(run.id), "result": plain(found)}, indent=1), "utf-8")
    return found


def read(document: dict[str, object]) -> Result:
    """Return a result from its JSON."""
    known = dict(document)
    rows = {name: [Row(*row) for row in known[name]] for name in ("labels", "descriptions")}  # type: ignore[attr-defined]
    spent = {purpose: Spent(*of) for purpose, of in known["spent"].items()}  # type: ignore[attr-defined]
    return Result(**{**known, **rows, "spent": spent})  # type: ignore[arg-type]


def plain(found: Result) -> dict[str, object]:
    """Return a result as JSON."""
    return found._asdict()


def _unfinished(bed: Bed, arm: Arm, asked: object) -> Run | None:
    """Return the arm's run that an earlier start left in hand."""
    going = (run for run in bed.client.runs(bed.dictionary_id) if run.state in ("queued", "running", "paused"))
    return next((run for run in going if json.loads(run.spec.model_dump_json()) == asked), None)


def _gather(bed: Bed, arm: Arm, run: Run) -> Result:
    labels = [label for label in bed.client.labels(bed.dictionary_id, run_id=run.id) if label.run_id == run.id]
    report = bed.client.report(run.id)
    if len(labels) != report.n_features:
        raise GlossariumError(f"{arm.name}: {len(labels)} of {report.n_features} labels are still this run's")
    recipes = {score.recipe for label in labels for score in (label.input, label.output) if score}
    features = {label.feature: bed.client.feature(bed.dictionary_id, label.feature) for label in labels}
    shown = [_label_row(label, features[label.feature], recipes) for label in labels]
    described = [row for feature in features.values() for row in _described(feature, run, recipes)]
    return Result(
        arm=arm.name,
        n_features=len(labels),
        labels=shown,
        descriptions=described,
        spent=_spent(bed, run, list(features)),
        controls={c.kind: {"value": c.rate.value, "low": c.rate.low, "high": c.rate.high} for c in report.controls},
        seconds_by_stage={stage.stage: round(stage.seconds, 1) for stage in run.stages},
    )


def _label_row(label: Label, feature: Feature, recipes: set[str]) -> Row:
    tested = [s for s in feature.scores if s.description_id == label.description_id and s.recipe in recipes]
    return _row(label.feature, label.method, label.text, tested if label.description_id is not None else [])


def _described(feature: Feature, run: Run, recipes: set[str]) -> list[Row]:
    rows = []
    for description in feature.descriptions:
        tested = [s for s in feature.scores if s.description_id == description.id and s.recipe in recipes]
        if description.method in run.spec.methods and (tested or description.text is None):
            rows.append(_row(feature.summary.index, description.method, description.text, tested))
    return rows


def _row(feature: int, method: Method | None, text: str | None, tested: Sequence[Score]) -> Row:
    by_kind = {score.kind: score for score in tested}
    success = {kind: by_kind[kind].success if kind in by_kind else None for kind in KINDS}
    status = {kind: by_kind[kind].status.value if kind in by_kind else "untested" for kind in KINDS}
    return Row(feature, method, text, success, status)


def _spent(bed: Bed, run: Run, features: Sequence[int]) -> dict[str, Spent]:
    """Return what was used by purpose on these features; the run's own pool beside them is left out.

    Runs of the same spec that were given up count as well: what they had asked was not asked again.
    """
    query = """
        SELECT purpose, count(*), count(DISTINCT feature), sum(prompt_tokens), sum(completion_tokens), sum(latency_s)
        FROM call WHERE run_id = ANY(%s) AND feature = ANY(%s) AND NOT from_cache AND prompt_tokens > 0
        GROUP BY purpose ORDER BY purpose
    """
    same = [other.id for other in bed.client.runs(bed.dictionary_id) if other.spec == run.spec]
    with database.connect(bed.database_url) as connection:
        rows = connection.execute(query, (same, list(features))).fetchall()
    return {purpose: Spent(*map(int, counts), float(seconds)) for purpose, *counts, seconds in rows}
