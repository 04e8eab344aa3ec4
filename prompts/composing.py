"""Descriptions that are composed, not written: of a describer's facets, or of other descriptions."""

import json
from collections.abc import Iterable
from typing import NamedTuple

from prompts.loader import Message
from schema.labels import Description, Status

SHORTEST_COPY = 12  # characters
COPIES = "copies an example of the prompt"


class NotApplicable(NamedTuple):
    """Why a method has nothing to say of a feature."""

    status: Status
    reason: str


class Composition(NamedTuple):
    """A description that was composed without an LLM."""

    text: str
    trigger: str
    effect: str


def compose(trigger: str, effect: str) -> str:
    """Return one sentence of both facets; empty ones are left out.

    A facet names tokens, then what they have in common: "charged, accused: words of accusation". In the sentence the
    latter comes first: "words of accusation (charged, accused); promotes crimes (murder, theft)".
    """
    facets = [_common_first(trigger), f"promotes {_common_first(effect)}" if effect else ""]
    return "; ".join(facet for facet in facets if facet)


def _common_first(facet: str) -> str:
    tokens, _, common = facet.strip().rstrip(".: ").partition(": ")
    return f"{common} ({tokens})" if tokens and common else tokens


def copies_example(said: Iterable[str], examples: Iterable[Message]) -> bool:
    """Return whether a text says what one of a prompt's few-shot answers says: of a facet, what tokens have in common.

    Short phrases are left out: a feature may well be about football.
    """
    answers = [json.loads(turn["content"]) for turn in examples if turn["role"] == "assistant"]
    told = [text for answer in answers for value in answer.values() for text in _telling(value)]
    telling = [text.casefold() for text in told if len(text) >= SHORTEST_COPY]
    return any(text in one.casefold() for text in telling for one in said)


def _telling(value: str | list[str]) -> list[str]:
    """Return what of an answer's field nobody says by chance: sentences, or what a facet has after its tokens."""
    return value if isinstance(value, list) else [value.partition(": ")[2]]


def concatenate(descriptions: Iterable[Description]) -> Composition | NotApplicable:
    """Return the paper's Ensemble Concat: what reads the input, then what reads the output.

    Takes the trigger from exemplars where they were described, the effect from token change, else from the vocabulary.
    Source: arXiv 2501.08319 section 3; we differ: the facets stay apart as well.
    """
    usable = {d.method: d for d in descriptions if d.status == Status.OK and d.text}
    found = [usable[method] for method in ("max_activating", "vocabulary", "token_change") if method in usable]
    if len(found) < 2:
        return NotApplicable(Status.NOT_APPLICABLE, f"{len(found)} descriptions to concatenate; needs 2")
    effect = next((d.effect for d in reversed(found) if d.effect), "")
    trigger = next((d.trigger for d in found if d.trigger), "")
    return Composition(" ".join(_sentence(d.text or "") for d in found), trigger, effect)


def _sentence(text: str) -> str:
    text = text.strip()
    return text if text.endswith((".", "!", "?")) else f"{text}."
