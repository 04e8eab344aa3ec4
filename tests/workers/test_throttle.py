"""The limits of a profile: requests and tokens a minute, shared by all calls of the process."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from prompts import Message
from schema.errors import JobStopped
from schema.profiles import Limits
from workers import throttle
from workers.throttle import Bucket, Throttle, estimate_tokens


def nothing() -> None:
    """Go on."""


def test_what_is_there_is_taken_at_once_and_the_rest_waited_for_in_order() -> None:
    bucket = Bucket(per_minute=60)  # 10 may burst
    assert [bucket.take(1) for _ in range(10)] == [0.0] * 10
    waits = [bucket.take(1) for _ in range(3)]
    assert waits == pytest.approx([1.0, 2.0, 3.0], abs=0.05)


def test_what_is_larger_than_the_bucket_goes_out_of_a_full_one_and_the_next_waits() -> None:
    bucket = Bucket(per_minute=600)  # 100 may burst
    assert bucket.take(300) == 0.0
    assert bucket.take(10) == pytest.approx(21.0, abs=0.05)


def test_a_rate_is_kept_by_many_threads() -> None:
    shared = Throttle(Limits(requests_per_minute=1200))  # 20 a second; 200 may burst
    for _ in range(200):
        shared.wait(1, nothing)
    started = time.monotonic()
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda _: shared.wait(1, nothing), range(20)))
    assert 0.9 <= time.monotonic() - started < 3


def test_what_was_not_used_is_given_back() -> None:
    shared = Throttle(Limits(tokens_per_minute=6000))  # 1000 may burst
    shared.wait(1000, nothing)
    shared.settle(1000, 100)
    started = time.monotonic()
    shared.wait(900, nothing)
    assert time.monotonic() - started < 0.5


def test_a_wait_gives_signs_of_life_and_ends_when_the_job_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "_SLICE_S", 0.01)
    shared = Throttle(Limits(requests_per_minute=6))
    shared.wait(1, nothing)
    signs = iter(range(3))

    def sign() -> None:
        if next(signs, None) is None:
            raise JobStopped("cancelled")

    with pytest.raises(JobStopped):
        shared.wait(1, sign)
    assert shared._requests is not None
    assert shared._requests.take(1) == pytest.approx(10.0, abs=0.5)  # as if the second had never been


def test_without_limits_nothing_waits() -> None:
    started = time.monotonic()
    for _ in range(1000):
        Throttle(Limits()).wait(10**6, nothing)
    assert time.monotonic() - started < 0.5


def test_tokens_are_estimated_from_bytes() -> None:
    messages: list[Message] = [{"role": "user", "content": "a" * 40}, {"role": "user", "content": "é" * 20}]
    assert estimate_tokens(messages) == 21
