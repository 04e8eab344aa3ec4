"""How OpenAI-compatible endpoints differ in what they take, and what was learnt of each in this process.

What an endpoint refuses with 400 is changed once and asked again; what helped is remembered of the (base URL, model).
Knows the body of a request and the words of a refusal; does no asking.
"""

import re
import threading
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from prompts import Message


class Quirk(StrEnum):
    """One thing that a request does without, or says in another way."""

    MAX_COMPLETION_TOKENS = "max_tokens"  # OpenAI's reasoning models: another name of the limit
    NO_TEMPERATURE = "temperature"  # the same: 1 or nothing
    NO_SEED = "seed"
    NO_FREQUENCY_PENALTY = "frequency_penalty"
    JSON_OBJECT = "json_object"  # endpoints that know no JSON schema, but JSON
    NO_RESPONSE_FORMAT = "response_format"
    NO_SYSTEM = "system"  # Gemma's chat template and some others


Quirks = frozenset[Quirk]
NONE: Quirks = frozenset()
_PARAMETERS = (Quirk.MAX_COMPLETION_TOKENS, Quirk.NO_TEMPERATURE, Quirk.NO_SEED, Quirk.NO_FREQUENCY_PENALTY)

_SYSTEM = re.compile(r"system (role|message|prompt|turn)|role\W+system|roles must alternate", re.IGNORECASE)
_CONTEXT = re.compile(r"context.{0,20}(length|size|window)|exceed_context_size|too long for (the|its) context", re.I)
_CONTEXT_HOLDS = re.compile(r"context (?:length|size|window)(?: (?:is|of|\())*\D{0,4}(\d+)", re.IGNORECASE)
_NEEDS = (
    re.compile(r"request \((\d+) tokens", re.IGNORECASE),  # llama.cpp
    re.compile(r"requested (?:about )?(\d+) tokens", re.IGNORECASE),  # vLLM and OpenAI, the answer's limit with it
    re.compile(r"(?:resulted in|contains at least|has|prompt of) (\d+) (?:input )?tokens", re.IGNORECASE),
)

_lock = threading.Lock()
_learnt: dict[tuple[str, str], Quirks] = {}


def known(base_url: str, model: str) -> Quirks:
    """Return what was learnt of a model at an endpoint."""
    return _learnt.get((base_url, model), NONE)


def remember(base_url: str, model: str, quirks: Quirks) -> None:
    """Keep what helped."""
    with _lock:
        _learnt[base_url, model] = known(base_url, model) | quirks


def diagnose(message: str, tried: Quirks) -> Quirk | None:
    """Return what to change after a 400: what it names, else the response format; None if nothing is left to change."""
    if _CONTEXT.search(message):
        return None
    if _SYSTEM.search(message) and Quirk.NO_SYSTEM not in tried:
        return Quirk.NO_SYSTEM
    named = [quirk for quirk in _PARAMETERS if quirk.value in message and quirk not in tried]
    return named[0] if named else _other_format(message, tried)


def _other_format(message: str, tried: Quirks) -> Quirk | None:
    """Return the next weaker form of asking for JSON; a refusal that names the type of it may take another type."""
    if Quirk.NO_RESPONSE_FORMAT in tried:
        return None
    names_type = re.search(r"json_schema|json_object|\btype\b", message) is not None
    return Quirk.JSON_OBJECT if names_type and Quirk.JSON_OBJECT not in tried else Quirk.NO_RESPONSE_FORMAT


def adapted(arguments: Mapping[str, Any], quirks: Quirks) -> dict[str, Any]:
    """Return the arguments of a chat completion as an endpoint with these quirks takes them."""
    made = {name: value for name, value in arguments.items() if name not in quirks}
    if Quirk.MAX_COMPLETION_TOKENS in quirks:
        made["max_completion_tokens"] = arguments["max_tokens"]
    if Quirk.JSON_OBJECT in quirks and "response_format" in made:
        made["response_format"] = {"type": "json_object"}
    if Quirk.NO_SYSTEM in quirks:
        made["messages"] = without_system(made["messages"])
    return made


def without_system(messages: Sequence[Message]) -> list[Message]:
    """Return a chat whose system turns are folded into the first user turn."""
    system = "\n\n".join(message["content"] for message in messages if message["role"] == "system")
    rest = [message for message in messages if message["role"] != "system"]
    if not system or not rest:
        return list(messages)
    first: Message = {**rest[0], "content": f"{system}\n\n{rest[0]['content']}"}
    return [first, *rest[1:]]


class Sizes(NamedTuple):
    """Tokens that a request needs and that a context holds; None where nobody says."""

    needs: int | None
    holds: int | None


def context_sizes(message: str, body: object) -> Sizes | None:
    """Return the sizes that a refusal names, None where it is about something else than the context.

    body:  the refusal's `error` object; llama.cpp has the sizes there.
    """
    if not _CONTEXT.search(message) and not _CONTEXT.search(str(body)):
        return None
    fields = body if isinstance(body, dict) else {}
    needs = next((int(found[1]) for pattern in _NEEDS if (found := pattern.search(message))), None)
    holds = _CONTEXT_HOLDS.search(message)
    return Sizes(fields.get("n_prompt_tokens") or needs, fields.get("n_ctx") or (int(holds[1]) if holds else None))
