"""The two questions of the evaluations: write sentences from a description; which set of texts belongs to it."""

from collections.abc import Sequence

from prompts.loader import Ask, load_prompt
from prompts.quoting import quote


def ask_for_sentences(description: str, n: int, secret: bytes) -> Ask:
    """Return the writer's prompt: it sees the description and nothing else.

    n:  sentences of each kind, activating and neutral.
    """
    prompt = load_prompt("write/sentences.v1")
    return Ask(prompt, prompt.messages(description=quote([description], secret), n=str(n)))


def ask_for_choice(sets: Sequence[Sequence[str]], description: str, secret: bytes) -> Ask:
    """Return the judge's prompt: three sets of texts, then the description, so that the sets' prefix is reused.

    sets:  three sets in the order A, B, C; whoever asks has shuffled them.
    """
    named = [{name: [" ".join(text.split()) for text in texts]} for name, texts in zip("ABC", sets, strict=True)]
    prompt = load_prompt("judge/output.v2")
    return Ask(prompt, prompt.messages(sets=quote(named, secret), description=quote([description], secret)))
