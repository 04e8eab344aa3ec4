"""The report of a run from stored scores: every figure is worked out by hand here."""

import uuid
from collections.abc import Iterator
from typing import NamedTuple
from uuid import UUID

import pytest
from psycopg.types.json import Jsonb
from psycopg_pool import ConnectionPool

from schema.errors import NotFound
from schema.labels import Description, Estimate, Label, Score, ScoreKind, Status
from schema.records import DictionarySpec, Encoder, Method, RunSpec
from schema.reports import RunReport, Summary
from schema.settings import Settings
from schema.stages import QUEUES, Stage
from schema.store import calls, database, descriptions, dictionaries, jobs, labels, reports, run_features, runs, scores
from schema.store.calls import Call
from schema.store.database import Connection
from schema.store.run_features import RunFeature
from workers import report
from workers.desk import Block
from workers.engine import Engine
from workers.score_recipe import score_recipe

CORPUS = "c" * 64
N = 12


class Stored(NamedTuple):
    """A run whose only job left is its report."""

    pool: ConnectionPool[Connection]
    settings: Settings
    run_id: UUID
    dictionary_id: UUID
    recipe: str
    ids: dict[tuple[int, Method], int]

    def made(self) -> RunReport:
        """Let a worker make the report, and return it."""
        assert Engine(self.settings, self.pool, owner="test").work([Stage.REPORT], lambda queues: True)
        with database.lend(self.pool) as connection:
            return reports.get(connection, 1, self.run_id)


def estimate(value: float, n: int = 10) -> Estimate:
    return Estimate(value=value, low=value, high=value, n=n)


def scored(kind: ScoreKind, feature: int, value: float | None, control: float = 0.5, **changes: object) -> Score:
    """Return a score whose lift has bounds 0.1 to either side; without a value, one that was unreachable."""
    fields: dict[str, object] = {"feature": feature, "kind": kind, "status": Status.UNREACHABLE, "recipe": "r"}
    if value is not None:
        lift = value - control
        fields |= {"status": Status.OK, "estimate": estimate(value), "control": estimate(control), "lift": lift}
        fields |= {"lift_low": lift - 0.1, "lift_high": lift + 0.1, "success": value > 0.5}
    return Score.model_validate({**fields, **changes})


def rate(value: float) -> dict[str, object]:
    return {"control_success_rate": estimate(value, 20).model_dump()}


@pytest.fixture
def stored(database_url: str) -> Iterator[Stored]:
    """Yield a run of twelve features by two methods, of which each feature tells another story:

    0-7    labelled; input AUROC 1 on even ones and 0 on odd ones, output 0.75 on all, control 0.25
    8      labelled; output unreachable
    9      dead: its sentences revive it from one description and not from the other; no label won
    10     dead and never revived
    11     its publishing job failed; its describing job too
    """
    pool, settings = database.open_pool(database_url), Settings(database_url=database_url)
    with database.lend(pool) as connection:
        run_id, dictionary_id = uuid.uuid4(), uuid.uuid4()
        dictionary = DictionarySpec(
            name="d", subject="s", read_site="mlp_hidden.1", n_features=20, encoder=Encoder(kind="neurons")
        )
        dictionaries.create(connection, 1, dictionary_id, dictionary)
        spec = RunSpec(dictionary_id=dictionary_id, methods=("lexical", "vocabulary"), evaluations=("input", "output"))
        runs.submit(connection, 1, run_id, spec, n_features=N, n_shards=1)
        chosen = [RunFeature(f, f, f != N, f == N) for f in range(N + 1)]  # the last one only in the pool
        run_features.put(connection, run_id, chosen)
        connection.execute("UPDATE feature SET density = CASE WHEN index IN (9, 10) THEN 0 ELSE 0.1 END")
        recipe = score_recipe(Block(run_features.brief(connection, run_id), CORPUS, (), ()), settings)
        ids = _describe(connection, dictionary_id)
        scores.put(connection, dictionary_id, _scores(ids, recipe))
        for label in _labels(ids):
            labels.publish(connection, dictionary_id, run_id, label, f"label {label.feature}")
        for tokens, dollars in ((500, 0.375), (200, 0.125)):
            asked = Call(0, "judge", "default", "m", "ok", 1, tokens, 0, 9, dollars, 1.0, False)
            calls.put(connection, 1, run_id, asked)
        _end_jobs(connection, run_id, ids)
    yield Stored(pool, settings, run_id, dictionary_id, recipe, ids)
    pool.close()


def _describe(connection: Connection, dictionary_id: UUID) -> dict[tuple[int, Method], int]:
    ids: dict[tuple[int, Method], int] = {}
    for feature in (*range(N - 1), N):
        for method in ("lexical", "vocabulary"):
            refused = method == "vocabulary" and feature == 10
            made = Description(
                feature=feature, method=method, recipe="now", text=None if refused else f"{method} {feature}",
                status=Status.REFUSED if refused else Status.OK,
            )  # fmt: skip
            ids[feature, method] = descriptions.put(connection, dictionary_id, made).id or 0
    return ids


def _scores(ids: dict[tuple[int, Method], int], recipe: str) -> list[Score]:
    def of(feature: int, method: Method, kind: ScoreKind, value: float | None, **changes: object) -> Score:
        names = {"description_id": ids[feature, method], "method": method, "recipe": recipe}
        return scored(kind, feature, value, **{**names, **changes})  # type: ignore[arg-type]

    found = [of(f, "lexical", "output", 0.75 if f < 8 else None, control=0.25) for f in range(9)]
    found += [of(f, "vocabulary", "input", 0.9 if f < 3 else 0.2) for f in range(8)]
    found += [
        of(9, "lexical", "input", 0.7, details={"revived": True}),
        of(9, "vocabulary", "input", None, status=Status.DEAD, details={"revived": False}),
        of(10, "lexical", "input", None, status=Status.DEAD, details={"revived": False}),
        scored("free_input", 0, 0.5, control=0.0, success=None, recipe=recipe),
        scored("free_input", 9, None, status=Status.DEAD, recipe=recipe),
        scored("free_input", N, 1.0, control=0.0, success=None, recipe=recipe),  # only in the pool
    ]
    return found


def _labels(ids: dict[tuple[int, Method], int]) -> list[Label]:
    def published(feature: int, status: Status, **changes: object) -> Label:
        fields = {"feature": feature, "text": f"lexical {feature}", "status": status, "method": "lexical"}
        return Label.model_validate({**fields, "description_id": ids.get((feature, "lexical")), **changes})

    def tested(feature: int) -> dict[str, object]:
        value = 1.0 if feature % 2 == 0 else 0.0
        output = 0.75 if feature < 8 else None
        return {
            "input": scored("input", feature, value, details=rate(0.25 if feature < 4 else 0.5)),
            "output": scored("output", feature, output, control=0.25 + 0.02 * feature),
        }

    nothing = {"text": None, "method": None, "description_id": None}
    return [
        *(published(feature, Status.OK, **tested(feature)) for feature in range(9)),
        published(9, Status.UNPARSED, **nothing),
        published(10, Status.DEAD, **nothing),
    ]


def _end_jobs(connection: Connection, run_id: UUID, ids: dict[tuple[int, Method], int]) -> None:
    """Leave the run as its jobs would: only the report is ready, and the describing job of feature 11 died."""
    by_feature: dict[int, list[int]] = {}
    for (feature, _), id_ in ids.items():
        by_feature.setdefault(feature, []).append(id_)
    connection.execute("DELETE FROM job")
    insert = (
        "INSERT INTO job (run_id, stage, queue, block, feature_lo, feature_hi, state, seconds, result)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)"
    )
    described = {str(feature): of_one for feature, of_one in by_feature.items()}
    for stage, block, lo, hi, state, seconds, result in (
        ("ingest", 0, 0, 0, "done", 1.5, {"corpus": CORPUS}),
        ("describe", 0, 0, 11, "done", 2.0, {"descriptions": {f: d for f, d in described.items() if int(f) < 11}}),
        ("describe", 1, 11, 13, "dead", None, None),
        ("publish", 0, 0, 11, "done", 0.5, None),
        ("publish", 1, 11, 13, "dead", None, None),
        ("report", 0, 0, 13, "ready", None, None),
    ):
        left = None if result is None else Jsonb(result)
        values = (run_id, stage, QUEUES[Stage(stage)], block, lo, hi, state, seconds, left)
        connection.execute(insert, values)


def by_kind(summaries: tuple[Summary, ...]) -> dict[ScoreKind, Summary]:
    return {summary.kind: summary for summary in summaries}


def figures(found: Estimate | None) -> tuple[float, int]:
    assert found is not None
    assert found.low <= found.value <= found.high
    return pytest.approx(found.value), found.n


@pytest.mark.parametrize("at_once", [500, 5])  # features in one batch, and in three
def test_every_figure_is_what_is_worked_out_by_hand(
    stored: Stored, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "_AT_ONCE", at_once)
    found = stored.made()
    assert (found.run_id, found.dictionary_id, found.n_features) == (stored.run_id, stored.dictionary_id, N)
    assert {share.status: (share.n, share.share) for share in found.labels.statuses} == {
        "ok": (9, 0.75), "unparsed": (1, 1 / 12), "dead": (1, 1 / 12), "unlabelled": (1, 1 / 12),
    }  # fmt: skip
    assert found.labels.methods == {"lexical": 9}
    _check_labels(by_kind(found.labels.scores))
    _check_methods(found)
    free = by_kind(found.features)["free_input"]
    assert (free.statuses, figures(free.value), free.success) == ({"ok": 1, "dead": 1}, (0.5, 1), None)
    assert (found.dead.n, found.dead.n_tested, found.dead.n_revived) == (2, 2, 1)
    assert found.usage is not None
    assert (found.usage.calls, found.usage.prompt_tokens, found.usage.dollars) == (2, 700, 0.5)
    assert {(stage.stage, stage.seconds, stage.dead) for stage in found.stages} == {
        ("ingest", 1.5, 0), ("describe", 2.0, 1), ("publish", 0.5, 1),
    }  # fmt: skip


def _check_labels(found: dict[ScoreKind, Summary]) -> None:
    assert list(found) == ["input", "output"]
    read, steered = found["input"], found["output"]
    assert read.statuses == {"ok": 9, "unparsed": 1, "dead": 1, "unlabelled": 1}
    assert figures(read.success) == figures(read.value) == (5 / 9, 9)  # 0, 2, 4, 6, 8
    assert figures(read.lift) == (5 / 9 - 0.5, 9)
    assert steered.statuses == {"ok": 8, "unreachable": 1, "unparsed": 1, "dead": 1, "unlabelled": 1}
    assert figures(steered.success) == (1.0, 8)
    assert figures(steered.value) == (0.75, 8)
    assert figures(steered.lift) == (0.5 - 0.02 * 3.5, 8)
    assert steered.success is not None
    assert steered.success.low == pytest.approx(8 / (8 + 1.959963984540054**2))  # Wilson of 8 in 8


def _check_methods(found: RunReport) -> None:
    lexical, vocabulary = found.methods
    assert (lexical.method, vocabulary.method) == ("lexical", "vocabulary")
    assert lexical.descriptions == {"ok": 11, "failed": 1}
    assert vocabulary.descriptions == {"ok": 10, "refused": 1, "failed": 1}
    assert by_kind(lexical.scores)["output"].statuses == {"ok": 8, "unreachable": 1}
    assert figures(by_kind(lexical.scores)["output"].lift) == (0.5, 8)
    read = by_kind(vocabulary.scores)["input"]
    assert read.statuses == {"ok": 8, "dead": 1}
    assert figures(read.success) == (3 / 8, 8)
    assert figures(read.value) == ((3 * 0.9 + 5 * 0.2) / 8, 8)
    assert figures(by_kind(lexical.scores)["input"].value) == (0.7, 1)  # the revived one counts


def test_controls_are_measured_and_say_whether_chance_is_among_them(stored: Stored) -> None:
    read, steered, free = stored.made().controls
    assert (read.kind, read.figure, figures(read.rate)) == ("input", "success", ((4 * 0.25 + 5 * 0.5) / 9, 9))
    assert (read.chance, read.contains_chance) == (None, None)
    assert (steered.kind, steered.figure, figures(steered.rate)) == ("output", "value", (0.25 + 0.02 * 3.5, 8))
    assert (steered.chance, steered.contains_chance) == (1 / 3, True)
    assert steered.rate.low > 0.25
    assert (free.kind, figures(free.rate)) == ("free_input", (0.0, 1))


def test_labels_are_ranked_by_the_sum_of_both_lower_bounds(stored: Stored) -> None:
    ranking = stored.made().ranking
    assert ranking.n_ranked == 8  # of feature 8 the output is unreachable, the others have no scores
    assert [one.feature for one in ranking.best] == [0, 2, 4, 6, 1]
    assert [one.feature for one in ranking.worst] == [7, 5, 3]
    best = ranking.best[0]
    assert (best.text, best.method) == ("lexical 0", "lexical")
    assert (best.input_lift_low, best.output_lift_low) == pytest.approx((0.4, 0.4))
    assert best.lift_low == pytest.approx(0.8)


def test_scores_of_descriptions_that_the_run_does_not_have_are_left_out(stored: Stored) -> None:
    with database.lend(stored.pool) as connection:
        old = Description(feature=0, method="vocabulary", status=Status.OK, text="older prompt", recipe="then")
        id_ = descriptions.put(connection, stored.dictionary_id, old).id
        names = {"description_id": id_, "method": "vocabulary", "recipe": stored.recipe}
        scores.put(connection, stored.dictionary_id, [scored("input", 0, 0.0, **names)])  # type: ignore[arg-type]
    _check_methods(stored.made())


def test_labels_that_another_run_made_again_are_found_by_their_recipe(stored: Stored) -> None:
    with database.lend(stored.pool) as connection:
        connection.execute("UPDATE label SET run_id = NULL, body = jsonb_set(body, '{input,recipe}', %s)"
                           " WHERE feature < 9", (Jsonb(stored.recipe),))  # fmt: skip
    assert by_kind(stored.made().labels.scores)["input"].n_scored == 9


def test_until_it_is_made_the_reason_is_given(stored: Stored) -> None:
    with database.lend(stored.pool) as connection:
        with pytest.raises(NotFound, match="is queued and has no report yet; it is made when the last label is pub"):
            reports.get(connection, 1, stored.run_id)
        with pytest.raises(NotFound, match="no run"):
            reports.get(connection, 2, stored.run_id)
        claimed = jobs.claim(connection, [Stage.REPORT], owner="dies", lease_s=60)
        assert claimed is not None
        jobs.fail(connection, claimed, reason="no memory", final=True)
        assert runs.get(connection, 1, stored.run_id).state == "done"
        with pytest.raises(NotFound, match=r"the job that makes it failed \(no memory\)"):
            reports.get(connection, 1, stored.run_id)
