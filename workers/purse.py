"""The purse of a run, in Postgres: every HTTP request of its LLM calls is paid from it, and its budget kept to there.

A budget that does not hold the next request pauses the run. While requests are under way that may turn out cheaper than
what is reserved for them, the job is given back for a moment instead.
"""

import structlog

from schema import profiles
from schema.budgets import NANO, Cost, in_words
from schema.errors import JobStopped, LLMUnavailable
from schema.store import runs, spending
from schema.store.database import Connection
from workers.engine import Context

log = structlog.get_logger()

RETRY_AFTER_S = 2.0
GOING_ON = ("queued", "running")


class StoredPurse:
    """What `workers.llm.complete` pays a run's HTTP requests from."""

    def __init__(self, context: Context, profile: str) -> None:
        """Pay for the requests of a job to an LLM profile."""
        self._context = context
        self._run_id = context.job.run_id
        self._profile = profile

    def reserve(self, most: Cost) -> None:
        """Set aside what a request costs at most, in one statement.

        Raises: JobStopped if the run is paused or over, for its budget or otherwise; LLMUnavailable if there may be
        room in a moment.
        """
        with self._context.statements() as connection:
            if spending.reserve(connection, self._run_id, most):
                return
        with self._context.transaction() as connection:
            refused = self._refuse(connection, most)
        raise refused  # once what it says is committed

    def settle(self, most: Cost, cost: Cost | None) -> None:
        """Enter what a request cost; a run with a budget is paused by one that cost more than was reserved for it."""
        with self._context.statements() as connection:
            has_budget = spending.settle(connection, self._run_id, most, cost)
            if cost is not None and cost.exceeds(most):
                self._distrust(connection, most, cost, has_budget)

    def _refuse(self, connection: Connection, most: Cost) -> JobStopped | LLMUnavailable:
        """Return why a reservation was refused; the run is paused if nothing but a larger budget helps."""
        account = spending.lock(connection, self._run_id)
        state = runs.state_of(connection, self._run_id)
        if account is None or state not in GOING_ON:
            return JobStopped(f"the run is {state or 'gone'}")
        if account.holds(most):
            return LLMUnavailable("what kept the call from being sent is over by now", retry_after_s=RETRY_AFTER_S)
        why = spending.shortage(account, most)
        if account.would_hold(most) and self._may_be_answered(account):
            message = f"waiting for calls under way to give back what they do not need of the budget: {why}"
            return LLMUnavailable(message, retry_after_s=RETRY_AFTER_S)
        note = runs.used_up(why)
        spending.refuse(connection, self._run_id, most)
        runs.halt(connection, self._run_id, note)
        return JobStopped(note)

    def _may_be_answered(self, account: spending.Account) -> bool:
        """Return whether a reservation may be of a request that is still under way; none takes longer than a lease."""
        return account.n_open > 0 and account.quiet_s < profiles.lease_s(self._context.settings)

    def _distrust(self, connection: Connection, most: Cost, cost: Cost, has_budget: bool) -> None:
        note = (
            f"a reply of the LLM profile {self._profile!r} cost {_said(cost)}, more than the {_said(most)} that were "
            "reserved for it: while its endpoint does not keep to max_tokens, no budget can be kept to"
        )
        log.warning("reply_above_reserve", profile=self._profile, reserved=most, cost=cost)
        if has_budget:
            runs.halt(connection, self._run_id, note)


def _said(cost: Cost) -> str:
    return in_words(None if cost.nanodollars is None else cost.nanodollars / NANO, cost.tokens)
