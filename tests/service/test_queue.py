"""The doorbell: rung over a real broker, and harmless where there is none."""

import json
import socket
import time

import redis

from service.queue import Doorbell


def test_a_ring_is_a_message_that_names_the_queue(redis_url: str) -> None:
    broker = redis.Redis.from_url(redis_url)
    broker.flushall()
    assert Doorbell(redis_url).ring(["subject", "llm"])
    for queue in ("subject", "llm"):
        message = json.loads(broker.lindex(queue, 0) or "")
        assert (message["headers"]["task"], message["headers"]["argsrepr"]) == ("workers.work", f"['{queue}']")
    broker.close()


def test_a_broker_that_is_down_costs_a_moment() -> None:
    bell = Doorbell("redis://127.0.0.1:1/0")
    started = time.monotonic()
    assert not bell.ring(["subject", "llm"])
    assert time.monotonic() - started < 5


def test_a_broker_that_is_silent_costs_a_moment() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        bell = Doorbell(f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        started = time.monotonic()
        assert not bell.ring(["subject", "llm", "control"])
        assert time.monotonic() - started < 5


def test_nobody_to_ring_is_no_connection() -> None:
    assert Doorbell("redis://127.0.0.1:1/0").ring([])
