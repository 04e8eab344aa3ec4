"""What rings the queues."""

import socket
import time

import redis

from tests.conftest import free_port
from workers.bell import Bell


def test_a_bell_is_heard(redis_url: str) -> None:
    client = redis.Redis.from_url(redis_url)
    client.flushall()
    assert Bell(redis_url, rest_s=10).ring(["llm", "control"])
    assert [client.llen(queue) for queue in ("llm", "control")] == [1, 1]
    client.flushall()
    client.close()


def test_a_broker_that_is_away_costs_a_moment_once_and_is_tried_again_later() -> None:
    bell = Bell(f"redis://127.0.0.1:{free_port()}/0", rest_s=0.5)
    started = time.monotonic()
    assert not bell.ring(["llm"])
    assert time.monotonic() - started < 5
    started = time.monotonic()
    assert not bell.ring(["llm"])
    assert time.monotonic() - started < 0.1


def test_a_silent_broker_costs_seconds_and_not_for_ever() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        started = time.monotonic()
        assert not Bell(f"redis://127.0.0.1:{silent.getsockname()[1]}/0", rest_s=10).ring(["llm"])
        assert time.monotonic() - started < 10
