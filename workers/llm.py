"""One `complete()`: a chat to a typed answer, from any OpenAI-compatible endpoint.

What a server says about a schema is never trusted: the reply is validated here, repaired once at most, and then has a
status. Only validated replies are cached. Keys are never logged; prompts and replies only at DEBUG.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, NamedTuple, Protocol

import openai
import structlog
from openai import OpenAI
from pydantic import BaseModel, ConfigDict, SecretStr

from prompts import Message, load_prompt
from schema.errors import BadReply, InvalidInput, Refused
from schema.recipes import digest
from schema.records import Status
from schema.settings import Settings
from workers.endpoint import Endpoint, call
from workers.parse import AnyReply, Reply, parse_reply

log = structlog.get_logger()

MAX_BODY_BYTES = 1_000_000
# A reply that is sent back for repair is cut: what floods once would flood the prompt as well.
REPAIR_CHARS = 600
MODEL_CALLS = 2  # the call and one repair
_MAX_SEED = 2**31


class LLMProfile(BaseModel):
    """An operator's LLM: where it is and what it is called."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    base_url: str
    api_key: SecretStr
    model: str
    timeout_s: float = 120.0

    @property
    def endpoint(self) -> Endpoint:
        """Return where to ask; profiles of one endpoint share a client."""
        return Endpoint(self.base_url, self.api_key, self.timeout_s, MAX_BODY_BYTES)


def profile(name: str, settings: Settings) -> LLMProfile | None:
    """Return the profile of a name, None for `none`; InvalidInput names those that there are."""
    match name:
        case "none":
            return None
        case "default":
            return LLMProfile(
                name=name,
                base_url=settings.llm_base_url,
                api_key=settings.llm_api_key,
                model=settings.llm_model,
                timeout_s=settings.llm_timeout_s,
            )
        case _:
            raise InvalidInput(f"llm={name!r}; must be default or none")


class CompletionCache(Protocol):
    """Where validated replies are kept, by the sha256 of everything that was asked."""

    def get(self, sha256: str) -> Mapping[str, Any] | None:
        """Return what was put under a digest."""

    def put(self, sha256: str, body: Mapping[str, Any]) -> None:
        """Keep a validated reply."""


class Usage(NamedTuple):
    """Tokens as the endpoint counts them; `cached_tokens` are those of the prompt that it had read before."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0


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


def complete(
    profile: LLMProfile,
    messages: Sequence[Message],
    answer: type[AnyReply],
    *,
    max_tokens: int,
    temperature: float = 0.0,
    frequency_penalty: float = 0.0,
    seed: int = 0,
    sample_index: int = 0,
    purpose: str = "",
    cache: CompletionCache | None = None,
    on_attempt: Callable[[], None] | None = None,
) -> Completion[AnyReply]:
    """Return the answer to a chat, or the status and reason why there is none (`refused`, `unparsed`, `failed`).

    frequency_penalty:  against loops of small models; not sent where it is 0.
    sample_index:  tells repeated calls apart; it moves the seed and the cache key.
    purpose:       a word for the log.
    on_attempt:    called before every HTTP request; what it raises ends the call.
    Raises: LLMUnavailable if the endpoint can't answer now.
    """
    parameters = {
        "max_tokens": max_tokens,
        "temperature": temperature,
        "seed": (seed + sample_index) % _MAX_SEED,
        **({"frequency_penalty": frequency_penalty} if frequency_penalty else {}),
    }
    asked = _Asked(profile, tuple(messages), answer, parameters, sample_index)
    kept = cache.get(asked.digest) if cache is not None else None
    if kept is not None:
        return _from_cache(kept, answer)
    found = _Conversation(asked, on_attempt or _nothing).run()
    log.info(
        "llm_call",
        purpose=purpose,
        status=found.status,
        attempts=found.attempts,
        seconds=round(found.latency_s, 2),
        **found.usage._asdict(),
    )
    if cache is not None and found.status == Status.OK:
        cache.put(asked.digest, _to_cache(found))
    return found


@dataclass(frozen=True)
class _Asked(Generic[AnyReply]):
    """One question with everything that decides the answer."""

    profile: LLMProfile
    messages: tuple[Message, ...]
    answer: type[AnyReply]
    parameters: dict[str, float | int]
    sample_index: int

    @property
    def digest(self) -> str:
        return digest(
            {
                "endpoint": self.profile.base_url,
                "model": self.profile.model,
                "messages": self.messages,
                "parameters": self.parameters,
                "schema": self.answer.json_schema(),
                "sample_index": self.sample_index,
            }
        )


class _Answered(NamedTuple):
    """A chat completion, read off the body of a response."""

    text: str
    finish_reason: str
    model: str
    usage: Usage


class _Conversation(Generic[AnyReply]):
    """A question, its reply, and at most one attempt at repair."""

    def __init__(self, asked: _Asked[AnyReply], on_attempt: Callable[[], None]) -> None:
        self._asked = asked
        self._on_attempt = on_attempt
        self._attempts = 0
        self._usage = Usage()
        self._started = time.monotonic()

    def run(self) -> Completion[AnyReply]:
        """Return the outcome; every reply that was paid for is in its usage."""
        messages, answered, problem = self._asked.messages, _Answered("", "", self._asked.profile.model, Usage()), ""
        for _ in range(MODEL_CALLS):
            try:
                answered = self._ask(messages)
                value = parse_reply(answered.text, self._asked.answer, answered.finish_reason)
                return self._outcome(answered, Status.OK, value=value)
            except Refused as exc:
                return self._outcome(answered, Status.REFUSED, reason=str(exc))
            except BadReply as exc:
                problem = str(exc)
            except (openai.BadRequestError, openai.UnprocessableEntityError) as exc:
                reason = f"the endpoint refused the request (HTTP {exc.status_code}): {exc.message[:300]}"
                return self._outcome(answered, Status.FAILED, reason=reason)
            messages = (*self._asked.messages, *_repair(answered.text, problem))
        return self._outcome(answered, Status.UNPARSED, reason=problem)

    def _ask(self, messages: Sequence[Message]) -> _Answered:
        log.debug("llm_messages", messages=messages)
        body = request_completion(self._asked.profile, messages, self._asked.answer, self._asked.parameters, self._tick)
        answered = _read(body, self._asked.profile.model)
        log.debug("llm_reply", reply=answered.text, finish_reason=answered.finish_reason)
        self._usage = Usage(*(a + b for a, b in zip(self._usage, answered.usage, strict=True)))
        return answered

    def _tick(self) -> None:
        self._on_attempt()
        self._attempts += 1

    def _outcome(
        self, answered: _Answered, status: Status, *, value: AnyReply | None = None, reason: str | None = None
    ) -> Completion[AnyReply]:
        latency_s = time.monotonic() - self._started
        return Completion(status, value, reason, answered.text, answered.model, self._usage, latency_s, self._attempts)


# ---------------------------------------------------------------------------------------------- what an endpoint takes

_lock = threading.Lock()
_not_taken: dict[tuple[str, str], frozenset[str]] = {}
"""What each (base URL, model) has refused with 400 and then answered without."""


def request_completion(
    profile: LLMProfile,
    messages: Sequence[Message],
    answer: type[Reply],
    parameters: Mapping[str, float | int],
    on_attempt: Callable[[], None],
) -> dict[str, Any]:
    """Return the body of a chat completion; leaves out what the endpoint does not take.

    Not every endpoint knows `response_format`, `seed` or a temperature, or calls the limit `max_tokens`. What is
    refused with 400 is left out once, and from then on if that helped.
    """
    place = (profile.base_url, profile.model)
    left_out = _not_taken.get(place, frozenset())
    while True:
        arguments = _arguments(profile, messages, answer, parameters, left_out)
        try:
            body = call(profile.endpoint, partial(_create, arguments), on_attempt)
        except (openai.BadRequestError, openai.UnprocessableEntityError) as exc:
            culprit = _culprit(exc.message, left_out)
            if culprit is None:
                raise
            left_out |= {culprit}
            continue
        with _lock:
            _not_taken[place] = _not_taken.get(place, frozenset()) | left_out
        return body


def _create(arguments: dict[str, Any], client: OpenAI) -> Any:
    return client.chat.completions.with_raw_response.create(**arguments)


def _arguments(
    profile: LLMProfile,
    messages: Sequence[Message],
    answer: type[Reply],
    parameters: Mapping[str, float | int],
    left_out: frozenset[str],
) -> dict[str, Any]:
    # Without `strict`: some endpoints take only a part of JSON schema with it, and all is validated here anyway.
    schema = {"type": "json_schema", "json_schema": {"name": answer.name, "schema": answer.json_schema()}}
    arguments = {"model": profile.model, "messages": list(messages), **parameters, "response_format": schema}
    if "max_tokens" in left_out:
        arguments["max_completion_tokens"] = arguments["max_tokens"]
    return {name: value for name, value in arguments.items() if name not in left_out}


def _culprit(message: str, left_out: frozenset[str]) -> str | None:
    """Return what to leave out after a 400: what it names, else the response format; None if nothing is left."""
    if "context" in message and ("length" in message or "size" in message):
        return None
    named = [name for name in ("max_tokens", "temperature", "seed", "frequency_penalty") if name in message]
    return next((name for name in (*named, "response_format") if name not in left_out), None)


def _read(body: Mapping[str, Any], model: str) -> _Answered:
    """Return the first choice of a chat completion; a body of another form is an empty reply."""
    choices = body.get("choices")
    choice = _mapping(choices[0]) if isinstance(choices, list) and choices else {}
    message = _mapping(choice.get("message"))
    text = message.get("content")
    finish_reason = "content_filter" if message.get("refusal") else str(choice.get("finish_reason") or "stop")
    return _Answered(
        text if isinstance(text, str) else "", finish_reason, str(body.get("model") or model), _usage(body.get("usage"))
    )


def _usage(said: Any) -> Usage:
    """Return the token counts of a body, 0 where it has none."""
    usage = _mapping(said)
    cached = _mapping(usage.get("prompt_tokens_details")).get("cached_tokens")
    counts = (usage.get("prompt_tokens"), cached, usage.get("completion_tokens"))
    return Usage(*(count if isinstance(count, int) and count >= 0 else 0 for count in counts))


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


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
