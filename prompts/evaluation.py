"""The questions of the evaluations: to write sentences from a description, and which texts or contexts belong to it."""

from collections.abc import Mapping, Sequence
from typing import Literal

from prompts.loader import Ask, load_prompt
from prompts.quoting import quote

ContextKind = Literal["detection", "fuzzing"]
SENTENCES, SIMILAR, CHOICE = "write/sentences.v2", "write/similar.v1", "judge/output.v2"
CONTEXTS: Mapping[ContextKind, str] = {"detection": "judge/detection.v1", "fuzzing": "judge/fuzzing.v1"}
CONTEXTS_PER_CALL = 10


def ask_for_sentences(description: str, n: int, secret: bytes) -> Ask:
    """Return the writer's prompt: it sees the description and nothing else.

    n:  sentences of each kind, activating and neutral.
    """
    prompt = load_prompt(SENTENCES)
    return Ask(prompt, prompt.messages(description=quote([description], secret), n=str(n)))


def ask_for_choice(sets: Sequence[Sequence[str]], description: str, secret: bytes) -> Ask:
    """Return the judge's prompt: three sets of texts, then the description, so that the sets' prefix is reused.

    sets:  three sets in the order A, B, C; whoever asks has shuffled them.
    """
    named = [{name: [" ".join(text.split()) for text in texts]} for name, texts in zip("ABC", sets, strict=True)]
    prompt = load_prompt(CHOICE)
    return Ask(prompt, prompt.messages(sets=quote(named, secret), description=quote([description], secret)))


def ask_about_contexts(kind: ContextKind, texts: Sequence[str], description: str, secret: bytes) -> Ask:
    """Return the judge's prompt: texts named t1, t2 …, then the description.

    kind:   detection asks whether the feature fires in a text, fuzzing whether it fires on the tokens marked in it.
    """
    named = [{f"t{i}": " ".join(text.split())} for i, text in enumerate(texts, 1)]
    prompt = load_prompt(CONTEXTS[kind])
    return Ask(prompt, prompt.messages(texts=quote(named, secret), description=quote([description], secret)))


def ask_for_similar(exemplars: Sequence[str], n: int, secret: bytes) -> Ask:
    """Return the prompt for n texts that resemble exemplars, which come with their peaks marked."""
    prompt = load_prompt(SIMILAR)
    return Ask(prompt, prompt.messages(exemplars=quote(exemplars, secret), n=str(n)))
