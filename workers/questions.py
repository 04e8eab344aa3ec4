"""A job's questions to LLMs: the one place that knows what a call of a run comes with – cache, ledger, purse, seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic

from prompts import Message
from schema.errors import ProfileChanged
from schema.profiles import LLMProfile, profile
from schema.recipes import digest
from schema.store.run_features import Brief
from workers import recipes
from workers.cache import StoredCompletions
from workers.engine import Context
from workers.ledger import StoredLedger
from workers.llm import Completion, complete
from workers.parse import AnyReply
from workers.purse import StoredPurse

_RETRY_AFTER_OPERATOR_S = 600.0


@dataclass(frozen=True)
class Question(Generic[AnyReply]):
    """What is asked of an LLM about a feature.

    purpose:  a word for the log and the ledger.
    """

    messages: Sequence[Message]
    answer: type[AnyReply]
    max_tokens: int
    purpose: str
    feature: int
    temperature: float = 0.0
    frequency_penalty: float = 0.0


def pose(context: Context, brief: Brief, llm: LLMProfile, question: Question[AnyReply]) -> Completion[AnyReply]:
    """Return the answer to a question, known before or paid for by the run.

    Raises: LLMUnavailable if the endpoint can't answer now; JobStopped if the run is paused or over, or its budget does
    not hold the question.
    """
    return complete(
        llm,
        question.messages,
        question.answer,
        max_tokens=question.max_tokens,
        temperature=question.temperature,
        frequency_penalty=question.frequency_penalty,
        seed=brief.spec.seed,
        purpose=question.purpose,
        feature=question.feature,
        cache=StoredCompletions(context, brief.tenant_id),
        ledger=StoredLedger(context, brief.tenant_id),
        purse=StoredPurse(context, llm.name),
        on_attempt=context.progress.advance,
    )


def find_llm(context: Context, brief: Brief, name: str) -> LLMProfile | None:
    """Return the LLM of a profile of a run, None for `none`.

    Raises: ProfileChanged if it is another one than when the run was submitted: what it would say belongs to other
    recipes than those of the run.
    """
    llm = profile(name, context.settings)
    before = recipes.llms(brief, context.settings).get(name)
    now = llm.recipe if llm else None
    if digest(before) == digest(now):
        return llm
    message = (
        f"the LLM profile {name!r} was {_named(before)} when the run was submitted and is {_named(now)} now; "
        "put it back as it was, or cancel the run and submit it again"
    )
    raise ProfileChanged(message, retry_after_s=_RETRY_AFTER_OPERATOR_S)


def _named(recipe: Mapping[str, object] | None) -> str:
    if recipe is None:
        return "not there"
    extra = f" with {recipe['extra']}" if "extra" in recipe else ""
    return f"{recipe['model']} at {recipe['endpoint']}{extra}"
