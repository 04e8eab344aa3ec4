"""The doctor on a deployment that is well, and on one with each thing broken."""

import json
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis
from pydantic import SecretStr
from typer.testing import CliRunner

from schema.blobs import open_blobs
from schema.processes import BEAT, Presence, secret_digest
from schema.release import release
from schema.settings import Settings
from schema.stages import QUEUE_NAMES
from schema.store import database, processes
from service.cli import app
from service.doctor import Finding, examine, storage
from service.doctor import processes as checks
from tests.llm_server import LLMServer

PROFILE = '[profiles.large]\nbase_url = "{url}"\nmodel = "m"\nprices = {{ prompt = 1, completion = 2 }}\n'


@pytest.fixture
def llm() -> Iterator[LLMServer]:
    with LLMServer() as server:
        yield server


@pytest.fixture
def durable(database_url: str) -> Iterator[None]:
    """Let the tests' Postgres keep what it commits, as a deployment's does."""
    names = ("fsync", "synchronous_commit", "full_page_writes")

    def switch(is_: str) -> None:
        with psycopg.connect(database_url, autocommit=True) as connection:
            for name in names:
                connection.execute(f"ALTER SYSTEM SET {name} = {is_}")
            connection.execute("SELECT pg_reload_conf()")
            connection.execute("SELECT pg_sleep(0.3)")

    switch("on")
    yield
    switch("off")


@pytest.fixture
def well(settings: Settings, llm: LLMServer, tmp_path: Path) -> Settings:
    """Return the settings of a deployment whose workers are there."""
    profiles = tmp_path / "profiles.toml"
    profiles.write_text(PROFILE.format(url=llm.base_url))
    found = settings.model_copy(
        update={
            "llm_base_url": llm.base_url,
            "llm_embedded": True,
            "llm_profiles": profiles,
            "embeddings_base_url": llm.base_url,
            "secret": SecretStr("0123456789abcdef-secret"),
        }
    )
    for queue in QUEUE_NAMES:
        tell(found, queue)
    tell(found, BEAT)
    with database.connect(found.database_url) as connection:
        connection.execute("UPDATE process SET started_at = started_at - interval '1 h'")
    return found


def tell(settings: Settings, kind: str, **changes: object) -> None:
    presence = Presence(
        name=f"{kind}@here",
        kind=kind,
        release=release(),
        blobs=open_blobs(settings).identity(),
        secret=secret_digest(settings),
        skew_s=0.1,
        free_bytes=2**40,
    )
    with database.connect(settings.database_url) as connection:
        processes.tell(connection, presence.model_copy(update=changes))


def wrong(settings: Settings, state: str = "failed") -> dict[str, Finding]:
    return {finding.check: finding for finding in examine(settings) if finding.state == state}


@pytest.mark.usefixtures("durable")
def test_nothing_is_wrong_with_a_deployment_that_is_well(well: Settings) -> None:
    found = list(examine(well))
    assert [finding for finding in found if finding.state != "ok"] == []
    assert {finding.check for finding in found} >= {
        "database", "extensions", "migrations", "durability", "changes", "connections", "redis", "redis memory",
        "blobs", "disk", "secret", "subjects", "llm default", "price of default", "llm large", "price of large",
        "embeddings", "subject worker", "llm worker", "control worker", "beat", "clocks", "shared blobs",
        "shared secret", "releases",
    }  # fmt: skip
    assert "512 dimensions" in next(finding.said for finding in found if finding.check == "embeddings")


def test_a_database_that_loses_commits_is_told(well: Settings) -> None:
    finding = wrong(well)["durability"]
    assert "fsync is off" in finding.said
    assert finding.advice


def test_a_database_that_is_read_only_is_told(well: Settings) -> None:
    with psycopg.connect(well.database_url, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {connection.info.dbname} SET default_transaction_read_only = on")
    assert wrong(well)["changes"].said == "Postgres is read-only"


CHANGES: list[tuple[str, dict[str, object], str]] = [
    ("database", {"database_url": "postgresql://u:hidden-password@127.0.0.1:1/d"}, "does not answer"),
    ("workers", {"database_url": "postgresql://u:hidden-password@127.0.0.1:1/d"}, "not known"),
    ("redis", {"redis_url": "redis://:hidden-password@127.0.0.1:1/0"}, "does not answer"),
    ("blobs", {"blobs_url": "file:///proc/nowhere"}, "can't be used"),
    ("blobs", {"blobs_url": "nothing://there"}, "nothing://there can't be used: ValueError"),
    ("shared blobs", {"blobs_url": "file:///proc/nowhere"}, "not known"),
    ("secret", {"secret": SecretStr("")}, "is not set"),
    ("shared secret", {"secret": SecretStr("another-secret-than-theirs")}, "llm@here"),
    ("subjects", {"subjects_allowed": ("/no/such/model",)}, "/no/such/model"),
    ("subjects", {"subjects_allowed": ()}, "no subject is allowed"),
    ("llm default", {"llm_base_url": "http://127.0.0.1:1/v1"}, "does not answer"),
    ("embeddings", {"embeddings_base_url": "http://127.0.0.1:1/v1"}, "does not answer"),
    ("llm profiles", {"llm_profiles": Path("/no/such/file.toml")}, "can't be read"),
]


@pytest.mark.parametrize(("check", "change", "said"), CHANGES, ids=[f"{c[0]}-{i}" for i, c in enumerate(CHANGES)])
def test_each_thing_that_is_broken_is_named_with_advice(
    well: Settings, check: str, change: dict[str, object], said: str
) -> None:
    finding = wrong(well.model_copy(update=change))[check]
    assert said in finding.said
    assert finding.advice
    assert "hidden-password" not in finding.model_dump_json()


@pytest.mark.parametrize(("mode", "advice"), [("unauthorized", "key"), ("no_model", "model's name"), ("error", "log")])
def test_an_llm_that_refuses_is_told_with_what_to_do(well: Settings, llm: LLMServer, mode: str, advice: str) -> None:
    llm.mode = mode  # type: ignore[assignment]
    found = wrong(well)
    assert advice in str(found["llm default"].advice)
    assert "embeddings" in found


def test_a_model_that_wants_its_tokens_named_otherwise_answers(well: Settings, llm: LLMServer) -> None:
    llm.mode = "reasoning_model"
    assert "llm default" not in wrong(well)


def test_what_works_and_may_not_be_meant_is_a_warning(well: Settings) -> None:
    found = wrong(well.model_copy(update={"llm_embedded": False, "secret": SecretStr("short")}), "warning")
    assert {"price of default", "secret"} <= set(found)


def test_beat_is_given_time_after_the_worker_that_hears_it_has_started(well: Settings) -> None:
    with database.connect(well.database_url) as connection:
        connection.execute("UPDATE process SET seen_at = seen_at - interval '5 min' WHERE kind = 'beat'")
        connection.execute("UPDATE process SET started_at = clock_timestamp() - interval '7 s' WHERE kind = 'control'")
    finding = wrong(well, "warning")["beat"]
    assert "not heard yet: who would hear it started" in finding.said
    assert "look again in" in str(finding.advice)
    assert "beat" not in wrong(well)
    assert "beat" in wrong(well.model_copy(update={"sweep_s": 1.0}))


def test_redis_that_drops_messages_is_told(well: Settings) -> None:
    client = redis.Redis.from_url(well.redis_url)
    client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        assert "allkeys-lru" in wrong(well)["redis memory"].said
    finally:
        client.config_set("maxmemory-policy", "noeviction")
        client.close()


DATABASE_FAULTS = [
    ("migrations", "DELETE FROM _yoyo_migration WHERE migration_id LIKE '0015%'", "missing: 0015"),
    ("extensions", "DROP EXTENSION pg_trgm CASCADE", "pg_trgm"),
    ("llm worker", "DELETE FROM process WHERE kind = 'llm'", "none was seen"),
    ("subject worker", "UPDATE process SET seen_at = seen_at - interval '5 min' WHERE kind = 'subject'", " s ago"),
    ("beat", "UPDATE process SET seen_at = seen_at - interval '5 min' WHERE kind = 'beat'", "last heard 30"),
    ("clocks", "UPDATE process SET skew_s = -30 WHERE kind = 'llm'", "llm@here by +30 s"),
    ("shared blobs", "UPDATE process SET blobs = 'other' WHERE kind = 'llm'", "llm@here see another store"),
    ("shared blobs", "UPDATE process SET blobs = NULL WHERE kind = 'subject'", "can't be used by subject@here"),
    ("disk", "UPDATE process SET free_bytes = 5 WHERE kind = 'subject'", "subject@here"),
]


@pytest.mark.parametrize(("check", "sql", "said"), DATABASE_FAULTS, ids=[f[1][:60] for f in DATABASE_FAULTS])
def test_what_the_database_says_is_wrong_is_told(well: Settings, check: str, sql: str, said: str) -> None:
    with psycopg.connect(well.database_url) as connection:
        connection.execute(sql)
    assert said in wrong(well)[check].said


def test_a_later_database_and_workers_of_another_release_are_told(well: Settings) -> None:
    with psycopg.connect(well.database_url) as connection:
        connection.execute("UPDATE process SET release = '9.9'")
        connection.execute(
            "INSERT INTO _yoyo_migration (migration_hash, migration_id, applied_at_utc)"
            " VALUES ('x', '9999.later', now())"
        )
    assert "9999.later" in wrong(well)["migrations"].said
    assert "llm@here is 9.9" in wrong(well, "warning")["releases"].said


def test_a_disk_without_room_and_too_few_connections_are_told(well: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "MIN_FREE_BYTES", 2**62)
    monkeypatch.setattr("service.doctor.servers._FULL", 0.0)
    found = wrong(well)
    assert "GiB are free" in found["disk"].said
    assert "connections are in use" in found["connections"].said
    assert checks.MIN_FREE_BYTES < 2**62


@pytest.mark.usefixtures("durable")
def test_the_command_ends_with_1_where_anything_is_wrong(well: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(*arguments: str, **changes: object) -> tuple[int, str]:
        monkeypatch.setattr("service.cli_doctor.load_settings", lambda: well.model_copy(update=changes))
        done = CliRunner().invoke(app, ["doctor", "--data", str(well.data_dir / "nothing"), *arguments])
        return done.exit_code, done.stdout

    code, text = ask("--json")
    assert code == 0, text
    assert {finding["state"] for finding in json.loads(text)} == {"ok"}
    code, text = ask("--json", secret=SecretStr(""))
    assert code == 1
    assert "secret" in [finding["check"] for finding in json.loads(text) if finding["state"] == "failed"]
    code, text = ask(redis_url="redis://127.0.0.1:1/0")
    assert code == 1
    assert "failed  redis: does not answer" in text
    assert "→ start Redis" in text
    assert ask("--api", "http://127.0.0.1:1")[0] == 1
