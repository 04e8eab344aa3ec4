"""A run of the planted dictionary, from submit to published labels, with the rule-based LLM server."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
import torch

from schema.evidence import Calibration, Exemplars, SteeredTexts, TokenChange, VocabularyProjection
from schema.labels import Status
from schema.presets import preset
from schema.records import TokenChangeMethod
from schema.stages import Stage
from schema.store import database, dictionaries, jobs, reports, run_features, sweeper
from schema.store.evidence import Stored
from tests.llm_server import LLMServer, words
from tests.tiny import PlantedDictionary, planted_dictionary, planted_features
from tests.workers.house import SMALL, House, open_house
from workers import recipes
from workers.changing import N_COMPARED
from workers.methods.free_scores import output_score
from workers.methods.prompts_neutral import CALIBRATION
from workers.methods.statistics import Vector
from workers.opened import open_uploaded
from workers.subject import Edit
from workers.throttle import estimate_tokens


@pytest.fixture
def server() -> Iterator[LLMServer]:
    with LLMServer() as running:
        yield running


@pytest.fixture
def house(tmp_path: Path, database_url: str, server: LLMServer) -> Iterator[House]:
    with open_house(tmp_path, database_url, server.base_url) as opened:
        yield opened


def comparable(stored: Stored) -> dict[str, object]:
    """Return evidence without the last digits of a sum, which depend on the order of its terms."""
    fields = stored.record.model_dump()
    return fields | ({"sum": round(fields["sum"], 6)} if "sum" in fields else {})


def test_planted_features_are_recovered_described_and_scored(house: House) -> None:
    run_id = house.submit(features="0-7")
    house.work()
    run = house.run(run_id)
    assert (run.state, run.note) == ("done", None)
    labels = house.labels(run_id)
    assert sorted(labels) == list(range(8))
    for feature, planted in enumerate(planted_features()[:8]):
        found = {kind: stored.record for kind, stored in house.evidence(feature).items()}
        exemplars, projection, change = found["exemplars"], found["vocabulary"], found["token_change"]
        assert isinstance(exemplars, Exemplars)
        assert isinstance(projection, VocabularyProjection)
        assert isinstance(change, TokenChange)
        windows = [w for half in (exemplars.describe, exemplars.score) for w in (*half.top, *half.uniform)]
        peaks = {window.tokens[window.peak].strip() for window in windows}
        assert peaks == set(planted.triggers)
        assert {token.strip() for token in projection.promoted.tokens[:3]} == set(planted.promoted)
        assert {token.strip() for token in change.amplified_raised.tokens[:3]} == set(planted.promoted)
        assert isinstance(found["calibration"], Calibration)
        assert isinstance(found["steered_texts"], SteeredTexts)
        label = labels[feature]
        assert label.status == Status.OK
        assert label.text is not None
        assert label.input is not None
        assert label.input.success
        assert label.output is not None
        assert label.output.estimate is not None


@pytest.mark.parametrize("form", get_args(TokenChangeMethod))
def test_every_form_of_token_change_finds_what_was_planted(house: House, form: TokenChangeMethod) -> None:
    options = SMALL.model_copy(update={"token_change": form, "pool_size": 4, "token_change_contexts": 16})
    run_id = house.submit(features="0-3", llm="none", methods=("lexical",), options=options)
    house.work()
    assert house.run(run_id).state == "done"
    for feature, planted in enumerate(planted_features()[:4]):
        change = house.evidence(feature)["token_change"].record
        assert isinstance(change, TokenChange)
        assert change.method == form
        assert {token.strip() for token in change.amplified_raised.tokens[:3]} == set(planted.promoted)
        assert (change.agreement is not None) == (form == "linear")


def test_what_linear_token_change_needs_is_made_once(house: House) -> None:
    options = SMALL.model_copy(update={"token_change": "linear", "pool_size": 4})
    for features in ("0-1", "2-3"):
        run_id = house.submit(features=features, llm="none", methods=("lexical",), options=options)
        before = house.query("SELECT recipe, sha256 FROM artifact ORDER BY 1")
        house.work()
        assert house.run(run_id).state == "done"
    assert house.query("SELECT recipe, sha256 FROM artifact ORDER BY 1") == before
    changes = [house.evidence(feature)["token_change"].record for feature in range(4)]
    agreements = {change.agreement for change in changes if isinstance(change, TokenChange)}
    assert len(agreements) == 1
    agreement = agreements.pop()
    assert agreement is not None
    assert agreement.n_features == N_COMPARED


def test_published_labels_succeed_on_both_sides_and_their_controls_do_not(house: House) -> None:
    run_id = house.submit(features="0-15")
    house.work()
    labels = list(house.labels(run_id).values())
    scores = [score for label in labels for score in house.scores(label.feature)]
    winning = {label.description_id for label in labels}
    inputs = [score.success for score in scores if score.kind == "input" and score.description_id in winning]
    outputs = [label.output.success for label in labels if label.output and label.output.status == Status.OK]
    assert len(inputs) == len(labels)
    assert sum(map(bool, inputs)) / len(inputs) >= 0.9
    assert sum(map(bool, outputs)) / len(outputs) >= 0.9
    controls = [label.output.control.value for label in labels if label.output and label.output.control]
    assert 0.15 < sum(controls) / len(controls) < 0.55  # chance is 1/3
    input_controls = [s.control.value for s in scores if s.kind == "input" and s.control]
    assert 0.3 < sum(input_controls) / len(input_controls) < 0.7


def test_what_is_planted_is_detected_marked_and_fired_on_by_texts_like_it(house: House) -> None:
    evaluations = ("input", "output", "detection", "fuzzing", "sensitivity")
    run_id = house.submit(methods=("max_activating",), evaluations=evaluations)
    house.work()
    labels = house.labels(run_id)
    scores = [score for feature in labels for score in house.scores(feature)]
    for kind in ("detection", "fuzzing", "sensitivity"):
        found = [score for score in scores if score.kind == kind]
        assert len(found) == len(labels)
        values = [score.estimate.value for score in found if score.estimate]
        assert sum(values) / len(found) >= 0.95
    controls = [score.control.value for score in scores if score.kind == "sensitivity" and score.control]
    assert max(controls) < 0.3


def test_the_papers_procedure_runs_whole(house: House, server: LLMServer) -> None:
    chosen = preset("paper")
    options = SMALL.model_copy(update=chosen["options"])
    run_id = house.submit(features="0-3", **{**chosen, "options": options})
    house.work()
    made = house.descriptions(0)
    assert set(made) == set(chosen["methods"])
    prompts = {method: description.prompt_id for method, description in made.items()}
    assert prompts["combined"] == "describe/paper_combined.v1"
    change = house.evidence(0)["token_change"].record
    assert isinstance(change, TokenChange)
    assert (change.strength_amplified, change.strength_suppressed) == (10.0, -10.0)
    kinds = {(score.kind, score.method) for score in house.scores(0)}
    assert {("output_llm", method) for method in chosen["methods"]} <= kinds
    assert len(house.labels(run_id)) == 4


def test_a_describer_that_sees_what_its_description_fails_on_mends_it(house: House, server: LLMServer) -> None:
    run_id = house.submit(methods=("vocabulary", "refined"))
    house.work()
    revised = {feature: house.descriptions(feature).get("refined") for feature in range(8)}
    kept = {feature: description for feature, description in revised.items() if description}
    assert len(kept) >= 6
    for feature, description in kept.items():
        before = house.descriptions(feature)["vocabulary"]
        assert not before.trigger
        assert set(planted_features()[feature].triggers) & set(words(description.trigger or ""))
        assert description.effect == before.effect
        assert description.parameters["revises"] == "vocabulary"
    revisions = [chat for chat in server.chats if "That was tested" in chat.body["messages"][-1]["content"]]
    assert len(revisions) <= 2 * 8
    labels = house.labels(run_id)
    won = [feature for feature in kept if labels[feature].method == "refined"]
    assert len(won) >= len(kept) / 2
    assert all(labels[feature].input and labels[feature].output for feature in won)
    n_calls = len(server.chats)
    house.submit(methods=("vocabulary", "refined"))
    house.work()
    assert len(server.chats) == n_calls


def test_the_report_of_a_run_says_what_its_labels_say(house: House) -> None:
    run_id = house.submit(features="0-7")
    house.work()
    labels = list(house.labels(run_id).values())
    with database.lend(house.pool) as connection:
        report = reports.get(connection, 1, run_id)
    assert report.n_features == sum(report.labels.methods.values()) == len(labels) == 8
    shown = {summary.kind: summary for summary in report.labels.scores}
    for kind in ("input", "output", "output_llm"):
        tested = [score for label in labels if (score := getattr(label, kind)) is not None]
        values = [score.estimate.value for score in tested if score.estimate]
        assert shown[kind].value is not None
        assert shown[kind].value.value == pytest.approx(sum(values) / len(values))
        assert shown[kind].success.value == sum(bool(score.success) for score in tested) / len(values)
    assert {control.kind for control in report.controls} >= {"input", "output", "output_llm"}
    assert [method.method for method in report.methods] == ["lexical", "max_activating", "vocabulary", "combined"]
    assert all(method.descriptions == {"ok": 8} for method in report.methods)
    assert {stage.stage for stage in report.stages} == {*Stage} - {Stage.REPORT}


def test_a_block_that_could_not_be_published_is_counted_and_does_not_hold_up_the_report(house: House) -> None:
    options = SMALL.model_copy(update={"pool_size": 4})
    run_id = house.submit(features="0-7", methods=("lexical",), llm="none", options=options)
    house.work([stage for stage in Stage if stage != Stage.PUBLISH])
    with database.lend(house.pool) as connection:
        claimed = jobs.claim(connection, [Stage.PUBLISH], owner="dies", lease_s=60)
        assert claimed is not None
        jobs.fail(connection, claimed, reason="no luck", final=True)
    house.work()
    with database.lend(house.pool) as connection:
        report = reports.get(connection, 1, run_id)
    assert house.run(run_id).state == "done"
    assert {share.status: share.n for share in report.labels.statuses} == {
        "ok": 8 - claimed.units, "unlabelled": claimed.units,
    }  # fmt: skip
    assert next(stage.dead for stage in report.stages if stage.stage == Stage.PUBLISH) == 1


def test_evidence_does_not_depend_on_shards_workers_or_order(
    house: House, tmp_path: Path, database_url: str, server: LLMServer
) -> None:
    house.submit(features="0-9", n_shards=1, llm="none")
    house.work()
    before = {feature: house.evidence(feature) for feature in range(10)}
    for table in ("evidence", "artifact"):
        house.query(f"DELETE FROM {table} RETURNING 1")
    house.submit(features="0-9", n_shards=3, llm="none")
    house.query("UPDATE job SET vtime = -vtime WHERE state <> 'done' RETURNING 1")
    first, second = house.engine(), house.engine()
    stages = tuple(Stage)
    while first.work(stages, lambda queues: True) or second.work(stages, lambda queues: True):
        house.query("UPDATE job SET vtime = -id WHERE state IN ('ready', 'blocked') RETURNING 1")
    for feature, kinds in before.items():
        after = house.evidence(feature)
        assert {kind: comparable(stored) for kind, stored in kinds.items()} == {
            kind: comparable(stored) for kind, stored in after.items()
        }
        assert {kind: s.provenance.recipe for kind, s in kinds.items()} == {
            kind: s.provenance.recipe for kind, s in after.items()
        }


def test_a_second_run_of_the_same_thing_calls_no_llm_and_computes_no_evidence(house: House, server: LLMServer) -> None:
    first = house.submit(features="0-3")
    house.work()
    calls = len(server.chats)
    written = house.query("SELECT feature, kind, created_at FROM evidence ORDER BY 1, 2")
    second = house.submit(features="0-3")
    house.work()
    assert len(server.chats) == calls
    assert house.query("SELECT feature, kind, created_at FROM evidence ORDER BY 1, 2") == written
    before, after = house.labels(first), house.labels(second)
    assert {f: label.text for f, label in before.items()} == {f: label.text for f, label in after.items()}


def test_only_survivors_of_the_ranking_are_written_for_and_can_win(house: House, server: LLMServer) -> None:
    run_id = house.submit(features="0-3", options=SMALL.model_copy(update={"survivors": 1, "pool_size": 4}))
    house.work()
    labels = house.labels(run_id)
    assert len(labels) == 4
    for feature, label in labels.items():
        assert label.status == Status.OK
        inputs = {score.description_id: score for score in house.scores(feature) if score.kind == "input"}
        tested = [id_ for id_, score in inputs.items() if score.status == Status.OK]
        eliminated = [score for score in inputs.values() if score.status == Status.ELIMINATED]
        assert tested == [label.description_id]
        assert len(eliminated) == len(inputs) - 1 == 3
        assert all(score.estimate is None and score.reason for score in eliminated)
        outputs = [score for score in house.scores(feature) if score.kind == "output"]
        assert all(score.estimate is not None for score in outputs)
    # One set for each feature: of its survivor, or of one description where it is only in the pool.
    assert house.query("SELECT count(*) FROM sentences") == house.query("SELECT count(*) FROM run_feature")


def test_a_ranking_that_failed_eliminates_nobody(house: House) -> None:
    run_id = house.submit(features="0-1", options=SMALL.model_copy(update={"survivors": 1, "pool_size": 4}))
    house.work([stage for stage in Stage if stage != Stage.RANK])
    with database.lend(house.pool) as connection:
        claimed = jobs.claim(connection, [Stage.RANK], owner="dies", lease_s=60)
        assert claimed is not None
        jobs.fail(connection, claimed, reason="no embeddings", final=True)
    house.work()
    for label in house.labels(run_id).values():
        assert label.status == Status.OK
        assert label.input is not None
        assert label.output is None


def test_without_an_llm_every_feature_has_a_lexical_label(house: House, server: LLMServer) -> None:
    run_id = house.submit(features="0-3", llm="none", methods=("lexical",))
    house.work()
    assert server.chats == []
    assert [(count.method, count.status, count.n) for count in house.run(run_id).counts] == [("lexical", "ok", 4)]
    for label in house.labels(run_id).values():
        assert label.method == "lexical"
        assert label.output is not None
        assert label.output.success


def test_free_scores_without_an_llm_steer_nothing(house: House, server: LLMServer) -> None:
    run_id = house.submit(features="0-7", llm="none", methods=("lexical",), evaluations=("free",))
    house.work()
    assert (house.run(run_id).state, server.chats) == ("done", [])
    planted = planted_features()
    for feature, label in house.labels(run_id).items():
        assert set(house.evidence(feature)) == {"exemplars", "vocabulary"}
        assert (label.method, label.status) == ("lexical", Status.UNREPORTED)
        assert planted[feature].triggers[0] in (label.text or "")
        assert any(token in (label.text or "") for token in planted[feature].promoted)
        scores = {score.kind: score for score in house.scores(feature)}
        assert set(scores) == {"free_input", "free_output", "embedding_auroc"}
        assert all(score.estimate is not None for score in scores.values())
        output, projection = scores["free_output"].estimate, house.evidence(feature)["vocabulary"].record
        assert output is not None
        assert isinstance(projection, VocabularyProjection)
        expected = output_score(amplified_alone(house, feature), projection.promoted.ids)
        assert output.value == pytest.approx(expected, rel=1e-4)


def test_the_mean_jacobian_is_built_where_its_changes_are_made_and_nowhere_else(house: House) -> None:
    options = SMALL.model_copy(update={"token_change": "linear", "pool_size": 4})
    for evaluations, n_built in ((("free",), 0), (("output",), 1)):
        run_id = house.submit(
            features="0-1", llm="none", methods=("lexical",), evaluations=evaluations, options=options
        )
        house.work([Stage.INGEST, Stage.EXEMPLARS, Stage.MERGE])
        with database.lend(house.pool) as connection:
            brief = run_features.brief(connection, run_id)
            (ingest,) = jobs.results(connection, run_id, Stage.INGEST)
        assert ingest.result is not None
        recipe = recipes.jacobian(brief, str(ingest.result["corpus"]))
        assert house.query("SELECT count(*) FROM artifact WHERE recipe = %s", recipe) == [(n_built,)]


def amplified_alone(house: House, feature: int) -> Vector:
    """Return the next-token logits (V,) after the neutral prompt with a feature at 10 times its maximum."""
    with database.lend(house.pool) as connection:
        record = dictionaries.get(connection, 1, house.dictionary_id)
    subject, dictionary = open_uploaded(house.settings, record)
    exemplars = house.evidence(feature)["exemplars"].record
    assert isinstance(exemplars, Exemplars)
    edit = Edit.add(
        dictionary.write_site, dictionary.directions(torch.tensor([feature])), torch.tensor([10 * exemplars.max])
    )
    batch = subject.batch([[subject.sink_id, *subject.tokenize(CALIBRATION[0].text)]])
    logits: Vector = subject.unembed(subject.hidden(batch, edit)[0, -1]).numpy()
    return logits


def test_vocabulary_is_projected_for_many_blocks_at_once_but_by_a_part_that_may_kill(house: House) -> None:
    house.submit(features="0-15", llm="none", methods=("lexical",), options=SMALL.model_copy(update={"pool_size": 4}))
    house.work([Stage.INGEST, Stage.EXEMPLARS, Stage.MERGE])
    assert house.query("SELECT count(*) > 1 FROM job WHERE stage = 'steering'") == [(True,)]
    made = "SELECT kind, count(*) FROM evidence WHERE kind IN ('calibration', 'vocabulary') GROUP BY kind ORDER BY kind"
    [(everyone,)] = house.query("SELECT count(*) FROM run_feature")
    assert house.engine().work([Stage.STEERING], lambda queues: True)
    [(of_block,)] = house.query("SELECT units FROM job WHERE stage = 'steering' AND state = 'done'")
    assert of_block != everyone
    assert house.query(made) == [("calibration", of_block), ("vocabulary", everyone)]
    house.query("DELETE FROM evidence RETURNING 1")
    house.query("UPDATE job SET feature_hi = feature_lo + 1 WHERE stage = 'steering' AND state = 'ready' RETURNING 1")
    assert house.engine().work([Stage.STEERING], lambda queues: True)
    assert house.query(made) == [("calibration", 1), ("vocabulary", 1)]


def test_alive_selects_what_fired(house: House) -> None:
    run_id = house.submit(features="alive", llm="none", methods=("lexical",))
    house.work()
    assert len(house.labels(run_id)) == len(planted_features())


def test_an_llm_that_is_down_makes_the_run_wait_and_say_so_and_then_go_on(
    house: House, server: LLMServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.circuit.OPEN_S", 0.0)
    run_id = house.submit(features="0-1", options=SMALL.model_copy(update={"pool_size": 4}))
    server.mode = "down"
    house.work()
    run = house.run(run_id)
    assert run.state == "running"
    assert run.note is not None
    assert server.base_url in run.note
    assert house.query("SELECT max(attempt) FROM job WHERE stage = 'describe'") == [(0,)]
    server.mode = "ok"
    house.query("UPDATE job SET run_at = now() WHERE state = 'ready' RETURNING 1")
    house.work()
    assert (house.run(run_id).state, house.run(run_id).note) == ("done", None)


def test_each_role_asks_its_own_profile_and_the_ledger_knows_all_calls(
    house: House, server: LLMServer, tmp_path: Path
) -> None:
    options = SMALL.model_copy(update={"pool_size": 4})
    with LLMServer() as paid:
        path = tmp_path / "profiles.toml"
        table = f'base_url = "{paid.base_url}"\nprices = {{prompt = 2, completion = 8}}\n'
        path.write_text(f'[profiles.a]\nmodel = "a"\n{table}\n[profiles.b]\nmodel = "b"\n{table}')
        engine = house.engine(llm_profiles=path, llm_embedded=True)
        run_id = house.submit(features="0-1", writer="a", judge="a", options=options)
        house.work(engine=engine)
        usage = house.run(run_id).usage
        assert usage is not None
        chats = len(server.chats) + len(paid.chats)
        assert {request.body["model"] for request in paid.chats} == {"a"}
        assert (usage.attempts, usage.calls - usage.from_cache) == (chats, chats)
        purposes = {row.purpose.split()[0]: row.dollars for row in usage.by_purpose}
        assert purposes["describe"] == 0
        assert (purposes["write"] or 0) > 0
        assert usage.dollars == pytest.approx((purposes["write"] or 0) + (purposes["judge"] or 0))
        rows = house.query("SELECT DISTINCT profile, model, feature IS NULL, tenant_id FROM call ORDER BY 1")
        assert rows == [("a", "a", False, 1), ("default", "smollm2-135m-instruct", False, 1)]
        # Another judge: only the judge is asked again, and its scores have another recipe.
        before = len(server.chats), len([r for r in paid.chats if "activating" in json.dumps(r.body)])
        other = house.submit(features="0-1", writer="a", judge="b", options=options)
        house.work(engine=engine)
        assert house.run(other).state == "done"
        assert len(server.chats) == before[0]
        asked_b = [request for request in paid.chats if request.body["model"] == "b"]
        assert len(asked_b) == len([r for r in paid.chats if r.body["model"] == "a"]) - before[1]
        assert house.query("SELECT DISTINCT purpose, profile FROM call WHERE run_id = %s", other) == [("judge", "b")]
        assert house.query("SELECT count(DISTINCT recipe) FROM score WHERE kind = 'output_llm'") == [(2,)]


def test_a_context_too_small_for_all_evidence_is_shown_a_part_and_it_is_recorded(
    house: House, server: LLMServer, tmp_path: Path
) -> None:
    options = SMALL.model_copy(update={"pool_size": 3, "exemplars_in_prompt": 8, "tokens_in_prompt": 10})
    spec = {"features": "0-1", "methods": ("max_activating",), "evaluations": (), "options": options}
    house.submit(**spec)
    house.work()
    whole = max(estimate_tokens(chat.body["messages"]) for chat in server.chats)
    path = tmp_path / "profiles.toml"
    holds = whole + options.max_tokens_description - 5
    path.write_text(f'[profiles.a]\nmodel = "a"\nbase_url = "{server.base_url}"\ncontext_tokens = {holds}\n')
    house.submit(**spec, llm="a")
    house.work(engine=house.engine(llm_profiles=path))
    made = house.query("SELECT body->'parameters'->>'part_of_evidence', status FROM description ORDER BY id")
    assert {status for _, status in made} == {"ok"}
    assert "0.5" in {part for part, _ in made}
    assert all(estimate_tokens(chat.body["messages"]) < whole for chat in server.chats if chat.body["model"] == "a")


def test_what_is_asked_again_comes_from_the_cache_and_is_entered_as_free(house: House, server: LLMServer) -> None:
    options = SMALL.model_copy(update={"pool_size": 4})
    house.submit(features="0-1", options=options)
    house.work()
    house.query("DELETE FROM description RETURNING 1")
    calls = len(server.chats)
    again = house.submit(features="0-1", options=options)
    house.work()
    usage = house.run(again).usage
    assert usage is not None
    assert len(server.chats) == calls
    assert usage.calls == usage.from_cache > 0
    assert (usage.attempts, usage.prompt_tokens, usage.dollars) == (0, 0, 0)


@pytest.mark.parametrize(
    ("mode", "status"), [("refuse", Status.REFUSED), ("nonsense", Status.UNPARSED), ("truncated", Status.UNPARSED)]
)
def test_what_is_no_answer_becomes_a_status_and_never_a_label(
    house: House, server: LLMServer, mode: str, status: Status
) -> None:
    server.mode = mode  # type: ignore[assignment]
    run_id = house.submit(
        features="0-1", methods=("max_activating",), options=SMALL.model_copy(update={"pool_size": 3})
    )
    house.work()
    assert house.run(run_id).state == "done"
    for feature, label in house.labels(run_id).items():
        assert (label.text, label.status) == (None, status)
        description = house.descriptions(feature)["max_activating"]
        assert description.text is None
        assert description.reason


def test_weights_that_do_not_fit_the_subject_fail_the_run_with_the_reason(house: House) -> None:
    house.query("UPDATE dictionary SET spec = jsonb_set(spec, '{read_site}', '\"mlp_hidden.1\"') RETURNING 1")
    run_id = house.submit(features="0-1")
    house.work()
    run = house.run(run_id)
    assert run.state == "failed"
    assert run.note is not None
    assert run.note.startswith("ingest: ")


def test_a_dictionary_that_does_not_reconstruct_ends_its_run_before_any_llm_is_asked(
    tmp_path: Path, database_url: str, server: LLMServer
) -> None:
    """The planted dictionary is made to fire and to write; what SAELens has trained reconstructs."""

    def plant(folder: Path, subject: Path) -> PlantedDictionary:
        whole = planted_dictionary(folder, subject)
        return whole._replace(spec=whole.spec.model_copy(update={"source": "saelens"}))

    with open_house(tmp_path, database_url, server.base_url, plant=plant) as house:
        run_id = house.submit()
        house.work()
        run = house.run(run_id)
    assert run.state == "failed"
    assert "does not reconstruct resid_post.1" in str(run.note)
    assert server.requests == []


def test_a_worker_that_dies_in_any_stage_is_made_good_by_another(house: House) -> None:
    run_id = house.submit(features="0-1", options=SMALL.model_copy(update={"pool_size": 4}))
    for stage in Stage:
        house.work([s for s in Stage if s != stage])
        with database.lend(house.pool) as connection:
            died = jobs.claim(connection, [stage], owner="dies", lease_s=0)
            assert died is not None, stage
            jobs.begin(connection, died)
        with database.lend(house.pool) as connection:
            sweeper.sweep(connection)
        house.work([stage])
    house.work()
    assert house.run(run_id).state == "done"
    assert all(label.status == Status.OK for label in house.labels(run_id).values())
    assert house.query("SELECT sum(lost), count(*) FILTER (WHERE state <> 'done') FROM job") == [(len(Stage), 0)]
