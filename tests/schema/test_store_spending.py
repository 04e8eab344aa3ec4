"""The account of a run in a real Postgres: whoever reserves and settles, in whatever order, its budget holds."""

import random
import threading
import uuid

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schema.budgets import NOTHING, Cost
from schema.errors import BadBudget, Conflict, NotFound
from schema.records import Amount, Budget, DictionarySpec, Encoder, RunSpec
from schema.store import database, dictionaries, runs, spending
from schema.store.database import Connection

BUDGET = Budget(dollars=1e-6, tokens=500)  # 1,000 nanodollars


def account(connection: Connection, run_id: uuid.UUID) -> spending.Account:
    found = spending.read(connection, run_id)
    assert found is not None
    return found


def test_what_is_reserved_counts_until_it_is_settled_by_what_it_cost(connection: Connection, run_id: uuid.UUID) -> None:
    spending.set_budget(connection, run_id, BUDGET)
    assert spending.reserve(connection, run_id, Cost(300, 600))
    assert not spending.reserve(connection, run_id, Cost(201, 1))
    assert not spending.reserve(connection, run_id, Cost(1, 401))
    assert spending.settle(connection, run_id, Cost(300, 600), Cost(100, 200))
    assert spending.reserve(connection, run_id, Cost(400, 800))
    known = spending.summarise(account(connection, run_id))
    assert known.budget == BUDGET
    assert (known.spent, known.reserved) == (Amount(dollars=2e-7, tokens=100), Amount(dollars=8e-7, tokens=400))
    assert (known.left, known.n_settled, known.n_open) == (Amount(dollars=0, tokens=0), 1, 1)


def test_a_request_that_was_never_sent_costs_nothing_and_is_not_counted(
    connection: Connection, run_id: uuid.UUID
) -> None:
    spending.set_budget(connection, run_id, BUDGET)
    spending.reserve(connection, run_id, Cost(500, 1000))
    spending.settle(connection, run_id, Cost(500, 1000), None)
    known = spending.summarise(account(connection, run_id))
    assert (known.spent.tokens, known.reserved.tokens, known.n_settled, known.n_open) == (0, 0, 0, 0)


def test_a_run_without_a_budget_has_no_cap_but_an_account(connection: Connection, run_id: uuid.UUID) -> None:
    assert spending.reserve(connection, run_id, Cost(10**12, None))
    assert not spending.settle(connection, run_id, Cost(10**12, None), Cost(7, None))
    known = spending.summarise(account(connection, run_id))
    assert (known.budget, known.left, known.spent) == (None, None, Amount(dollars=None, tokens=7))


@pytest.mark.parametrize("state", ["paused", "cancelled", "done", "failed"])
def test_nothing_is_reserved_for_a_run_that_does_not_go_on(
    connection: Connection, run_id: uuid.UUID, state: str
) -> None:
    connection.execute("UPDATE run SET state = %s WHERE id = %s", (state, run_id))
    assert not spending.reserve(connection, run_id, Cost(1, 1))
    assert not spending.reserve(connection, uuid.uuid4(), Cost(1, 1))


@pytest.fixture
def submitted(connection: Connection) -> uuid.UUID:
    """Return a run that was submitted with a budget of 500 tokens."""
    dictionary_id = uuid.uuid4()
    spec = DictionarySpec(
        name="d", subject="s", read_site="mlp_hidden.1", encoder=Encoder(kind="neurons"), n_features=8
    )
    dictionaries.create(connection, 1, dictionary_id, spec)
    asked = RunSpec(dictionary_id=dictionary_id, budget=Budget(tokens=500))
    return runs.submit(connection, 1, uuid.uuid4(), asked, n_features=8, n_shards=1).run.id


def test_a_run_that_used_up_its_budget_is_only_resumed_with_a_larger_one(
    connection: Connection, submitted: uuid.UUID
) -> None:
    for needs in (Cost(400, 0), Cost(200, 0)):
        if spending.reserve(connection, submitted, needs):
            spending.settle(connection, submitted, needs, needs)
    spending.refuse(connection, submitted, Cost(200, 0))
    runs.halt(connection, submitted, "used up")
    connection.commit()
    said = "the budget is used up: 400 tokens of 500 tokens spent, and the next call may cost 200 tokens"
    with pytest.raises(Conflict, match=said):
        runs.resume(connection, 1, submitted)
    connection.rollback()
    for tokens in (599, 100):
        with pytest.raises(Conflict, match=f"400 tokens of {tokens} tokens spent"):
            runs.resume(connection, 1, submitted, Budget(tokens=tokens))
        connection.rollback()
    assert account(connection, submitted).most_tokens == 500
    assert runs.resume(connection, 1, submitted, Budget(tokens=600)).state == "queued"
    assert spending.reserve(connection, submitted, Cost(200, 0))
    assert runs.resume(connection, 1, submitted, Budget(tokens=700)).state == "queued"  # raised while it goes on
    assert account(connection, submitted).most_tokens == 700


def test_dollars_can_not_be_capped_once_a_price_was_not_known(connection: Connection, submitted: uuid.UUID) -> None:
    spending.reserve(connection, submitted, Cost(10, None))
    spending.settle(connection, submitted, Cost(10, None), Cost(5, None))
    with pytest.raises(BadBudget, match="has made calls whose price is not known; give its budget in tokens"):
        runs.resume(connection, 1, submitted, Budget(dollars=1))
    assert not spending.reserve(connection, submitted, Cost(1, 1))
    assert "a price that is not known" in spending.shortage(account(connection, submitted), Cost(1, None))


def test_a_foreign_run_is_not_resumed(connection: Connection, submitted: uuid.UUID) -> None:
    for tenant, run_id in ((2, submitted), (1, uuid.uuid4())):
        with pytest.raises(NotFound):
            runs.resume(connection, tenant, run_id, Budget(dollars=1))
    assert account(connection, submitted).most_nanodollars is None


STEP = st.one_of(
    st.tuples(st.just("reserve"), st.integers(0, 300), st.integers(0, 600)),
    st.tuples(st.just("settle"), st.integers(0, 20), st.floats(0, 1)),
    st.tuples(st.just("unsent"), st.integers(0, 20), st.just(0)),
    st.tuples(st.just("crash"), st.integers(0, 20), st.just(0)),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEP, max_size=60))
def test_no_order_of_reserving_settling_and_dying_overshoots(
    connection: Connection, run_id: uuid.UUID, steps: list[tuple[str, int, float]]
) -> None:
    connection.execute("DELETE FROM spending")
    spending.open_account(connection, run_id, BUDGET)
    open_: list[Cost] = []
    spent, lost, n_settled = NOTHING, NOTHING, 0
    for what, first, second in steps:
        if what == "reserve":
            most = Cost(first, int(second))
            used = [sum(parts) for parts in zip(spent, lost, *open_, strict=True)]
            fits = used[0] + most.tokens <= 500 and used[1] + int(second) <= 1000
            assert spending.reserve(connection, run_id, most) == fits
            open_ += [most] if fits else []
        elif open_:
            most = open_.pop(first % len(open_))
            share = Cost(int(most.tokens * second), int((most.nanodollars or 0) * second))
            if what == "crash":
                lost = Cost(lost.tokens + most.tokens, (lost.nanodollars or 0) + (most.nanodollars or 0))
                continue
            spending.settle(connection, run_id, most, share if what == "settle" else None)
            if what == "settle":
                spent = Cost(spent.tokens + share.tokens, (spent.nanodollars or 0) + (share.nanodollars or 0))
                n_settled += 1
        now = account(connection, run_id)
        assert (now.spent_tokens, now.spent_nanodollars, now.n_settled) == (*spent, n_settled)
        assert now.spent_tokens + now.reserved_tokens <= 500
        assert (now.spent_nanodollars or 0) + (now.reserved_nanodollars or 0) <= 1000


def test_sixteen_at_once_do_not_overshoot(connection: Connection, run_id: uuid.UUID, database_url: str) -> None:
    spending.set_budget(connection, run_id, Budget(tokens=20_000))
    connection.commit()
    granted: list[int] = []

    def work(number: int) -> None:
        drawn = random.Random(number)
        with database.connect(database_url, autocommit=True) as own:
            for _ in range(60):
                most = Cost(drawn.randint(1, 200), None)
                if not spending.reserve(own, run_id, most):
                    continue
                used = drawn.randint(0, most.tokens)
                dies = drawn.random() < 0.1
                granted.append(most.tokens if dies else used)
                if not dies:
                    spending.settle(own, run_id, most, Cost(used, None))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    now = account(connection, run_id)
    assert now.spent_tokens + now.reserved_tokens == sum(granted) <= 20_000
    assert now.n_settled + now.n_open == len(granted)
    assert sum(granted) > 19_000  # it was the cap that ended it
