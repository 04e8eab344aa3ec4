"""Runs as workers leave them, written by the functions of the store: jobs, descriptions, scores, labels, a report."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from schema.graph import JobKey, NewJob
from schema.labels import Description, Label, Score, Status
from schema.records import Dictionary, Method, Run, RunSpec
from schema.reports import RunReport
from schema.stages import Stage
from schema.store import database, descriptions, jobs, labels, reports, run_features, scores
from schema.store.database import Connection
from schema.store.run_features import RunFeature
from service import examples
from tests.service.conftest import Api

HOSTILE = "<script>alert(1)</script> \u202eright to left\u202c & <b>bold</b>"


def submit(api: Api, dictionary: Dictionary, **changes: Any) -> Run:
    """Return a run that has begun, and whose features are all of its dictionary."""
    asked = {"methods": ("lexical", "combined"), **changes}
    run = api.client.submit_run(RunSpec.model_validate({"dictionary_id": dictionary.id, **asked}))
    with database.connect(api.settings.database_url) as connection:
        n = dictionary.spec.n_features
        run_features.put(connection, run.id, [RunFeature(i, i, selected=True, pooled=False) for i in range(n)])
    return run


def score(feature: int, description_id: int, kind: str, lift: float, recipe: str) -> Score:
    """Return a score with a lift and an interval."""
    like = examples.INPUT_SCORE if kind == "input" else examples.OUTPUT_SCORE
    interval = {"lift": lift, "lift_low": lift - 0.2, "lift_high": lift + 0.2, "success": lift > 0}
    about = {"feature": feature, "kind": kind, "description_id": description_id, "recipe": recipe}
    return Score.model_validate({**like, **about, **interval})


def label(
    connection: Connection, run: Run, feature: int, text: str, lifts: tuple[float, float], method: Method = "lexical"
) -> None:
    """Publish what a run says of a feature, with a description and its scores; lifts are of input and output."""
    description = descriptions.put(
        connection,
        run.dictionary_id,
        Description(feature=feature, method=method, status=Status.OK, text=text, recipe=f"{run.id} {method}"),
    )
    assert description.id is not None
    kinds = zip(("input", "output"), lifts, strict=True)
    made = {kind: score(feature, description.id, kind, lift, str(run.id)) for kind, lift in kinds}
    scores.put(connection, run.dictionary_id, made.values())
    said = Label(feature=feature, text=text, status=Status.OK, method=method, description_id=description.id, **made)
    labels.publish(connection, run.dictionary_id, run.id, said, f"{run.id} {feature}")


def fail_label(connection: Connection, run: Run, feature: int, status: Status, reason: str | None = None) -> None:
    """Publish that a run has no label for a feature."""
    choice: dict[str, object] = {} if reason is None else {"reason": reason}
    said = Label(feature=feature, text=None, status=status, method=None, description_id=None, choice=choice)
    labels.publish(connection, run.dictionary_id, run.id, said, f"{run.id} {feature}")


def describe(connection: Connection, run: Run, made: dict[Method, dict[int, tuple[str, tuple[float, float]]]]) -> None:
    """Store what methods of a run say of features, with their lifts, and the job that says so."""
    ids: dict[str, list[int]] = {}
    for method, by_feature in made.items():
        for feature, (text, lifts) in by_feature.items():
            description = descriptions.put(
                connection,
                run.dictionary_id,
                Description(feature=feature, method=method, status=Status.OK, text=text, recipe=f"{run.id} {method}"),
            )
            assert description.id is not None
            ids.setdefault(str(feature), []).append(description.id)
            kinds = zip(("input", "output"), lifts, strict=True)
            found = [score(feature, description.id, kind, lift, str(run.id)) for kind, lift in kinds]
            scores.put(connection, run.dictionary_id, found)
    size = 1 + max(map(int, ids))
    finish(connection, run, NewJob(JobKey(Stage.DESCRIBE, 1), 0, size, size), {"descriptions": ids})


def finish(connection: Connection, run: Run, job: NewJob, result: dict[str, Any] | None = None) -> None:
    """Add a job to a run and do it."""
    jobs.insert(connection, run.id, [job])
    claimed = jobs.claim(connection, [job.key.stage], owner="test", lease_s=60)
    assert claimed is not None
    jobs.finish(connection, claimed, result)


def bury(connection: Connection, run: Run, stage: Stage, features: range, reason: str) -> None:
    """Add a job about some positions to a run and give it up."""
    jobs.insert(connection, run.id, [NewJob(JobKey(stage, 2), features.start, features.stop, len(features))])
    claimed = jobs.claim(connection, [stage], owner="test", lease_s=60)
    assert claimed is not None
    jobs.fail(connection, claimed, reason=reason, final=True)


def do_all(api: Api) -> None:
    """Do every job that is ready, as workers would, whatever it is about."""
    with database.connect(api.settings.database_url) as connection:
        while (job := jobs.claim(connection, list(Stage), owner="test", lease_s=60)) is not None:
            jobs.finish(connection, job)


def report(api: Api, run: Run, **changes: Any) -> RunReport:
    """Store the report of a run and return it."""
    made = RunReport.model_validate(
        {**examples.RUN_REPORT, "run_id": run.id, "dictionary_id": run.dictionary_id, "created_at": None, **changes}
    )
    with database.connect(api.settings.database_url) as connection:
        reports.put(connection, made)
    return made


def two_runs(api: Api, dictionary: Dictionary, texts: Sequence[tuple[str | None, str | None]]) -> tuple[UUID, UUID]:
    """Return two runs that said this of features 0, 1 …, before and after: lifts grow by a tenth of the feature."""
    before, after = submit(api, dictionary), submit(api, dictionary)
    with database.connect(api.settings.database_url) as connection:
        for feature, (old, new) in enumerate(texts):
            for run, text, lift in ((before, old, 0.1), (after, new, 0.1 + feature / 10)):
                if text is None:
                    fail_label(connection, run, feature, Status.UNPARSED)
                else:
                    label(connection, run, feature, text, (lift, 0.2))
    return before.id, after.id
