"""Budgets at work: sixteen workers never overshoot one, the run rests at it, and goes on when it is raised."""

import contextlib
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from schema.budgets import NANO, Cost
from schema.errors import JobStopped, LLMUnavailable, ProfileChanged
from schema.profiles import recipes as recipes_of_profiles
from schema.records import Budget, Run, Spending
from schema.stages import Stage
from schema.store import database, run_features, runs
from schema.store.jobs import Job
from schema.store.queries import as_json
from tests.llm_server import LLMServer, Mode
from tests.workers.asking import ASK
from tests.workers.house import SMALL, House, open_house
from workers.engine import Context, Engine, Progress
from workers.parse import JudgeReply
from workers.purse import StoredPurse
from workers.questions import Question, find_llm, pose

PROMPT, COMPLETION = 20.0, 80.0  # dollars per million tokens
OPTIONS = SMALL.model_copy(update={"pool_size": 4})
WITH_TORCH = tuple(stage for stage in Stage if stage in ("ingest", "exemplars", "merge", "steering", "activate"))
WITHOUT = tuple(stage for stage in Stage if stage not in WITH_TORCH)


@pytest.fixture
def server() -> Iterator[LLMServer]:
    with LLMServer() as running:
        yield running


@pytest.fixture
def profiles(tmp_path: Path, server: LLMServer) -> Path:
    """Return an operator's file with one LLM that has prices."""
    path = tmp_path / "profiles.toml"
    path.write_text(
        f'[profiles.paid]\nbase_url = "{server.base_url}"\nmodel = "m"\ntimeout_s = 30\n'
        f"prices = {{prompt = {PROMPT}, completion = {COMPLETION}}}\nlimits = {{in_flight = 16}}\n"
    )
    return path


@pytest.fixture
def house(tmp_path: Path, database_url: str, server: LLMServer, profiles: Path) -> Iterator[House]:
    with open_house(tmp_path, database_url, server.base_url) as opened:
        yield opened._replace(settings=opened.settings.model_copy(update={"llm_profiles": profiles}))


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.purse.RETRY_AFTER_S", 0.05)
    monkeypatch.setattr("workers.endpoint.BACKOFF_S", 0.001)


def served_dollars(server: LLMServer) -> float:
    """Return what the server's own count comes to at the profile's prices."""
    return sum(prompt * PROMPT + completion * COMPLETION for prompt, completion in server.metered) / 1e6


def spending_of(house: House, run_id: uuid.UUID) -> Spending:
    usage = house.run(run_id).usage
    assert usage is not None
    assert usage.spending is not None
    return usage.spending


def work_until_it_rests(house: House, run_id: uuid.UUID, n_workers: int = 16) -> Run:
    """Have many workers carry out jobs until the run is over or paused, and return it."""
    over = threading.Event()

    def work(engine: Engine, stages: Sequence[Stage]) -> None:
        while not over.is_set():
            if not engine.work(stages, lambda queues: True):
                time.sleep(0.02)

    # One for what holds the subject, as in the stack; the others ask LLMs.
    engines = [(house.engine(), WITHOUT) for _ in range(n_workers)] + [(house.engine(), WITH_TORCH)]
    threads = [threading.Thread(target=work, args=pair) for pair in engines]
    for thread in threads:
        thread.start()
    try:
        deadline = time.monotonic() + 120
        while house.run(run_id).state in ("queued", "running") and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        over.set()
        for thread in threads:
            thread.join(60)
    return house.run(run_id)


def test_a_cap_is_never_overshot_and_the_run_goes_on_when_it_is_raised(house: House, server: LLMServer) -> None:
    first = house.submit(features="0-5", llm="none", methods=("lexical",), options=OPTIONS)
    house.work()  # the evidence, which costs nothing
    assert house.run(first).state == "done"
    server.slow_s = 0.1
    cap = 0.5
    run_id = house.submit(features="0-5", llm="paid", options=OPTIONS, budget=Budget(dollars=cap))
    other = house.submit(features="0-1", llm="paid", options=OPTIONS, seed=1)
    paused = work_until_it_rests(house, run_id)
    assert paused.state == "paused"
    assert paused.note is not None
    assert paused.note.startswith("the budget is used up: $0.")
    assert paused.note.endswith("resume the run with a larger one")
    known = spending_of(house, run_id)
    assert known.spent.dollars is not None
    assert known.n_open == 0
    assert 0.5 * cap < known.spent.dollars <= cap  # what was reserved in vain was waited for
    # Other runs go on.
    assert work_until_it_rests(house, other).state == "done"
    spent = sum(spending_of(house, id_).spent.dollars or 0 for id_ in (run_id, other))
    assert served_dollars(server) == pytest.approx(spent, abs=1e-6)
    with database.lend(house.pool) as connection:
        runs.resume(connection, 1, run_id, Budget(dollars=100))
    done = work_until_it_rests(house, run_id)
    assert (done.state, done.note) == ("done", None)
    assert len(house.labels(run_id)) == 6
    assert spending_of(house, run_id).n_settled + spending_of(house, other).n_settled == len(server.chats)
    # The same again costs nothing.
    n_calls = len(server.chats)
    again = house.submit(features="0-5", llm="paid", options=OPTIONS, budget=Budget(tokens=1))
    assert work_until_it_rests(house, again).state == "done"
    assert len(server.chats) == n_calls
    assert spending_of(house, again).spent.tokens == 0


def test_a_budget_is_in_no_recipe(house: House, server: LLMServer) -> None:
    made = []
    for budget in (None, Budget(tokens=10**9)):
        run_id = house.submit(features="0-1", llm="paid", options=OPTIONS, budget=budget)
        house.work()
        assert house.run(run_id).state == "done"
        tables = ("evidence", "description", "sentences", "score", "label")
        made.append([house.query(f"SELECT recipe FROM {table} ORDER BY 1") for table in tables] + [len(server.chats)])
    assert made[0] == made[1]


# ------------------------------------------------------------------------------------------------------- single calls


@pytest.fixture
def run_id(house: House) -> uuid.UUID:
    return house.submit(llm="paid", budget=Budget(dollars=1.0))


def context_of(house: House, run_id: uuid.UUID) -> Context:
    return Context(house.settings, Job(1, run_id, Stage.JUDGE, 0, 0, 0, 0, 0, 0, 0, 1), Progress(), house.pool)


def ask(house: House, run_id: uuid.UUID, number: int = 0) -> str:
    context = context_of(house, run_id)
    with context.transaction() as connection:
        brief = run_features.brief(connection, run_id)
    llm = find_llm(context, brief, "paid")
    assert llm is not None
    messages = (*ASK.messages[:-1], {**ASK.messages[-1], "content": f"{ASK.messages[-1]['content']}\n{number}"})
    return pose(context, brief, llm, Question(messages, JudgeReply, 60, "judge", 0)).status.value


def test_a_reply_from_the_cache_costs_and_reserves_nothing(house: House, run_id: uuid.UUID) -> None:
    ask(house, run_id)
    before = spending_of(house, run_id)
    assert before.spent.tokens
    house.query("UPDATE spending SET most_tokens = 1 RETURNING 1")
    assert ask(house, run_id) == "ok"
    assert spending_of(house, run_id).spent == before.spent


ATTEMPTS: list[tuple[Mode, int, bool]] = [
    ("ok", 1, False),
    ("unmetered", 1, True),  # nobody said what it cost
    ("hang", 3, True),
    ("flood", 3, True),
    ("html", 3, True),
    ("nonsense", 2, False),
    ("rate_limited", 3, False),
    ("error", 3, False),
    ("unauthorized", 1, False),
    ("no_schema", 2, False),
]


@pytest.mark.parametrize(("mode", "attempts", "in_full"), ATTEMPTS)
def test_what_is_never_answered_costs_all_that_it_could(
    house: House, server: LLMServer, run_id: uuid.UUID, mode: Mode, attempts: int, in_full: bool
) -> None:
    server.mode = mode
    if mode == "hang":
        house.settings.llm_profiles.write_text(  # type: ignore[union-attr]
            house.settings.llm_profiles.read_text().replace("timeout_s = 30", "timeout_s = 0.2")  # type: ignore[union-attr]
        )
    try:
        ask(house, run_id)
    except LLMUnavailable:
        assert mode not in ("ok", "nonsense", "unmetered")
    known = spending_of(house, run_id)
    assert (known.n_settled, known.n_open, known.reserved.tokens) == (attempts, 0, 0)
    assert len(server.chats) == attempts
    metered = sum(map(sum, server.metered))
    assert (known.spent.tokens or 0) > metered if in_full else known.spent.tokens == metered


def test_what_never_reached_the_endpoint_costs_nothing(house: House, server: LLMServer, run_id: uuid.UUID) -> None:
    with LLMServer() as gone:
        path = house.settings.llm_profiles
        assert path is not None
        path.write_text(path.read_text().replace(server.base_url, gone.base_url))
    with pytest.raises(LLMUnavailable, match="can't be reached"):
        ask(house, run_id)
    known = spending_of(house, run_id)
    assert (known.n_settled, known.n_open, known.spent.tokens, known.reserved.tokens) == (0, 0, 0, 0)


def test_served_calls_are_between_those_settled_and_those_that_may_have_been(
    house: House, server: LLMServer, run_id: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.circuit.FAILURES", 10**6)
    server.mode = "html"
    server.misbehave = lambda number: number % 3 == 0
    purse = StoredPurse(context_of(house, run_id), "paid")
    purse.reserve(Cost(1000, 1000))  # by a worker that died before it sent anything
    for number in range(30):
        with contextlib.suppress(LLMUnavailable):
            ask(house, run_id, number)
    known = spending_of(house, run_id)
    assert len(server.chats) > 30
    assert known.n_settled <= len(server.chats) <= known.n_settled + known.n_open


def test_what_a_dead_worker_reserved_counts_as_spent_and_is_shown(house: House, run_id: uuid.UUID) -> None:
    purse = StoredPurse(context_of(house, run_id), "paid")
    purse.reserve(Cost(100, NANO - 1))
    with pytest.raises(
        LLMUnavailable, match=r"waiting for calls under way .*: \$0.00 of \$1.00 spent, .*reserved for"
    ) as raised:
        purse.reserve(Cost(100, 2))  # it may still be under way
    assert raised.value.retry_after_s < 1
    house.query("UPDATE spending SET changed_at = now() - interval '1 hour' RETURNING 1")
    with pytest.raises(JobStopped, match="resume the run with a larger one"):
        purse.reserve(Cost(100, 2))
    assert house.run(run_id).state == "paused"
    known = spending_of(house, run_id)
    assert (known.n_open, known.spent.tokens, known.reserved.tokens) == (1, 0, 100)
    with pytest.raises(JobStopped, match="the run is paused"):
        purse.reserve(Cost(1, 1))


def test_a_call_that_no_reply_makes_room_for_pauses_at_once(house: House, run_id: uuid.UUID) -> None:
    purse = StoredPurse(context_of(house, run_id), "paid")
    purse.reserve(Cost(100, 10))
    with pytest.raises(JobStopped):
        purse.reserve(Cost(100, NANO + 1))
    assert house.run(run_id).state == "paused"


def test_a_reply_that_cost_more_than_its_reserve_pauses_the_run(
    house: House, server: LLMServer, run_id: uuid.UUID
) -> None:
    server.overcharge = 10_000
    assert ask(house, run_id) == "ok"  # it is paid for
    run = house.run(run_id)
    assert run.state == "paused"
    assert run.note is not None
    assert run.note.startswith("a reply of the LLM profile 'paid' cost $")
    assert "more than the $" in run.note
    with pytest.raises(JobStopped):
        ask(house, run_id, 1)
    unlimited = house.submit(llm="paid")
    assert ask(house, unlimited, 2) == "ok"
    assert house.run(unlimited).state == "queued"


def test_a_paused_run_asks_nothing_more(house: House, server: LLMServer, run_id: uuid.UUID) -> None:
    with database.lend(house.pool) as connection:
        runs.set_state(connection, 1, run_id, "paused")
    with pytest.raises(JobStopped, match="the run is paused"):
        ask(house, run_id)
    assert server.chats == []


def test_a_profile_that_became_another_is_not_asked(house: House, server: LLMServer, run_id: uuid.UUID) -> None:
    path = house.settings.llm_profiles
    assert path is not None
    recorded = as_json(recipes_of_profiles(("paid",), house.settings))
    house.query("UPDATE run SET llms = %s WHERE id = %s RETURNING 1", recorded, run_id)
    path.write_text(path.read_text().replace("prompt = 20", "prompt = 30"))
    assert ask(house, run_id) == "ok"  # what it costs does not matter
    path.write_text(path.read_text().replace('model = "m"', 'model = "other"'))
    with pytest.raises(
        ProfileChanged, match=r"'paid' was m at http.* and is other at http.* now; put it back"
    ) as raised:
        ask(house, run_id, 1)
    assert raised.value.retry_after_s >= 300
    assert len(server.chats) == 1
