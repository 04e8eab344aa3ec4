"""Budgets over HTTP and from the command line: given, refused, shown, used up and raised."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from schema.budgets import Cost
from schema.errors import BadBudget, Conflict
from schema.records import Amount, Budget, Dictionary, Run, RunSpec, Spending
from schema.settings import Settings
from schema.store import database, runs, spending
from service import render
from service.cli import app
from tests.service.conftest import Api, serving

Glossarium = Callable[..., Result]
PROFILES = """
[profiles.paid]
base_url = "http://127.0.0.1:1/v1"
model = "m"
prices = {prompt = 1, completion = 2}

[profiles.half]
base_url = "http://127.0.0.1:1/v1"
model = "h"
prices = {prompt = 1}
"""


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    path = tmp_path / "profiles.toml"
    path.write_text(PROFILES)
    return settings.model_copy(update={"llm_profiles": path})


@pytest.fixture
def api(settings: Settings) -> Iterator[Api]:
    with serving(settings) as running:
        yield running


@pytest.fixture
def glossarium(api: Api, monkeypatch: pytest.MonkeyPatch) -> Glossarium:
    """Return a caller of the command whose API is the test's."""
    monkeypatch.setenv("GLOSSARIUM_API_URL", api.url)
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


def use_up(api: Api, run: Run, tokens: int, needs: int) -> None:
    """Spend some of a run's budget, and pause it as the purse does where the next call does not fit."""
    with database.connect(api.settings.database_url) as connection:
        assert spending.reserve(connection, run.id, Cost(tokens, tokens))
        spending.settle(connection, run.id, Cost(tokens, tokens), Cost(tokens, tokens))
        spending.refuse(connection, run.id, Cost(needs, needs))
        runs.halt(connection, run.id, "the budget is used up")


def spec_for(dictionary: Dictionary, **changes: object) -> RunSpec:
    return RunSpec.model_validate({"dictionary_id": dictionary.id, "llm": "paid", **changes})


def spending_of(run: Run) -> Spending:
    assert run.usage is not None
    assert run.usage.spending is not None
    return run.usage.spending


def test_a_run_says_what_it_may_spend_and_has_spent(api: Api, neurons: Dictionary) -> None:
    made = api.client.submit_run(spec_for(neurons, budget={"dollars": 5, "tokens": 1000}))
    assert made.spec.budget == Budget(dollars=5, tokens=1000)
    use_up(api, made, 400, 700)
    known = spending_of(api.client.run(made.id))
    assert known.budget == Budget(dollars=5, tokens=1000)
    assert (known.spent.tokens, known.left) == (400, Amount(dollars=4.9999996, tokens=600))
    without = spending_of(api.client.run(api.client.submit_run(spec_for(neurons)).id))
    assert (without.budget, without.left, without.spent) == (None, None, Amount(dollars=0, tokens=0))


def test_dollars_need_prices_and_tokens_do_not(api: Api, neurons: Dictionary) -> None:
    for changes, name in (({"llm": "default"}, "default"), ({"judge": "half"}, "half"), ({"writer": "half"}, "half")):
        with pytest.raises(BadBudget, match=f"the LLM profile '{name}' .* has no prices"):
            api.client.submit_run(spec_for(neurons, budget={"dollars": 5}, **changes))
        run = api.client.submit_run(spec_for(neurons, budget={"tokens": 5}, **changes))
        with pytest.raises(BadBudget, match="has no prices, so dollars can't be kept to"):
            api.client.resume(run.id, Budget(dollars=5))
    assert len(list(api.client.runs())) == 3
    assert api.client.submit_run(spec_for(neurons, budget={"dollars": 5}, judge="none")).state == "queued"


def test_a_budget_that_is_none_is_refused_with_its_field(api: Api, neurons: Dictionary) -> None:
    body = {"dictionary_id": str(neurons.id), "budget": {"dollars": 0}}
    detail = api.problem(api.http.post("/v1/runs", json=body), 422, "InvalidInput")
    assert "body.budget.dollars: Input should be greater than or equal to" in detail
    detail = api.problem(api.http.post("/v1/runs", json={**body, "budget": {}}), 422, "InvalidInput")
    assert "give dollars, tokens or both" in detail
    detail = api.problem(api.http.post("/v1/runs", json={**body, "budget": "$5"}), 422, "InvalidInput")
    assert "body.budget" in detail


def test_a_used_up_budget_must_be_raised(api: Api, neurons: Dictionary) -> None:
    run = api.client.submit_run(spec_for(neurons, budget={"tokens": 1000}))
    use_up(api, run, 400, 700)
    with pytest.raises(
        Conflict, match=r"400 tokens of 1,000 tokens spent, and the next call may cost 700 tokens; resume .* larger"
    ):
        api.client.resume(run.id)
    with pytest.raises(Conflict, match="400 tokens of 1,099 tokens spent"):
        api.client.resume(run.id, Budget(tokens=1099))
    assert api.client.run(run.id).state == "paused"
    headers = {"Idempotency-Key": "raise once"}
    for _ in range(2):
        response = api.http.post(f"/v1/runs/{run.id}/resume", json={"budget": {"tokens": 1100}}, headers=headers)
        assert response.json()["state"] == "queued"
    other = api.http.post(f"/v1/runs/{run.id}/resume", json={"budget": {"tokens": 2}}, headers=headers)
    assert "another request" in api.problem(other, 409, "Conflict")
    raised = api.client.run(run.id)
    assert (raised.note, spending_of(raised).budget) == (None, Budget(tokens=1100))
    assert raised.spec.budget == Budget(tokens=1000)  # as submitted


def test_a_budget_is_raised_while_the_run_goes_on_but_not_after(api: Api, neurons: Dictionary) -> None:
    run = api.client.submit_run(spec_for(neurons))
    assert spending_of(api.client.resume(run.id, Budget(tokens=7))).budget == Budget(tokens=7)
    api.client.cancel(run.id)
    with pytest.raises(Conflict, match="is cancelled: only a paused run can be resumed"):
        api.client.resume(run.id, Budget(tokens=9))
    assert spending_of(api.client.run(run.id)).budget == Budget(tokens=7)


def test_an_estimate_above_the_budget_warns(api: Api, neurons: Dictionary) -> None:
    expected = api.client.estimate_run(spec_for(neurons, budget={"dollars": 0.0001, "tokens": 10**9}))
    assert expected.warning is not None
    assert expected.warning.startswith("the run is expected to need $0.3")
    assert expected.warning.endswith(
        "which is above its budget of $0.0001 and 1,000,000,000 tokens: it will pause there"
    )
    tokens = api.client.estimate_run(spec_for(neurons, budget={"tokens": 5}, llm="default"))
    assert tokens.warning is not None
    assert f"{tokens.prompt_tokens + tokens.completion_tokens:,} tokens" in tokens.warning
    for budget in (None, {"dollars": 1000}):
        assert api.client.estimate_run(spec_for(neurons, budget=budget)).warning is None


# -------------------------------------------------------------------------------------------------- the command line


def test_the_command_takes_a_budget_and_warns_where_it_will_not_do(glossarium: Glossarium, neurons: Dictionary) -> None:
    asked = ("run", neurons.id, "--llm", "paid", "--no-wait", "--json", "--budget")
    small = glossarium(*asked, "$0.0001, 2M tokens")
    assert "warning: the run is expected to need $0.3" in small.stderr
    assert json.loads(small.stdout)["spec"]["budget"] == {"dollars": 0.0001, "tokens": 2_000_000}
    large = glossarium(*asked, "$500")
    assert large.exit_code == 0
    assert "warning" not in large.stderr
    dry = glossarium("run", neurons.id, "--dry-run", "--budget", "1 token")
    assert "warning: the run is expected to need" in dry.stdout


@pytest.mark.parametrize(
    ("budget", "message"),
    [("5 euros", "budget '5 euros' is not understood; must be '$5', '200k tokens'"), ("$5", "has no prices")],
)
def test_a_budget_that_can_not_be_kept_ends_with_code_2(
    glossarium: Glossarium, neurons: Dictionary, budget: str, message: str
) -> None:
    result = glossarium("run", neurons.id, "--budget", budget)
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_run_is_paused_and_resumed_with_more(glossarium: Glossarium, api: Api, neurons: Dictionary) -> None:
    made = glossarium("run", neurons.id, "--llm", "paid", "--no-wait", "--json", "--budget", "1k tokens")
    run = api.client.run(json.loads(made.stdout)["id"])
    name = str(run.id)[:8]
    assert glossarium("pause", name).stdout == f"run {run.id}: paused\n"
    assert glossarium("resume", name).stdout == f"run {run.id}: queued\n"
    use_up(api, run, 400, 700)
    shown = glossarium("status", name)
    assert shown.exit_code == 1
    assert f"run {run.id}: paused (the budget is used up); see `glossarium resume {name} --help`" in shown.stdout
    assert "budget 1,000 tokens, 600 tokens left" in shown.stdout
    refused = glossarium("resume", name)
    assert refused.exit_code == 1
    assert "the budget is used up: 400 tokens of 1,000 tokens spent" in refused.stderr
    assert glossarium("resume", name, "--budget", "2k tokens").stdout == f"run {run.id}: queued\n"


def test_what_is_reserved_is_shown_with_what_is_left() -> None:
    known = Spending(
        budget=Budget(dollars=5),
        spent=Amount(dollars=1.5, tokens=70),
        reserved=Amount(dollars=0.5, tokens=30),
        left=Amount(dollars=3.0, tokens=None),
        n_settled=7,
        n_open=2,
    )
    said = render.spending(known)
    assert said == "budget $5.00, $3.00 left, $0.50 and 30 tokens reserved for 2 requests without an answer so far"
    assert render.spending(known.model_copy(update={"budget": None, "left": None, "n_open": 0})) is None
