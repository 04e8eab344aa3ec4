"""What the LLM calls of a run may cost and cost so far: reserved before each HTTP request, settled after it.

A reservation is one conditional statement, so that no cap is ever overshot, whoever reserves at the same time; where
each statement is a transaction of its own, none waits for more than another's statement. What is reserved and never
settled, because its process died, counts as spent for good.
"""

import math
from typing import NamedTuple
from uuid import UUID

from schema.budgets import NANO, Cost, in_words
from schema.records import Amount, Budget, Spending
from schema.store.database import Connection
from schema.store.queries import load_queries

_queries = load_queries("spending")


class Account(NamedTuple):
    """The row of a run, money in nanodollars; what is None of `most_…` has no cap, of the others is not known.

    needs_…:  the reservation whose refusal paused the run.
    quiet_s:  since when nothing was reserved or settled.
    """

    most_nanodollars: int | None
    most_tokens: int | None
    spent_nanodollars: int | None
    spent_tokens: int
    reserved_nanodollars: int | None
    reserved_tokens: int
    needs_nanodollars: int
    needs_tokens: int
    n_settled: int
    n_open: int
    quiet_s: float

    @property
    def needs(self) -> Cost:
        """Return the cost whose refusal paused the run; nothing where that was not why."""
        return Cost(self.needs_tokens, self.needs_nanodollars)

    @property
    def unpriced(self) -> bool:
        """Return whether dollars have a cap, and the price of calls that were made is not known."""
        return self.most_nanodollars is not None and None in (self.spent_nanodollars, self.reserved_nanodollars)

    def holds(self, cost: Cost) -> bool:
        """Return whether a cost can be reserved."""
        return self._fits(cost, self.reserved_nanodollars, self.reserved_tokens)

    def would_hold(self, cost: Cost) -> bool:
        """Return whether a cost could be reserved if all that is reserved cost nothing in the end."""
        return self._fits(cost, None if self.reserved_nanodollars is None else 0, 0)

    def _fits(self, cost: Cost, reserved_nanodollars: int | None, reserved_tokens: int) -> bool:
        if self.most_tokens is not None and self.spent_tokens + reserved_tokens + cost.tokens > self.most_tokens:
            return False
        parts = (self.spent_nanodollars, reserved_nanodollars, cost.nanodollars)
        return self.most_nanodollars is None or _total(*parts) <= self.most_nanodollars


def open_account(connection: Connection, run_id: UUID, budget: Budget | None) -> None:
    """Begin the account of a new run."""
    _queries.open(connection, run_id=run_id, **_caps(budget))


def read(connection: Connection, run_id: UUID) -> Account | None:
    """Return the account of a run, None if there is no such run."""
    row = _queries.get(connection, run_id=run_id)
    return None if row is None else Account(*row)


def lock(connection: Connection, run_id: UUID) -> Account | None:
    """Return the account of a run, as it stays until the caller's transaction ends; None if there is no such run."""
    row = _queries.lock(connection, run_id=run_id)
    return None if row is None else Account(*row)


def reserve(connection: Connection, run_id: UUID, most: Cost) -> bool:
    """Set aside what an HTTP request costs at most; return whether the budget holds it and the run goes on."""
    reserved = _queries.reserve(connection, run_id=run_id, nanodollars=most.nanodollars, tokens=most.tokens)
    return reserved is not None


def settle(connection: Connection, run_id: UUID, most: Cost, cost: Cost | None) -> bool:
    """Enter what a request cost instead of what was reserved for it; None if it was never sent.

    Returns whether the run has a budget.
    """
    row = _queries.settle(
        connection,
        run_id=run_id,
        reserved_nanodollars=most.nanodollars,
        reserved_tokens=most.tokens,
        nanodollars=0 if cost is None else cost.nanodollars,
        tokens=0 if cost is None else cost.tokens,
        n=0 if cost is None else 1,
    )
    return row is not None and bool(row[0])


def refuse(connection: Connection, run_id: UUID, needs: Cost) -> None:
    """Keep the reservation whose refusal pauses a run."""
    _queries.refuse(connection, run_id=run_id, nanodollars=needs.nanodollars or 0, tokens=needs.tokens)


def set_budget(connection: Connection, run_id: UUID, budget: Budget) -> None:
    """Give a run another budget instead of the one it has."""
    _queries.set_budget(connection, run_id=run_id, **_caps(budget))


def summary(connection: Connection, run_id: UUID) -> Spending | None:
    """Return the account of a run as people see it, None if there is no such run."""
    account = read(connection, run_id)
    return None if account is None else summarise(account)


def summarise(account: Account) -> Spending:
    """Return an account in dollars."""
    most = _amount(account.most_nanodollars, account.most_tokens)
    capped = most.dollars is not None or most.tokens is not None
    return Spending(
        budget=Budget(dollars=most.dollars, tokens=most.tokens) if capped else None,
        spent=_amount(account.spent_nanodollars, account.spent_tokens),
        reserved=_amount(account.reserved_nanodollars, account.reserved_tokens),
        left=_left(account) if capped else None,
        n_settled=account.n_settled,
        n_open=account.n_open,
    )


def shortage(account: Account, needs: Cost) -> str:
    """Return in words what of a budget is gone, and what the next call may cost; only what has a cap is named."""

    def said(nanodollars: int | None, tokens: int | None) -> str:
        capped = _amount(
            None if account.most_nanodollars is None else nanodollars, None if account.most_tokens is None else tokens
        )
        return in_words(capped.dollars, capped.tokens)

    budget = said(account.most_nanodollars, account.most_tokens)
    spent = said(account.spent_nanodollars, account.spent_tokens)
    reserved = said(account.reserved_nanodollars, account.reserved_tokens)
    held = f", {reserved} reserved for calls without an answer" if account.n_open else ""
    next_one = said(needs.nanodollars, needs.tokens) or "a price that is not known"
    return f"{spent} of {budget} spent{held}, and the next call may cost {next_one}"


def _left(account: Account) -> Amount:
    tokens = (
        None if account.most_tokens is None else account.most_tokens - account.spent_tokens - account.reserved_tokens
    )
    if account.most_nanodollars is None or account.unpriced:
        return _amount(None, tokens)
    spent = (account.spent_nanodollars or 0) + (account.reserved_nanodollars or 0)
    return _amount(account.most_nanodollars - spent, tokens)


def _total(*parts: int | None) -> float:
    """Return a sum, infinite where a part is not known."""
    return math.inf if None in parts else sum(part or 0 for part in parts)


def _amount(nanodollars: int | None, tokens: int | None) -> Amount:
    return Amount(dollars=None if nanodollars is None else nanodollars / NANO, tokens=tokens)


def _caps(budget: Budget | None) -> dict[str, int | None]:
    dollars = budget.dollars if budget else None
    return {
        "most_nanodollars": None if dollars is None else round(dollars * NANO),
        "most_tokens": budget.tokens if budget else None,
    }
