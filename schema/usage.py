"""Usage: what the LLM calls of a tenant used and cost, by day, purpose and model, on the wire."""

from datetime import date
from uuid import UUID

from pydantic import Field

from schema.records import Record
from schema.times import Moment
from schema.wire import PageQuery


class UsageFilter(Record):
    """Which calls; what is not given does not filter."""

    run_id: UUID | None = Field(None, description="only calls of this run")
    dictionary_id: UUID | None = Field(None, description="only calls of the runs of this dictionary")
    since: Moment | None = Field(None, description="only calls that ended then or later")
    until: Moment | None = Field(None, description="only calls that ended before")


class UsageQuery(PageQuery, UsageFilter):
    """A page of usage."""


class CallTotals(Record):
    """What calls used together. Those that were answered from the cache are among the calls, and used nothing."""

    calls: int
    from_cache: int
    attempts: int = Field(description="HTTP requests; retries and repairs are among them")
    prompt_tokens: int
    cached_tokens: int = Field(description="of the prompts, what the endpoint had read before")
    completion_tokens: int
    dollars: float | None = Field(description="of what was answered; null if the price of any call is not known")


class UsageRow(CallTotals):
    """What the calls of one day, purpose and model used."""

    day: date = Field(description="in UTC")
    purpose: str
    model: str


class UsagePage(Record):
    """Usage, the latest day first, and all of it together."""

    total: CallTotals = Field(description="of all pages")
    items: tuple[UsageRow, ...]
    next_cursor: str | None
