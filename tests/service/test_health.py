"""Health and readiness, with servers there and away."""

import psycopg

from schema.settings import Settings
from schema.wire import Readiness
from tests.service.conftest import Api, SpecMaker, serving

END_OTHERS = """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()"""


def test_a_whole_installation_is_ready(api: Api) -> None:
    assert api.http.get("/health").json() == {"status": "ok"}
    response = api.http.get("/ready")
    assert response.status_code == 200
    readiness = api.client.ready()
    assert readiness.ready
    assert readiness.database.ok
    assert readiness.migrations.ok
    assert readiness.redis.ok


def test_without_redis_it_is_ready_and_says_so(settings: Settings) -> None:
    with serving(settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})) as api:
        readiness = api.client.ready()
        assert readiness.ready
        assert not readiness.redis.ok
        assert "workers find work by themselves" in str(readiness.redis.reason)


def test_missing_migrations_are_named(api: Api) -> None:
    with psycopg.connect(api.settings.database_url, autocommit=True) as connection:
        connection.execute("DELETE FROM _yoyo_migration")
    assert api.http.get("/ready").status_code == 503
    readiness = api.client.ready()
    assert (readiness.ready, readiness.database.ok, readiness.migrations.ok) == (False, True, False)
    assert "missing: 0001.initial" in str(readiness.migrations.reason)


def test_without_the_database_everything_but_health_is_503(settings: Settings, spec_of: SpecMaker) -> None:
    away = "postgresql://postgres@127.0.0.1:1/postgres"
    with serving(settings.model_copy(update={"database_url": away})) as api:
        assert api.http.get("/health").status_code == 200
        response = api.http.get("/ready")
        assert (response.status_code, response.headers["retry-after"]) == (503, "5")
        readiness = Readiness.model_validate(response.json())
        assert (readiness.ready, readiness.database.ok, readiness.redis.ok) == (False, False, True)
        assert "Postgres does not answer" in str(readiness.database.reason)
        response = api.http.post("/v1/dictionaries", json=spec_of().model_dump(mode="json"))
        assert "Postgres does not answer; try again" in api.problem(response, 503, "DatabaseUnavailable")
        assert response.headers["retry-after"] == "5"


def test_a_read_only_database_is_read_and_every_change_is_503(api: Api, spec_of: SpecMaker) -> None:
    with psycopg.connect(api.settings.database_url, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {connection.info.dbname} SET default_transaction_read_only = on")
        connection.execute(END_OTHERS)
    assert api.http.get("/v1/runs").status_code == 200
    response = api.http.post("/v1/dictionaries", json=spec_of().model_dump(mode="json"))
    assert "read-only" in api.problem(response, 503, "DatabaseUnavailable")
    assert response.headers["retry-after"] == "5"


def test_connections_that_the_server_ended_are_replaced(api: Api) -> None:
    assert api.http.get("/v1/runs").status_code == 200
    with psycopg.connect(api.settings.database_url, autocommit=True) as connection:
        connection.execute(END_OTHERS)
    assert api.http.get("/v1/runs").status_code == 200
