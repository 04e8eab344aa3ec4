"""Budgets: their text form, what a call costs in the units that they are counted in, and whether they can be kept to.

Money is counted in whole nanodollars, rounded up: sums are exact, and never less than what was spent.
"""

import math
import re
from collections.abc import Iterable
from typing import NamedTuple

from pydantic import ValidationError

from schema.errors import BadBudget
from schema.profiles import LLMProfile, Prices, profile
from schema.records import Budget
from schema.settings import Settings

NANO = 10**9
_DOLLARS = re.compile(r"\$\s*([\d,]*\.?\d+)")
_TOKENS = re.compile(r"([\d,]*\.?\d+)\s*([kM]?)\s*tokens?")
_SCALE = {"": 1, "k": 10**3, "M": 10**6}
_FORMS = "'$5', '200k tokens', '1.5M tokens', or both: '$5, 200k tokens'"


class Cost(NamedTuple):
    """What a call costs, or costs at most; `nanodollars` is None where the price is not known."""

    tokens: int
    nanodollars: int | None

    def exceeds(self, other: "Cost") -> bool:
        """Return whether this is more than another cost, of either unit."""
        if self.tokens > other.tokens:
            return True
        return None not in (self.nanodollars, other.nanodollars) and (self.nanodollars or 0) > (other.nanodollars or 0)


NOTHING = Cost(0, 0)


def cost(prices: Prices, prompt_tokens: int, cached_tokens: int, completion_tokens: int) -> Cost:
    """Return what a call cost; cached tokens are among the prompt's."""
    dollars = prices.of(prompt_tokens, cached_tokens, completion_tokens)
    return Cost(prompt_tokens + completion_tokens, None if dollars is None else math.ceil(dollars * NANO))


def most(prices: Prices, prompt_tokens: int, completion_tokens: int) -> Cost:
    """Return what a call of up to so many tokens costs at most, however much of its prompt is cached."""
    # A price list may well ask more for what is cached.
    either = (cost(prices, prompt_tokens, cached, completion_tokens) for cached in (0, prompt_tokens))
    return max(either, key=lambda one: one.nanodollars or 0)


def parse_budget(text: str) -> Budget:
    """Return the budget of a text such as `$5`, `200k tokens`, or both with a comma between. Raises BadBudget."""
    found: dict[str, float | int] = {}
    for part in re.split(r",\s+|\s+and\s+", text.strip()):
        name, value = _amount(part, text)
        if name in found:
            raise BadBudget(f"budget {text!r} names {name} twice; must be {_FORMS}")
        found[name] = value
    try:
        return Budget.model_validate(found)
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        raise BadBudget(f"budget {text!r}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from exc


def _amount(part: str, text: str) -> tuple[str, float | int]:
    if matched := _DOLLARS.fullmatch(part):
        return "dollars", float(matched[1].replace(",", ""))
    if matched := _TOKENS.fullmatch(part):
        # Of 0.1k tokens a whole number is meant, whatever its float is.
        return "tokens", round(float(matched[1].replace(",", "")) * _SCALE[matched[2]])
    raise BadBudget(f"budget {text!r} is not understood; must be {_FORMS}")


def in_words(dollars: float | None, tokens: int | None) -> str:
    """Return an amount as people write it; what is None is left out."""
    parts = [] if dollars is None else [f"${_rounded(dollars)}"]
    parts += [] if tokens is None else [f"{tokens:,} tokens"]
    return " and ".join(parts)


def _rounded(dollars: float) -> str:
    """Return dollars with two decimals, up to six where they are needed."""
    whole, _, decimals = f"{dollars:,.6f}".partition(".")
    return f"{whole}.{decimals.rstrip('0').ljust(2, '0')}"


def check_budget(budget: Budget | None, names: Iterable[str], settings: Settings) -> None:
    """Refuse a budget in dollars where a profile of the run has no price.

    Raises: BadBudget naming the profile.
    """
    if budget is None or budget.dollars is None:
        return
    for llm in filter(None, (profile(name, settings) for name in dict.fromkeys(names))):
        if not _is_priced(llm):
            raise BadBudget(
                f"budget={in_words(budget.dollars, budget.tokens)}: the LLM profile {llm.name!r} ({llm.model}) has no "
                "prices, so dollars can't be kept to; use a profile with prices, or a budget in tokens"
            )


def _is_priced(llm: LLMProfile) -> bool:
    return llm.prices.of(1, 0, 1) is not None
