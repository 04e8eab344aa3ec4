"""A describer's own failures, shown to it for a revision."""

from collections.abc import Sequence
from typing import NamedTuple

from prompts.loader import Ask, load_prompt
from prompts.quoting import encode, quote


class Failures(NamedTuple):
    """Texts that a description gets wrong, the worst first.

    missed:         the feature fires in them (marked), and they are unlike the description.
    false_alarms:   it is silent in them, and they are like the description.
    contradicting:  written with the feature amplified, and unlike the description.
    """

    missed: tuple[str, ...]
    false_alarms: tuple[str, ...]
    contradicting: tuple[str, ...]


def ask_for_revision(asked: Ask, trigger: str, effect: str, failures: Failures, secret: bytes) -> Ask:
    """Return the describer's chat, its answer, and what the answer fails on: all but the last turn is known already.

    asked: what the description was, or would have been, made from.
    """
    prompt = load_prompt("describe/revise.v1")
    reply = encode({"trigger": trigger, "effect": effect})
    shown = {name: quote(_lines(texts), secret) for name, texts in failures._asdict().items()}
    return Ask(prompt, (*asked.messages, {"role": "assistant", "content": reply}, *prompt.messages(**shown)))


def _lines(texts: Sequence[str]) -> Sequence[str]:
    return texts or ("(none)",)
