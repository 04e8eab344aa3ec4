"""Runs over HTTP: submit, follow, cancel, and what is refused."""

import json
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from schema.errors import BadCorpus, BadSelection, Conflict, InvalidInput, NotFound
from schema.records import Dictionary, MethodCount, Run, RunSpec
from schema.reports import RunReport
from schema.settings import Settings
from schema.stages import Stage
from schema.store import calls, database, jobs, reports
from schema.store.calls import Call
from service import examples
from service.deps import current_tenant
from tests.service.conftest import D_MLP, Api, SpecMaker, serving


def spec_for(dictionary: Dictionary, **changes: object) -> RunSpec:
    return RunSpec.model_validate({"dictionary_id": dictionary.id, **changes})


@pytest.fixture
def broker(redis_url: str) -> Iterator["redis.Redis[bytes]"]:
    """Yield a connection to an empty broker."""
    client = redis.Redis.from_url(redis_url)
    client.flushall()
    yield client
    client.close()


def work_one(api: Api) -> Stage | None:
    """Do one job as a worker would."""
    with database.connect(api.settings.database_url) as connection:
        job = jobs.claim(connection, list(Stage), owner="test", lease_s=60)
        if job is not None:
            jobs.finish(connection, job)
        return None if job is None else job.stage


def test_a_run_is_stored_with_its_jobs_and_rung(api: Api, neurons: Dictionary, broker: "redis.Redis[bytes]") -> None:
    run = api.client.submit_run(spec_for(neurons, features="0-2,5"))
    assert (run.state, run.n_features, run.spec.features) == ("queued", 4, "0-2,5")
    message = json.loads(broker.blmove("subject", "seen", 10) or "")
    assert message["headers"]["task"] == "workers.work"
    assert message["headers"]["argsrepr"] == "['subject']"
    followed = api.client.run(run.id)
    assert [stage.stage for stage in followed.stages] == ["ingest", "exemplars", "merge"]
    assert followed.counts == (MethodCount(method=None, status="unlabelled", n=4),)
    assert followed.model_copy(update={"stages": (), "counts": (), "usage": None}) == run


def test_a_run_is_followed_to_its_end(api: Api, neurons: Dictionary) -> None:
    run = api.client.submit_run(spec_for(neurons))
    assert work_one(api) is Stage.INGEST
    followed = api.client.run(run.id)
    assert followed.state == "running"
    assert (followed.stages[0].jobs_done, followed.stages[0].seconds > 0) == (1, True)
    while work_one(api) is not None:
        pass
    assert api.client.run(run.id).state == "done"
    with pytest.raises(Conflict, match="is done: only a queued, running or paused run can be cancelled"):
        api.client.cancel(run.id)


def test_a_report_is_read_when_it_is_made_and_until_then_the_reason(api: Api, neurons: Dictionary) -> None:
    run = api.client.submit_run(spec_for(neurons))
    with pytest.raises(NotFound, match=f"run {run.id} is queued and has no report yet"):
        api.client.report(run.id)
    with pytest.raises(NotFound, match="no run"):
        api.client.report(uuid.uuid4())
    made = RunReport.model_validate({**examples.RUN_REPORT, "run_id": run.id, "created_at": None})
    with database.connect(api.settings.database_url) as connection:
        reports.put(connection, made)
    read = api.client.report(run.id)
    assert read.created_at is not None
    assert read.model_copy(update={"created_at": None}) == made


def test_alive_features_are_counted_later(api: Api, neurons: Dictionary) -> None:
    assert api.client.submit_run(spec_for(neurons, features="alive")).n_features is None


OUT_OF_RANGE = [
    ("0-16", "features='0-16'; must be within 0..15"),
    ("99999999", "features='99999999'; must be within 0..15"),
    ("random:17:0", "features='random:17:0' asks for 17; the dictionary has 16"),
    ("5-3", "features='5-3'; must be within 0..15, smallest first"),
    ("some", "features='some' is not understood; use all, alive, ranges such as 0-9,12, or random:N:SEED"),
]


def test_a_selection_out_of_range_is_refused_with_the_limit(api: Api, neurons: Dictionary) -> None:
    for features, message in OUT_OF_RANGE:
        with pytest.raises(BadSelection) as caught:
            api.client.submit_run(spec_for(neurons, features=features))
        assert str(caught.value).startswith(message)
        assert list(api.client.runs()) == []


def test_a_dictionary_without_weights_is_not_ready(api: Api, spec_of: SpecMaker) -> None:
    waiting = api.client.submit_dictionary(spec_of())
    with pytest.raises(Conflict, match=f"dictionary {waiting.id} is awaiting_weights and not ready; PUT its weights"):
        api.client.submit_run(spec_for(waiting))


def test_an_unknown_dictionary_is_not_found(api: Api, neurons: Dictionary) -> None:
    gone = neurons.model_copy(update={"id": uuid.uuid4()})
    with pytest.raises(NotFound, match=f"no dictionary {gone.id}"):
        api.client.submit_run(spec_for(gone))


def test_corpora_are_bundled_uploaded_or_the_operators(api: Api, neurons: Dictionary, tmp_path: Path) -> None:
    path = tmp_path / "corpora" / "sub" / "mine.jsonl"
    path.parent.mkdir()
    path.write_text('{"text": "hello"}\n')
    uploaded = api.client.upload_corpus(path)
    for corpus in ("bundled", str(uploaded.id), "operator:sub/mine.jsonl", "operator:sub"):
        assert api.client.submit_run(spec_for(neurons, corpus=corpus)).spec.corpus == corpus


UNREACHABLE = [
    (
        "operator:nothing.jsonl",
        "'operator:nothing.jsonl' is not in the operator's corpora folder; there are: link, me",
    ),
    ("operator:../secret.jsonl", "leads out of the operator's corpora folder"),
    ("operator:sub/../../secret.jsonl", "leads out of the operator's corpora folder"),
    ("operator:/etc/passwd", "leads out of the operator's corpora folder"),
    ("operator:link", "leads out of the operator's corpora folder"),
    ("operator:.", "leads out of the operator's corpora folder"),
    ("operator:", "names no file"),
    ("operator:me", "corpus 'me' is empty"),
    ("/etc/passwd", "corpus='/etc/passwd'; must be bundled, the id of an uploaded corpus, or operator:NAME"),
    ("https://example.org/c.jsonl", "must be bundled, the id of an uploaded corpus, or operator:NAME"),
]


def test_no_other_corpus_is_reached(api: Api, neurons: Dictionary, tmp_path: Path) -> None:
    (tmp_path / "secret.jsonl").write_text('{"text": "secret"}\n')
    (tmp_path / "corpora" / "link").symlink_to(tmp_path / "secret.jsonl")
    (tmp_path / "corpora" / "me").mkdir()
    for corpus, message in UNREACHABLE:
        with pytest.raises(BadCorpus) as caught:
            api.client.submit_run(spec_for(neurons, corpus=corpus))
        assert message in str(caught.value)
        assert str(tmp_path) not in str(caught.value)


def test_a_corpus_of_a_name_that_no_file_has_is_refused(api: Api, neurons: Dictionary) -> None:
    with pytest.raises(InvalidInput, match=r"body\.corpus: holds the control character"):
        api.client.submit_run(spec_for(neurons, corpus="operator:a\0b"))


def test_a_corpus_that_was_never_uploaded_is_not_found(api: Api, neurons: Dictionary) -> None:
    id_ = uuid.uuid4()
    with pytest.raises(NotFound, match=f"no corpus {id_}"):
        api.client.submit_run(spec_for(neurons, corpus=str(id_)))


def test_without_a_corpora_folder_none_is_the_operators(neurons: Dictionary, settings: Settings) -> None:
    with (
        serving(settings.model_copy(update={"corpora_dir": None})) as api,
        pytest.raises(BadCorpus, match=r"this installation has no corpora folder \(GLOSSARIUM_CORPORA_DIR\)"),
    ):
        api.client.submit_run(spec_for(neurons, corpus="operator:x"))


SENSELESS = [
    ({"llm": "gpt-4"}, "llm='gpt-4'; this installation has the profiles default, none"),
    ({"llm": "https://evil.example/v1"}, "this installation has the profiles default, none"),
    ({"methods": ["lexical", "lexical"]}, r"methods=\['lexical', 'lexical'\] names lexical more than once"),
    ({"evaluations": ["free", "input", "free"]}, "names free more than once"),
    (
        {"options": {"kl_targets": [0.5, 0]}},
        r"options.kl_targets=\[0.5, 0.0\]; must be one or more numbers above 0",
    ),
    ({"options": {"kl_targets": []}}, r"options.kl_targets=\[\]; must be one or more"),
    (
        {"options": {"judge_targets": [0.7]}},
        r"options.judge_targets=\[0.7\] are not steered; must be among \[0.25, 0.5\]",
    ),
]


def test_what_makes_no_sense_is_refused(api: Api, neurons: Dictionary) -> None:
    for changes, message in SENSELESS:
        with pytest.raises(InvalidInput, match=message):
            api.client.submit_run(spec_for(neurons, **changes))


def test_profiles_are_those_of_the_operators_file(neurons: Dictionary, settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "profiles.toml"
    path.write_text('[profiles.large]\nbase_url = "http://h/v1"\nmodel = "m"\napi_key_variable = "NOT_SET_HERE"\n')
    with serving(settings.model_copy(update={"llm_profiles": path})) as api:
        run = api.client.submit_run(spec_for(neurons, llm="none", writer="default", judge="large"))
        assert run.spec.profiles == ("none", "default", "large")
        for role in ("llm", "writer", "judge"):
            message = f"{role}='huge'; this installation has the profiles default, none, large"
            with pytest.raises(InvalidInput, match=message):
                api.client.submit_run(spec_for(neurons, **{role: "huge"}))
        path.write_text("[profiles")
        response = api.http.post("/v1/runs", json={"dictionary_id": str(neurons.id)})
        assert "GLOSSARIUM_LLM_PROFILES" in api.problem(response, 503, "BadProfiles")


def test_a_run_says_what_its_llm_calls_used(api: Api, neurons: Dictionary) -> None:
    run = api.client.submit_run(spec_for(neurons))
    found = api.client.run(run.id).usage
    assert found is not None
    assert (found.calls, found.dollars, found.by_purpose) == (0, 0, ())
    with database.connect(api.settings.database_url) as connection:
        calls.put(connection, 1, run.id, Call(5, "judge", "large", "m", "ok", 2, 900, 700, 40, 0.0012, 1.5, False))
    used = api.client.run(run.id).usage
    assert used is not None
    assert (used.calls, used.attempts, used.prompt_tokens, used.cached_tokens, used.dollars) == (1, 2, 900, 700, 0.0012)
    assert [(row.purpose, row.status) for row in used.by_purpose] == [("judge", "ok")]
    assert [run.usage for run in api.client.runs()] == [None]


def test_sizes_out_of_range_are_named_with_their_limits(api: Api, neurons: Dictionary) -> None:
    body = {"dictionary_id": str(neurons.id), "options": {"k_exemplars": 0}, "methods": ["magic"], "seed": -1}
    detail = api.problem(api.http.post("/v1/runs", json=body), 422, "InvalidInput")
    assert "body.options.k_exemplars: Input should be greater than or equal to 1, and not 0" in detail
    assert "body.methods.0: Input should be 'lexical'" in detail
    assert "body.seed: Input should be greater than or equal to 0, and not -1" in detail


def test_the_same_key_makes_one_run(api: Api, neurons: Dictionary) -> None:
    first = api.client.submit_run(spec_for(neurons), "key")
    again = api.client.submit_run(spec_for(neurons), "key")
    assert (again.id, again.created_at) == (first.id, first.created_at)
    with pytest.raises(Conflict, match="Idempotency-Key 'key' came with another request before"):
        api.client.submit_run(spec_for(neurons, seed=1), "key")
    assert [run.id for run in api.client.runs()] == [first.id]


def test_many_at_once_with_one_key_make_one_run(api: Api, neurons: Dictionary) -> None:
    made: list[Run] = []
    threads = [
        threading.Thread(target=lambda: made.append(api.client.submit_run(spec_for(neurons), "key"))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(made) == 8
    assert len({run.id for run in made}) == 1
    with psycopg.connect(api.settings.database_url) as connection:
        assert connection.execute("SELECT count(*) FROM job").fetchone() == (3,)


def test_a_refused_run_frees_its_key(api: Api, neurons: Dictionary) -> None:
    with pytest.raises(BadSelection):
        api.client.submit_run(spec_for(neurons, features="99"), "key")
    assert api.client.submit_run(spec_for(neurons, features="9"), "key").n_features == 1


def test_a_cancelled_run_has_no_more_work(api: Api, neurons: Dictionary) -> None:
    run = api.client.submit_run(spec_for(neurons))
    cancelled = api.client.cancel(run.id)
    assert (cancelled.state, cancelled.finished_at is not None) == ("cancelled", True)
    assert api.client.cancel(run.id).state == "cancelled"
    assert work_one(api) is None


def test_a_paused_run_rests_and_is_rung_when_resumed(
    api: Api, neurons: Dictionary, broker: "redis.Redis[bytes]"
) -> None:
    run = api.client.submit_run(spec_for(neurons))
    assert api.client.pause(run.id).state == "paused"
    assert work_one(api) is None
    broker.flushall()
    assert api.client.resume(run.id).state == "queued"
    assert broker.blmove("subject", "seen", 10) is not None
    assert work_one(api) is Stage.INGEST


def test_a_repeated_pause_with_its_key_does_nothing_after_a_resume(api: Api, neurons: Dictionary) -> None:
    run = api.client.submit_run(spec_for(neurons))
    headers = {"Idempotency-Key": "pause once"}
    assert api.http.post(f"/v1/runs/{run.id}/pause", headers=headers).json()["state"] == "paused"
    api.client.resume(run.id)
    assert api.http.post(f"/v1/runs/{run.id}/pause", headers=headers).json()["state"] == "queued"
    response = api.http.post(f"/v1/runs/{run.id}/cancel", headers=headers)
    assert "another request" in api.problem(response, 409, "Conflict")


def test_a_dictionary_with_a_run_under_way_is_not_deleted(api: Api, neurons: Dictionary) -> None:
    run = api.client.submit_run(spec_for(neurons))
    with pytest.raises(Conflict, match=f"run {run.id} of dictionary {neurons.id} is not finished; cancel it first"):
        api.client.delete_dictionary(neurons.id)
    api.client.cancel(run.id)
    api.client.delete_dictionary(neurons.id)
    with pytest.raises(NotFound):
        api.client.run(run.id)


def test_runs_are_listed_in_pages_and_by_dictionary(api: Api, neurons: Dictionary) -> None:
    made = [api.client.submit_run(spec_for(neurons, seed=seed)).id for seed in range(3)]
    page = api.http.get("/v1/runs", params={"limit": 2}).json()
    assert [item["id"] for item in page["items"]] == [str(made[2]), str(made[1])]
    assert [run.id for run in api.client.runs()] == made[::-1]
    assert len(list(api.client.runs(neurons.id))) == 3
    assert list(api.client.runs(uuid.uuid4())) == []


def test_a_foreign_run_is_not_found(api: Api, neurons: Dictionary) -> None:
    run = api.client.submit_run(spec_for(neurons))
    with psycopg.connect(api.settings.database_url, autocommit=True) as connection:
        connection.execute("INSERT INTO tenant (id, name) VALUES (2, 'other')")
    api.app.dependency_overrides[current_tenant] = lambda: 2
    for look in (api.client.run, api.client.cancel, api.client.pause, api.client.resume):
        with pytest.raises(NotFound, match=f"no run {run.id}"):
            look(run.id)
    assert api.problem(api.http.get(f"/v1/runs/{run.id}/labels"), 404, "NotFound")
    with pytest.raises(NotFound, match="no dictionary"):
        api.client.submit_run(spec_for(neurons))
    assert list(api.client.runs()) == []


def test_a_broker_that_is_away_fails_no_request(neurons: Dictionary, settings: Settings) -> None:
    with serving(settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})) as api:
        run = api.client.submit_run(spec_for(neurons, features=f"0-{D_MLP - 1}"))
        assert api.client.run(run.id).state == "queued"
        assert work_one(api) is Stage.INGEST


def test_an_estimate_says_what_would_be_asked_and_stores_nothing(api: Api, neurons: Dictionary) -> None:
    spec = RunSpec(dictionary_id=neurons.id, features="0-3", methods=("lexical", "combined"), seed=1)
    expected = api.client.estimate_run(spec)
    assert (expected.n_features, expected.n_pool_only) == (4, D_MLP - 4)
    purposes = {row.purpose: row for row in expected.by_purpose}
    assert set(purposes) == {"describe combined", "write", "judge"}
    assert purposes["describe combined"].calls == round(D_MLP * 1.03)
    assert expected.prompt_tokens == sum(row.prompt_tokens for row in expected.by_purpose)
    assert expected.dollars is None  # the default profile of this installation names no price
    assert list(api.client.runs()) == []


def test_an_estimate_without_an_llm_costs_nothing(api: Api, neurons: Dictionary) -> None:
    expected = api.client.estimate_run(RunSpec(dictionary_id=neurons.id, llm="none"))
    assert (expected.n_features, expected.calls, expected.dollars) == (D_MLP, 0, 0)


def test_an_estimate_of_a_run_that_makes_no_sense_is_refused(api: Api, neurons: Dictionary) -> None:
    body = {"dictionary_id": str(neurons.id), "llm": "nobody"}
    api.problem(api.http.post("/v1/runs/estimate", json=body), 422, "InvalidInput")
    body = {"dictionary_id": str(neurons.id), "features": "99"}
    api.problem(api.http.post("/v1/runs/estimate", json=body), 422, "BadSelection")
    body = {"dictionary_id": str(neurons.id), "corpus": str(uuid.uuid4())}
    api.problem(api.http.post("/v1/runs/estimate", json=body), 404, "NotFound")


def test_a_revision_of_the_papers_descriptions_is_refused(api: Api, neurons: Dictionary) -> None:
    body = {"dictionary_id": str(neurons.id), "methods": ["combined", "refined"], "options": {"prompts": "paper"}}
    assert "know no revision" in api.problem(api.http.post("/v1/runs", json=body), 422, "InvalidInput")
