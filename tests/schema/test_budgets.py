"""Budgets: what their text means, what calls cost in the units of the account, and when they can't be kept to."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from schema.budgets import NANO, Cost, check_budget, cost, in_words, most, parse_budget
from schema.errors import BadBudget
from schema.profiles import FREE, Prices
from schema.records import Budget
from schema.settings import Settings

UNDERSTOOD = [
    ("$5", 5.0, None),
    ("$0.05", 0.05, None),
    ("$ .5", 0.5, None),
    ("$1,250.50", 1250.5, None),
    ("200k tokens", None, 200_000),
    ("0.1k tokens", None, 100),
    ("1.5M tokens", None, 1_500_000),
    ("1 token", None, 1),
    ("12,000 tokens", None, 12_000),
    ("$5, 200k tokens", 5.0, 200_000),
    ("200k tokens and $5", 5.0, 200_000),
]


@pytest.mark.parametrize(("text", "dollars", "tokens"), UNDERSTOOD)
def test_a_budget_is_dollars_tokens_or_both(text: str, dollars: float | None, tokens: int | None) -> None:
    assert parse_budget(text) == Budget(dollars=dollars, tokens=tokens)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("5", "budget '5' is not understood; must be '\\$5', '200k tokens'"),
        ("", "is not understood"),
        ("$-5", "is not understood"),
        ("200k", "is not understood"),
        ("200 ktokens or so", "is not understood"),
        ("$5, $6", "names dollars twice"),
        ("$0", "dollars: Input should be greater than or equal to"),
        ("0 tokens", "tokens: Input should be greater than or equal to 1"),
        ("$9,000,000", "dollars: Input should be less than or equal to"),
    ],
)
def test_anything_else_is_refused_with_the_reason(text: str, message: str) -> None:
    with pytest.raises(BadBudget, match=message):
        parse_budget(text)


def test_a_budget_of_nothing_is_none() -> None:
    with pytest.raises(ValidationError, match="give dollars, tokens or both"):
        Budget()


@given(st.none() | st.integers(1, 10**9).map(lambda cents: cents / 10**4), st.none() | st.integers(1, 10**12))
def test_what_is_said_of_a_budget_is_understood_again(dollars: float | None, tokens: int | None) -> None:
    if dollars is not None or tokens is not None:
        assert parse_budget(in_words(dollars, tokens)) == Budget(dollars=dollars, tokens=tokens)


PRICES = st.floats(0, 1000, allow_nan=False)
TOKENS = st.integers(0, 10**7)


@given(PRICES, st.none() | PRICES, PRICES, TOKENS, TOKENS, TOKENS, TOKENS, TOKENS)
def test_no_call_of_fewer_tokens_costs_more_than_is_reserved(
    prompt: float, cached: float | None, completion: float, a: int, b: int, c: int, more: int, even_more: int
) -> None:
    prices = Prices(prompt=prompt, cached_prompt=cached, completion=completion)
    assert not cost(prices, a, b, c).exceeds(most(prices, a + more, c + even_more))


def test_money_is_counted_in_nanodollars_rounded_up() -> None:
    assert cost(Prices(prompt=2.0, completion=8.0), 3, 0, 1) == Cost(4, 14_000)
    assert cost(Prices(prompt=0.000_3, completion=0.0), 1, 0, 5) == Cost(6, 1)
    assert cost(Prices(prompt=1.0), 3, 0, 1) == Cost(4, None)
    assert most(Prices(prompt=1.0, cached_prompt=4.0, completion=0.0), 10**6, 0) == Cost(10**6, 4 * NANO)
    assert cost(FREE, 10, 0, 10) == Cost(20, 0)


def test_dollars_can_only_be_kept_to_where_prices_are_known(tmp_path: Path) -> None:
    path = tmp_path / "profiles.toml"
    table = 'base_url = "http://h/v1"\nmodel = "m"\n'
    path.write_text(
        f"[profiles.priced]\n{table}prices = {{prompt = 1, completion = 2}}\n"
        f"[profiles.half]\n{table}prices = {{prompt = 1}}\n"
    )
    settings = Settings(llm_profiles=path)
    dollars, tokens = Budget(dollars=5), Budget(tokens=10)
    check_budget(dollars, ("priced", "none", "priced"), settings)
    check_budget(tokens, ("default", "half"), settings)
    check_budget(None, ("default", "half"), settings)
    for name in ("default", "half"):
        with pytest.raises(BadBudget, match=f"budget=\\$5.00: the LLM profile '{name}' .* has no prices"):
            check_budget(dollars, ("priced", name), settings)
    check_budget(dollars, ("default",), Settings(llm_embedded=True))
