"""What a chat completion says, read off the body of a response, which may be of any form.

Knows where endpoints put the answer; does not know what was asked.
"""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple


class Usage(NamedTuple):
    """Tokens as the endpoint counts them; `cached_tokens` are those of the prompt that it had read before."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0


class Answered(NamedTuple):
    """The first choice of a chat completion.

    usage:          None where the body has none.
    only_reasoned:  the length limit came before the answer began.
    """

    text: str
    finish_reason: str
    model: str
    usage: Usage | None
    only_reasoned: bool = False


def read_completion(body: Mapping[str, Any], model: str) -> Answered:
    """Return the first choice of a chat completion; a body of another form is an empty reply."""
    choices = body.get("choices")
    choice = _mapping(choices[0]) if isinstance(choices, list) and choices else {}
    message = _mapping(choice.get("message"))
    reasoning = message.get("reasoning_content") or message.get("reasoning")
    text = _text(message.get("content"))
    finish_reason = "content_filter" if message.get("refusal") else str(choice.get("finish_reason") or "stop")
    return Answered(
        text or _whole_answer(reasoning),
        finish_reason,
        str(body.get("model") or model),
        _usage(body.get("usage")),
        only_reasoned=bool(reasoning) and not text.strip() and finish_reason == "length",
    )


def _text(content: Any) -> str:
    """Return the text of a message's content, which is a string or a list of parts."""
    if isinstance(content, list):
        return "".join(_text(_mapping(part).get("text")) for part in content)
    return content if isinstance(content, str) else ""


def _whole_answer(reasoning: Any) -> str:
    """Return the reasoning if it is the answer: vLLM has put it there where a schema forbids any reasoning.

    Real reasoning is no answer: the objects in it are drafts, or repeat the question.
    """
    if not isinstance(reasoning, str):
        return ""
    try:
        return reasoning if isinstance(json.loads(reasoning), dict) else ""
    except (ValueError, RecursionError):
        return ""


def _usage(said: Any) -> Usage | None:
    """Return the token counts of a body, None where it has none."""
    usage = _mapping(said)
    cached = _mapping(usage.get("prompt_tokens_details")).get("cached_tokens")
    counts = (usage.get("prompt_tokens"), cached, usage.get("completion_tokens"))
    if counts[0] is None and counts[2] is None:
        return None
    return Usage(*(count if isinstance(count, int) and count >= 0 else 0 for count in counts))


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
