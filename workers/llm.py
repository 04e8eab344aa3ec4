"""One `complete()`: a chat to a typed answer, from any OpenAI-compatible endpoint.

What a server says about a schema is never trusted: the reply is validated here, repaired once at most, and then has a
status. Only validated replies are cached. Every call is entered in the ledger, whatever became of it. Keys are never
logged; prompts and replies only at DEBUG.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Generic, NamedTuple

import openai
import structlog
from openai import OpenAI

from prompts import Message, load_prompt
from schema.budgets import NOTHING, Cost, cost, most
from schema.errors import BadReply, GlossariumError, LLMUnavailable, Refused
from schema.labels import Status
from schema.profiles import LLMProfile
from schema.recipes import digest
from schema.store.calls import Call
from workers import quirks
from workers.accounts import BOTTOMLESS, CompletionCache, Ledger, Purse
from workers.answered import Answered, Usage, read_completion
from workers.endpoint import Attempt, Endpoint, Fate, call, fate_of, shorten
from workers.parse import AnyReply, is_flooded, parse_reply
from workers.quirks import Quirk, Quirks
from workers.throttle import estimate_tokens, throttle_of

log = structlog.get_logger()

MAX_BODY_BYTES = 1_000_000
# A reply that is sent back for repair is cut: what floods once would flood the prompt as well.
REPAIR_CHARS = 600
MODEL_CALLS = 2  # the call and one repair
_MAX_SEED = 2**31
_ONLY_REASONED = (
    "the model's reasoning took all tokens of its answer; raise max_tokens, or turn it off with `extra` in its profile"
)


@dataclass(frozen=True)
class Completion(Generic[AnyReply]):
    """What came of a call: `value` exactly where `status` is ok."""

    status: Status
    value: AnyReply | None
    reason: str | None
    reply: str
    model: str
    usage: Usage
    latency_s: float
    attempts: int
    """HTTP requests made; 0 is an answer from the cache."""
    too_long: bool = False
    """Whether it failed because prompt and answer do not fit the context."""


def complete(
    profile: LLMProfile,
    messages: Sequence[Message],
    answer: type[AnyReply],
    *,
    max_tokens: int,
    temperature: float = 0.0,
    frequency_penalty: float = 0.0,
    seed: int = 0,
    purpose: str = "",
    feature: int | None = None,
    cache: CompletionCache | None = None,
    ledger: Ledger | None = None,
    purse: Purse | None = None,
    on_attempt: Callable[[], None] | None = None,
) -> Completion[AnyReply]:
    """Return the answer to a chat, or the status and reason why there is none (`refused`, `unparsed`, `failed`).

    frequency_penalty:  against loops of small models; not sent where it is 0.
    seed:          tells repeated calls apart, also in the cache.
    purpose:       a word for the log and the ledger; so is `feature`.
    purse:         pays for every HTTP request; an answer from the cache costs it nothing.
    on_attempt:    called before every HTTP request, and while one waits for its turn; what it raises ends the call.
    Raises: LLMUnavailable if the endpoint can't answer now.
    """
    parameters = {
        "max_tokens": max_tokens,
        "temperature": temperature,
        "seed": seed % _MAX_SEED,
        **({"frequency_penalty": frequency_penalty} if frequency_penalty else {}),
    }
    asked = _Asked(profile, tuple(messages), answer, parameters)
    books = _Books(asked, purpose, feature, ledger)
    kept = cache.get(asked.digest) if cache is not None else None
    if kept is not None:
        found = _from_cache(kept, answer)
        books.enter(_Spent(), "ok", from_cache=True)
        return found
    with structlog.contextvars.bound_contextvars(feature=feature, purpose=purpose, profile=profile.name):
        found = _converse(_Conversation(asked, purse or BOTTOMLESS, on_attempt or _nothing), books)
    if cache is not None and found.status == Status.OK:
        cache.put(asked.digest, _to_cache(found))
    return found


def _converse(conversation: "_Conversation[AnyReply]", books: "_Books") -> Completion[AnyReply]:
    """Return the outcome of a conversation once it is entered in the books, as it is if it is broken off."""
    try:
        found = conversation.run()
    except GlossariumError as exc:
        if conversation.spent.attempts:
            books.enter(conversation.spent, "unavailable" if isinstance(exc, LLMUnavailable) else "stopped")
        raise
    books.enter(conversation.spent, found.status.value)
    return found


@dataclass(frozen=True)
class _Asked(Generic[AnyReply]):
    """One question with everything that decides the answer."""

    profile: LLMProfile
    messages: tuple[Message, ...]
    answer: type[AnyReply]
    parameters: dict[str, float | int]

    @property
    def digest(self) -> str:
        return digest(
            {
                **self.profile.recipe,
                "messages": self.messages,
                "parameters": self.parameters,
                "schema": self.answer.json_schema(),
                "sample_index": 0,  # as in the keys of replies that were stored while there was one
            }
        )


class _Spent(NamedTuple):
    """What a call has used so far; `metered` where every reply came with its usage."""

    attempts: int = 0
    usage: Usage = Usage()
    latency_s: float = 0.0
    metered: bool = True


class _Books(NamedTuple):
    """Where a call is entered, and under what."""

    asked: _Asked[Any]
    purpose: str
    feature: int | None
    ledger: Ledger | None

    def enter(self, spent: _Spent, status: str, *, from_cache: bool = False) -> None:
        """Log a call that is over, and enter it in the ledger."""
        dollars = 0.0 if from_cache else self._dollars(spent)
        told = {"status": status, "attempts": spent.attempts, **spent.usage._asdict()}
        if not from_cache:
            log.info("llm_call", **told, seconds=round(spent.latency_s, 2))
        if self.ledger is not None:
            profile = self.asked.profile
            entry = Call(
                feature=self.feature,
                purpose=self.purpose,
                profile=profile.name,
                model=profile.model,
                dollars=dollars,
                latency_s=spent.latency_s,
                from_cache=from_cache,
                **told,
            )
            self.ledger.record(entry)

    def _dollars(self, spent: _Spent) -> float | None:
        dollars = self.asked.profile.prices.of(*spent.usage)
        # Tokens that nobody counted are free only where all are.
        free = self.asked.profile.prices.of(1, 0, 1) == 0
        return dollars if spent.metered or free else None


class _Conversation(Generic[AnyReply]):
    """A question, its reply, and at most one attempt at repair."""

    def __init__(self, asked: _Asked[AnyReply], purse: Purse, on_attempt: Callable[[], None]) -> None:
        self._asked = asked
        self._purse = purse
        self._reserved = NOTHING
        self._on_attempt = on_attempt
        self._throttle = throttle_of(asked.profile)
        self._started = time.monotonic()
        self._spent = _Spent()
        self._besides = quirks.NONE

    @property
    def spent(self) -> _Spent:
        """Return what was used so far; every reply that was paid for is in it."""
        return self._spent._replace(latency_s=time.monotonic() - self._started)

    def run(self) -> Completion[AnyReply]:
        """Return the outcome."""
        asked = self._asked
        messages, answered, problem = asked.messages, Answered("", "", asked.profile.model, None), ""
        if (reason := _surely_too_long(asked)) is not None:
            return replace(self._outcome(answered, Status.FAILED, reason=reason), too_long=True)
        for _ in range(MODEL_CALLS):
            try:
                answered = self._ask(messages)
                if answered.only_reasoned:
                    return self._outcome(answered, Status.UNPARSED, reason=_ONLY_REASONED)
                value = parse_reply(answered.text, asked.answer, answered.finish_reason)
                return self._outcome(answered, Status.OK, value=value)
            except Refused as exc:
                return self._outcome(answered, Status.REFUSED, reason=str(exc))
            except BadReply as exc:
                problem = str(exc)
            except (openai.BadRequestError, openai.UnprocessableEntityError) as exc:
                refused = self._outcome(answered, Status.FAILED, reason=_refusal(exc, asked))
                return replace(refused, too_long=quirks.context_sizes(exc.message, exc.body) is not None)
            messages = (*asked.messages, *_repair(answered.text, problem))
            # A grammar that allows endless whitespace is what floods: the repair does without.
            self._besides = frozenset({Quirk.NO_RESPONSE_FORMAT}) if is_flooded(answered.text) else quirks.NONE
        return self._outcome(answered, Status.UNPARSED, reason=problem)

    def _ask(self, messages: Sequence[Message]) -> Answered:
        log.debug("llm_messages", messages=messages)
        expected = _expected(messages, self._asked)
        body = request_completion(self._asked, messages, partial(self._attempt, expected), self._besides)
        answered = read_completion(body, self._asked.profile.model)
        log.debug("llm_reply", reply=answered.text, finish_reason=answered.finish_reason)
        self._count(answered.usage, expected)
        return answered

    @contextmanager
    def _attempt(self, expected: int, most: Cost) -> Iterator[None]:
        """Wait for a turn and reserve what a request can cost; if it fails, settle by how it failed."""
        self._on_attempt()
        self._throttle.wait(expected, self._on_attempt)
        self._purse.reserve(most)
        self._reserved = most
        self._spent = self._spent._replace(attempts=self._spent.attempts + 1)
        paid: dict[Fate, Cost | None] = {"unsent": None, "refused": NOTHING, "lost": most}
        try:
            yield
        except Exception as exc:
            self._purse.settle(most, paid[fate_of(exc)])
            raise

    def _count(self, usage: Usage | None, expected: int) -> None:
        if usage is None:
            self._purse.settle(self._reserved, self._reserved)
            self._spent = self._spent._replace(metered=False)
            return
        self._purse.settle(self._reserved, cost(self._asked.profile.prices, *usage))
        self._throttle.settle(expected, usage.prompt_tokens + usage.completion_tokens)
        total = Usage(*(a + b for a, b in zip(self._spent.usage, usage, strict=True)))
        self._spent = self._spent._replace(usage=total)

    def _outcome(
        self, answered: Answered, status: Status, *, value: AnyReply | None = None, reason: str | None = None
    ) -> Completion[AnyReply]:
        spent = self.spent
        return Completion(
            status, value, reason, answered.text, answered.model, spent.usage, spent.latency_s, spent.attempts
        )


def request_completion(
    asked: _Asked[Any],
    messages: Sequence[Message],
    attempt: Callable[[Cost], AbstractContextManager[object]],
    besides: Quirks,
) -> dict[str, Any]:
    """Return the body of a chat completion, asked as the endpoint takes it; see `quirks`.

    attempt:  entered around every HTTP request, with what it costs at most.
    besides:  for this request alone, and not remembered.
    """
    profile = asked.profile
    endpoint = Endpoint(profile.base_url, profile.secret, profile.timeout_s, MAX_BODY_BYTES)
    tried = quirks.known(profile.base_url, profile.model) | besides
    while True:
        arguments = quirks.adapted(_arguments(asked, messages), tried)
        paying: Attempt = partial(attempt, _most(profile, arguments))
        try:
            body = call(endpoint, partial(_create, arguments, profile.extra), paying)
        except (openai.BadRequestError, openai.UnprocessableEntityError) as exc:
            quirk = quirks.diagnose(exc.message, tried)
            if quirk is None:
                raise
            tried |= {quirk}
            continue
        quirks.remember(profile.base_url, profile.model, tried - besides)
        return body


def _create(arguments: dict[str, Any], extra: Mapping[str, Any], client: OpenAI) -> Any:
    return client.chat.completions.with_raw_response.create(**arguments, extra_body=extra or None)


def _arguments(asked: _Asked[Any], messages: Sequence[Message]) -> dict[str, Any]:
    # Without `strict`: some endpoints take only a part of JSON schema with it, and all is validated here anyway.
    schema = {"type": "json_schema", "json_schema": {"name": asked.answer.name, "schema": asked.answer.json_schema()}}
    return {
        "model": asked.profile.model,
        "messages": list(messages),
        **asked.parameters,
        "response_format": schema,
    }


def _most(profile: LLMProfile, arguments: Mapping[str, Any]) -> Cost:
    """Return what a request costs at most: a token is a byte or more, whatever of the request the endpoint counts."""
    body = {**arguments, **profile.extra}
    written = int(body.get("max_completion_tokens") or body["max_tokens"])
    sent = json.dumps(body, ensure_ascii=False, default=str).encode("utf-8", "replace")
    return most(profile.prices, len(sent), written)


def _expected(messages: Sequence[Message], asked: _Asked[Any]) -> int:
    """Return about how many tokens a request can use: its prompt's, and its answer's at most."""
    return estimate_tokens(messages) + int(asked.parameters["max_tokens"])


def _surely_too_long(asked: _Asked[Any]) -> str | None:
    needs, holds = _expected(asked.messages, asked), asked.profile.context_tokens
    return _too_long(asked, f"about {needs}", holds) if holds is not None and needs > holds else None


def _too_long(asked: _Asked[Any], needs: object, holds: object) -> str:
    model = f"{asked.profile.model} at {asked.profile.base_url}"
    return f"the context is too small: prompt and answer need {needs} tokens, and {model} holds {holds}"


def _refusal(exc: openai.APIStatusError, asked: _Asked[Any]) -> str:
    """Return why an endpoint refused a request; of a context that is too small both sizes."""
    sizes = quirks.context_sizes(exc.message, exc.body)
    if sizes is None:
        return (
            f"the endpoint refused the request (HTTP {exc.status_code}): {shorten(exc.message, asked.profile.secret)}"
        )
    needs = sizes.needs or f"about {_expected(asked.messages, asked)}"
    return _too_long(asked, needs, sizes.holds or asked.profile.context_tokens or "fewer")


def _repair(reply: str, problem: str) -> tuple[Message, ...]:
    """Return the turns that send a reply back with what is wrong with it."""
    request = load_prompt("repair/reply.v1").messages(reason=problem)
    return ({"role": "assistant", "content": reply.strip()[:REPAIR_CHARS] or "{}"}, *request)


def _to_cache(found: Completion[Any]) -> dict[str, Any]:
    usage = found.usage._asdict()
    return {"reply": found.reply, "model": found.model, "usage": usage, "latency_s": found.latency_s}


def _from_cache(kept: Mapping[str, Any], answer: type[AnyReply]) -> Completion[AnyReply]:
    value = parse_reply(kept["reply"], answer)
    usage = Usage(**kept["usage"])
    return Completion(Status.OK, value, None, kept["reply"], kept["model"], usage, kept["latency_s"], 0)


def _nothing() -> None:
    """Do nothing, before every attempt."""
