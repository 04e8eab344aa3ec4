"""What Prometheus is told, parsed as Prometheus would."""

import time
from uuid import uuid4

import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from schema.processes import Presence
from schema.settings import Settings
from schema.store import calls, database, processes, sweeper, tallies
from schema.store.calls import LATENCY_BOUNDS_S, Call
from service.deps import Database
from service.metrics import Watch
from tests.bare_run import store_bare_run
from tests.service.conftest import Api, serving

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scraped(api: Api, **headers: str) -> Samples:
    response = api.http.get("/metrics", headers=headers)
    assert response.status_code == 200, response.text
    families = text_string_to_metric_families(response.text)
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[f"glossarium_{name}", frozenset(labels.items())]


def made(**changes: object) -> Call:
    fields = {
        "feature": 1,
        "purpose": "describe",
        "profile": "large",
        "model": "m",
        "status": "ok",
        "attempts": 1,
        "prompt_tokens": 100,
        "cached_tokens": 60,
        "completion_tokens": 10,
        "dollars": 0.25,
        "latency_s": 0.3,
        "from_cache": False,
    }
    return Call(**{**fields, **changes})  # type: ignore[arg-type]


def test_calls_are_told_by_profile_with_tokens_spend_latency_and_cache_hits(api: Api) -> None:
    with database.connect(api.settings.database_url) as connection:
        run = uuid4()
        for call in (
            made(),
            made(attempts=3, latency_s=7.0),
            made(
                status="unavailable", dollars=None, prompt_tokens=0, cached_tokens=0, completion_tokens=0, latency_s=999
            ),
            made(from_cache=True, attempts=0, prompt_tokens=0, cached_tokens=0, completion_tokens=0, dollars=0.0),
            made(profile="small", purpose="judge"),
        ):
            calls.put(connection, 1, run, call)
    samples = scraped(api)
    assert value(samples, "llm_calls_total", profile="large", purpose="describe", status="ok") == 2
    assert value(samples, "llm_calls_total", profile="large", purpose="describe", status="unavailable") == 1
    assert value(samples, "llm_cache_hits_total", profile="large", purpose="describe", status="ok") == 1
    assert value(samples, "llm_requests_total", profile="large") == 5
    kinds = ("prompt", "cached", "completion")
    assert [value(samples, "llm_tokens_total", profile="large", kind=kind) for kind in kinds] == [200, 120, 20]
    assert value(samples, "llm_dollars_total", profile="large") == pytest.approx(0.5)
    assert value(samples, "llm_unpriced_calls_total", profile="large") == 1
    assert value(samples, "llm_latency_seconds_count", profile="large") == 3
    by_bound = [
        value(samples, "llm_latency_seconds_bucket", profile="large", le=le) for le in ("0.25", "0.5", "10.0", "+Inf")
    ]
    assert by_bound == [0, 1, 2, 3]
    assert value(samples, "llm_calls_total", profile="small", purpose="judge", status="ok") == 1


def test_the_bounds_of_latencies_are_those_that_the_migration_tallied_by(connection: database.Connection) -> None:
    for number, latency_s in enumerate([0.05, *(bound * 1.01 for bound in LATENCY_BOUNDS_S)]):
        calls.put(connection, 1, uuid4(), made(latency_s=latency_s, purpose=f"p{number}"))
    found = {call.purpose: call.bucket for call in tallies.take(connection).calls}
    assert found == {f"p{number}": number for number in range(len(LATENCY_BOUNDS_S) + 1)}


def test_jobs_losses_runs_features_and_workers_are_told(api: Api) -> None:
    with database.connect(api.settings.database_url) as connection:
        run_id = store_bare_run(connection)
        connection.execute("UPDATE run SET state = 'running' WHERE id = %s", (run_id,))
        insert = (
            "INSERT INTO job (run_id, stage, queue, block, state, run_at, lease_until, begun, lost)"
            " VALUES (%s, %s, 'llm', %s, %s, clock_timestamp() - interval '50 s', clock_timestamp(), true, %s)"
        )
        for block in range(3):
            connection.execute(insert, (run_id, "describe", block, "ready", 0))
        connection.execute(insert, (run_id, "judge", 0, "leased", 0))
        connection.execute(insert, (run_id, "write", 0, "leased", 2))
        sweeper.sweep(connection)
        connection.execute(
            "INSERT INTO feature (dictionary_id, index, status)"
            " SELECT dictionary_id, i, CASE WHEN i < 2 THEN 'ok' ELSE 'dead' END FROM run, generate_series(0, 4) AS i"
        )
        processes.tell(connection, Presence(name="llm@a", kind="llm", release="1"))
        processes.tell(connection, Presence(name="llm@b", kind="llm", release="1"))
        connection.execute("UPDATE process SET seen_at = seen_at - interval '2 min' WHERE name = 'llm@b'")
    samples = scraped(api)
    assert value(samples, "jobs", stage="describe", state="ready") == 3
    assert value(samples, "jobs", stage="steering", state="ready") == 0
    assert 49 < value(samples, "oldest_job_seconds", stage="describe") < 90
    assert value(samples, "lease_losses_total", stage="judge") == 1
    assert value(samples, "lease_losses_total", stage="write") == 1
    assert value(samples, "jobs_given_up_total", stage="write") == 1
    assert value(samples, "jobs_given_up_total", stage="judge") == 0
    assert value(samples, "runs", state="running") == 1
    assert [value(samples, "features", status=status) for status in ("ok", "dead")] == [2, 3]
    assert value(samples, "workers", queue="llm") == 1
    assert value(samples, "workers", queue="subject") == 0
    assert value(samples, "database_up") == 1


def test_requests_are_timed_by_route_and_not_by_path(api: Api) -> None:
    for _ in range(3):
        api.http.get(f"/v1/runs/{uuid4()}")
    api.http.get(f"/nothing/{uuid4()}")
    samples = scraped(api)
    assert value(samples, "http_request_seconds_count", method="GET", route="/v1/runs/{run_id}", status="404") == 3
    assert value(samples, "http_request_seconds_count", method="GET", route="none", status="404") == 1


def test_without_a_token_only_this_machine_is_answered_and_no_proxy(api: Api) -> None:
    assert api.http.get("/metrics").status_code == 200
    for header in ("X-Forwarded-For", "Forwarded", "X-Real-IP", "Via"):
        assert api.http.get("/metrics", headers={header: "1.2.3.4"}).status_code == 403


def test_with_a_token_only_who_shows_it_is_answered(settings: Settings) -> None:
    with serving(settings.model_copy(update={"metrics_token": SecretStr("the-token")})) as api:
        for refused in ({}, {"Authorization": "Bearer the-toke"}, {"Authorization": "the-token"}):
            response = api.http.get("/metrics", headers=refused)
            assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
        assert value(scraped(api, Authorization="Bearer the-token"), "database_up") == 1


def test_what_was_known_is_told_again_while_the_database_is_away(settings: Settings, database_url: str) -> None:
    with database.open_pool(database_url) as pool:
        watch = Watch(Database(pool), kept_s=0)
        assert {family.name for family in watch.collect()} >= {"glossarium_jobs", "glossarium_database_up"}
    families = {family.name: family for family in watch.collect()}
    assert families["glossarium_database_up"].samples[0].value == 0
    assert "glossarium_jobs" in families
    with serving(settings.model_copy(update={"database_url": "postgresql://postgres@127.0.0.1:1/postgres"})) as api:
        samples = scraped(api)
        assert value(samples, "database_up") == 0
        assert not any(name == "glossarium_jobs" for name, _ in samples)


def test_postgres_is_asked_once_in_a_while_only(database_url: str) -> None:
    with database.open_pool(database_url) as pool:
        watch = Watch(Database(pool), kept_s=60)
        list(watch.collect())
        with psycopg.connect(database_url) as other:
            store_bare_run(other)
        again = {family.name: family for family in watch.collect()}
        assert not again["glossarium_runs"].samples
        assert 0 <= again["glossarium_tallies_age_seconds"].samples[0].value < 60


def test_many_features_and_jobs_are_estimated_from_a_bounded_part(
    connection: database.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tallies, "MOST_FEATURE_BYTES", 20 * 8192)
    monkeypatch.setattr(tallies, "MOST_JOBS", 10)
    run_id = store_bare_run(connection)
    connection.execute(
        "INSERT INTO feature (dictionary_id, index, status)"
        " SELECT dictionary_id, i, CASE WHEN i %% 4 = 0 THEN 'dead' ELSE 'ok' END"
        " FROM run, generate_series(0, 19999) AS i WHERE run.id = %s",
        (run_id,),
    )
    connection.execute(
        "INSERT INTO job (run_id, stage, queue, block, state)"
        " SELECT %s, 'judge', 'llm', i, 'ready' FROM generate_series(1, 50) AS i",
        (run_id,),
    )
    began = time.monotonic()
    taken = tallies.take(connection)
    assert time.monotonic() - began < 1
    assert taken.ready["judge"].n_jobs == 10
    assert sum(taken.features.values()) == pytest.approx(20_000, rel=0.35)
    assert taken.features["ok"] / taken.features["dead"] == pytest.approx(3, rel=0.1)
