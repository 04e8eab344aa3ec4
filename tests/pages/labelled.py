"""Rows for the pages that list dictionaries and features: labels with scores, evidence, a report, runs."""

import uuid
from collections.abc import Callable
from typing import Any

from schema.contexts import References, SplitReferences
from schema.labels import Label, Provenance, Score, Status
from schema.records import Dictionary, RunSpec
from schema.reports import RunReport
from schema.store import contexts, database, evidence, features, labels, reports, runs
from schema.store.database import Connection
from service import examples
from tests.service.conftest import D_MLP, Api

HOSTILE = "<script>alert(1)</script> \u202etfel ot thgir " + "x" * 100_000
TEXTS = {1: "names of rivers", 3: "boats on rivers", 5: HOSTILE, 7: "cooking fish"}
INPUT, OUTPUT = {1: 0.4, 3: 0.2, 5: -0.3, 7: 0.1}, {1: -0.2, 3: 0.5, 5: 0.1, 7: 0.3}
_NO_WINDOWS = SplitReferences(top=(), uniform=(), weighted=(), silent=(), hard_negatives=())


def change(api: Api, work: Callable[[Connection], Any]) -> Any:
    """Return what is made of the store in a transaction."""
    with database.connect(api.settings.database_url) as connection:
        return work(connection)


def score(kind: str, feature: int, lift: float) -> Score:
    """Return a score with its interval and control."""
    known = {"feature": feature, "kind": kind, "description_id": None, "lift": lift}
    return Score.model_validate({**examples.INPUT_SCORE, **known, "lift_low": lift - 0.2, "lift_high": lift + 0.2})


def label(dictionary: Dictionary, connection: Connection) -> None:
    """Label four of a dictionary's features, one with hostile text; one more is dead, and one was not parsed."""
    features.set_density(connection, dictionary.id, range(D_MLP), [i / 32 for i in range(D_MLP)], [2.5] * D_MLP)
    for feature, text in TEXTS.items():
        known = Label(
            feature=feature,
            text=text,
            status=Status.OK,
            method="lexical",
            description_id=None,
            input=score("input", feature, INPUT[feature]),
            output=score("output", feature, OUTPUT[feature]),
        )
        labels.publish(connection, dictionary.id, None, known, "l")
    for feature, status in ((9, Status.DEAD), (11, Status.UNPARSED)):
        unscored = Score(feature=feature, kind="input", status=Status.TOO_RARE, recipe="s")
        none = Label(feature=feature, text=None, status=status, method=None, description_id=None, input=unscored)
        labels.publish(connection, dictionary.id, None, none, "l")
    reading = contexts.Reading("read", lambda numbers: {})
    evidence.put_exemplars(connection, dictionary.id, Provenance(recipe="e", document={}), {1: exemplars()}, reading)


def exemplars() -> References:
    """Return exemplars without windows, but with a histogram."""
    return References(
        n_tokens=1000,
        n_firing=12,
        threshold=0.0,
        sum=20.0,
        max=2.5,
        histogram_edges=(1.0, 1.5, 2.0, 3.0),
        histogram=(7, 0, 5),
        before=2,
        after=1,
        describe=_NO_WINDOWS,
        score=_NO_WINDOWS,
    )


def report(dictionary: Dictionary, connection: Connection) -> uuid.UUID:
    """Store a run that is done, with a report in which 3 of 4 features have a label, and return its id."""
    id_ = run(dictionary, connection)
    connection.execute("UPDATE run SET state = 'done', finished_at = now() WHERE id = %s", (id_,))
    statuses = [{"status": "ok", "n": 3, "share": 0.75}, {"status": "dead", "n": 1, "share": 0.25}]
    scored = [summary("input", 0.25), summary("output", 0.35)]
    body = {
        **examples.RUN_REPORT,
        "run_id": id_,
        "dictionary_id": dictionary.id,
        "n_features": 4,
        "labels": {"statuses": statuses, "methods": {"lexical": 3}, "scores": scored},
        "methods": [{"method": "lexical", "descriptions": {"ok": 3, "unparsed": 1}, "scores": scored}],
    }
    reports.put(connection, RunReport.model_validate(body))
    return id_


def summary(kind: str, lift: float) -> dict[str, object]:
    """Return what a report says of one kind of score."""
    low, high = lift - 0.1, lift + 0.1
    estimate = {"value": lift, "low": low, "high": high, "n": 3}
    return {"kind": kind, "statuses": {"ok": 3}, "success": {**estimate, "value": 0.5}, "value": None, "lift": estimate}


def run(dictionary: Dictionary, connection: Connection) -> uuid.UUID:
    """Store a run of four features and return its id."""
    (tenant,) = connection.execute("SELECT tenant_id FROM dictionary WHERE id = %s", (dictionary.id,)).fetchone() or ()
    spec = RunSpec(dictionary_id=dictionary.id, features="0-3")
    return runs.submit(connection, tenant, uuid.uuid4(), spec, n_features=4, n_shards=2).run.id
