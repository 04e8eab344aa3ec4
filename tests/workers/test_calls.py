"""Hundreds of calls in flight from one process, with few connections to Postgres and little memory."""

import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from psycopg_pool import ConnectionPool

from prompts import ask_for_choice
from schema.errors import LLMUnavailable
from schema.profiles import Limits, LLMProfile
from schema.records import Budget, DictionarySpec, Encoder, RunSpec
from schema.settings import Settings
from schema.stages import Stage
from schema.store import calls, database, dictionaries, runs
from schema.store.database import Connection
from schema.store.jobs import Job
from tests.llm_server import LLMServer
from tests.workers.asking import profile_of
from workers.cache import StoredCompletions
from workers.calls import together
from workers.engine import Context, Progress
from workers.ledger import StoredLedger
from workers.llm import complete
from workers.parse import JudgeReply
from workers.purse import StoredPurse

CONNECTIONS = 12


@pytest.fixture
def server() -> Iterator[LLMServer]:
    with LLMServer() as running:
        yield running


@pytest.fixture
def context(database_url: str) -> Iterator[Context]:
    pool: ConnectionPool[Connection] = database.open_pool(database_url, max_size=CONNECTIONS)
    neurons = DictionarySpec(
        name="d", subject="s", read_site="mlp_hidden.1", encoder=Encoder(kind="neurons"), n_features=8
    )
    try:
        with database.lend(pool) as connection:
            spec = RunSpec(
                dictionary_id=dictionaries.create(connection, 1, uuid.uuid4(), neurons).id, budget=Budget(tokens=10**9)
            )
            run = runs.submit(connection, 1, uuid.uuid4(), spec, n_features=8, n_shards=1).run
        job = Job(1, run.id, Stage.JUDGE, 0, 0, 0, 0, 0, 0, 0, 1)
        yield Context(Settings(database_url=database_url), job, Progress(), pool)
    finally:
        pool.close()


def wide(server: LLMServer, in_flight: int) -> LLMProfile:
    # Threads are shared by name: one of its own for each test.
    return profile_of(server, name=str(uuid.uuid4()), timeout_s=30, limits=Limits(in_flight=in_flight))


def test_two_hundred_slow_calls_take_seconds_and_not_minutes(server: LLMServer, context: Context) -> None:
    profile, server.slow_s = wide(server, 64), 0.5

    def ask(number: int) -> str:
        sets = [["a river"], [f"apples {number}"], ["stone"]]
        done = complete(
            profile,
            ask_for_choice(sets, f"fires on apples {number}", b"secret").messages,
            JudgeReply,
            max_tokens=60,
            purpose="judge",
            cache=StoredCompletions(context, 1),
            ledger=StoredLedger(context, 1),
            purse=StoredPurse(context, profile.name),
            on_attempt=context.progress.advance,
        )
        return done.status.value

    process = psutil.Process()
    before = process.memory_info().rss
    started = time.monotonic()
    assert together(ask, range(200), profile) == ["ok"] * 200
    seconds = time.monotonic() - started
    assert seconds < 15  # 100 s one after another, 25 s four at a time; the server has its share of the time
    assert process.memory_info().rss - before < 100e6  # the server's threads included
    stats = context.pool.get_stats()
    assert stats["pool_max"] == CONNECTIONS
    assert stats.get("requests_errors", 0) == 0
    with context.transaction() as connection:
        usage = calls.usage(connection, context.job.run_id)
    assert (usage.calls, usage.attempts) == (200, 200)
    assert usage.spending is not None
    assert (usage.spending.n_settled, usage.spending.n_open) == (200, 0)
    assert usage.spending.spent.tokens == usage.prompt_tokens + usage.completion_tokens


def test_all_jobs_of_a_process_share_what_a_profile_allows(server: LLMServer) -> None:
    profile = wide(server, 5)
    lock, now, most = threading.Lock(), 0, 0

    def ask(_: int) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.01)
        with lock:
            now -= 1

    with ThreadPoolExecutor(4) as jobs:
        list(jobs.map(lambda _: together(ask, range(30), profile), range(4)))
    assert most == 5


def test_a_small_job_is_not_stuck_behind_a_large_one(server: LLMServer) -> None:
    profile = wide(server, 2)
    over: list[str] = []

    def work(name: str, n: int) -> None:
        together(lambda _: time.sleep(0.02), range(n), profile)
        over.append(name)

    large = threading.Thread(target=work, args=("large", 60))
    large.start()
    time.sleep(0.1)
    work("small", 4)
    large.join()
    assert over == ["small", "large"]


def test_answers_come_in_the_order_of_the_items(server: LLMServer) -> None:
    profile = wide(server, 8)
    assert together(lambda n: (time.sleep(0.002 * (n % 5)), n)[1], range(50), profile) == list(range(50))
    assert together(lambda n: -n, range(9), None) == [-n for n in range(9)]
    assert together(lambda n: n, (), profile) == []


def test_the_first_failure_ends_a_job_when_what_has_begun_is_over(server: LLMServer) -> None:
    profile = wide(server, 4)
    begun: list[int] = []
    over: list[int] = []

    def ask(number: int) -> None:
        begun.append(number)
        if number == 5:
            raise LLMUnavailable("down")
        time.sleep(0.05)
        over.append(number)

    with pytest.raises(LLMUnavailable):
        together(ask, range(1000), profile)
    assert len(begun) < 20
    assert sorted(over) == [number for number in sorted(begun) if number != 5]
