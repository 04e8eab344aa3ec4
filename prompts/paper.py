"""The paper's prompts in structure, in our words: what its eight methods show an LLM, for a comparison on equal terms.

Source: arXiv 2501.08319 and its authors' notebook; we differ in the wording and the examples, in that texts are quoted
as data, and in that the reply is JSON.
"""

from collections.abc import Mapping
from typing import Any

from prompts.composing import NotApplicable
from prompts.evidence import Evidence
from prompts.loader import Ask, load_prompt
from prompts.quoting import quote
from schema.evidence import Exemplars, TokenChange, VocabularyProjection, Window
from schema.labels import Status
from schema.records import Method

N_EXEMPLARS = 5
N_TOKENS = 50
N_CHANGED = 10
_LARGEST = 10
_PROMPTS: dict[Method, tuple[str, tuple[str, ...]]] = {
    "max_activating": ("describe/paper_max_activating.v1", ("input",)),
    "vocabulary": ("describe/paper_vocabulary.v1", ("vocabulary",)),
    "token_change": ("describe/paper_token_change.v1", ("token_change",)),
    "combined_vm": ("describe/paper_combined.v1", ("input", "vocabulary")),
    "combined_tm": ("describe/paper_combined.v1", ("input", "token_change")),
    "combined_vt": ("describe/paper_vocabulary.v1", ("vocabulary", "token_change")),
    "combined": ("describe/paper_combined.v1", ("input", "vocabulary", "token_change")),
}


def paper_prompt(method: Method) -> tuple[str, tuple[str, ...]] | None:
    """Return the prompt id of one of the paper's methods, and what it shows; None for a method of ours."""
    return _PROMPTS.get(method)


def paper_messages_for(method: Method, evidence: Evidence, secret: bytes) -> Ask | NotApplicable:
    """Return the paper's prompt of a method for one feature, or why there is none.

    A combined method goes on with the kinds of evidence that there are; a method of one kind needs its own.
    """
    if method not in _PROMPTS:
        return NotApplicable(Status.NOT_APPLICABLE, f"the paper has no method {method}")
    id_, kinds = _PROMPTS[method]
    sections = {kind: _section(kind, evidence) for kind in kinds}
    known = {kind: section for kind, section in sections.items() if not isinstance(section, NotApplicable)}
    if not known:
        return next(section for section in sections.values() if isinstance(section, NotApplicable))
    if method == "combined_vt":  # theirs puts both into one list
        lists = [tokens for section in known.values() for (tokens,) in section.values()]
        known = {"vocabulary": {"vocabulary": [[token for tokens in lists for token in tokens]]}}
    values = {name: quote(lines, secret) for section in known.values() for name, lines in section.items()}
    prompt = load_prompt(id_)
    return Ask(prompt, prompt.messages(**values))


Section = Mapping[str, list[Any]]


def _section(kind: str, evidence: Evidence) -> Section | NotApplicable:
    match kind:
        case "input":
            return _input(evidence.exemplars)
        case "vocabulary":
            return _vocabulary(evidence.vocabulary)
        case _:
            return _token_change(evidence.token_change)


def _input(exemplars: Exemplars | None) -> Section | NotApplicable:
    if exemplars is None:
        return NotApplicable(Status.NOT_APPLICABLE, "no exemplars were collected")
    windows = exemplars.describe.top[:N_EXEMPLARS]
    if not windows:
        status = Status.TOO_RARE if exemplars.n_firing else Status.DEAD
        return NotApplicable(status, f"it fires in no context of the describe half ({exemplars.n_tokens} tokens)")
    largest = max(window.maximum for window in windows)
    rows = [_scaled(window, largest) for window in windows]
    return {
        "activations": [_table(row) for row in rows],
        "without_zeros": [_table([(token, value) for token, value in row if value]) for row in rows],
    }


def _scaled(window: Window, largest: float) -> list[tuple[str, int]]:
    """Return (token, activation) with activations as whole numbers from 0 to 10."""
    scale = _LARGEST / largest if largest > 0 else 0.0
    return [
        (token, max(0, round(value * scale))) for token, value in zip(window.tokens, window.activations, strict=True)
    ]


def _table(row: list[tuple[str, int]]) -> str:
    return "\n".join(f"{token}\t{value}" for token, value in row)


def _vocabulary(projection: VocabularyProjection | None) -> Section | NotApplicable:
    if projection is None:
        return NotApplicable(Status.NOT_APPLICABLE, "no vocabulary projection was computed")
    lists = (projection.promoted.tokens[:N_TOKENS], projection.suppressed.tokens[:N_TOKENS])
    return {"vocabulary": [[token for tokens in lists for token in tokens]]}


def _token_change(change: TokenChange | None) -> Section | NotApplicable:
    """Return all that changed as one list: theirs is a set, so neither order nor sign is told."""
    if change is None:
        return NotApplicable(Status.NOT_APPLICABLE, "no token change was measured")
    lists = (
        change.amplified_lowered,
        change.suppressed_raised,
        change.amplified_raised,
        change.suppressed_lowered,
    )
    return {"token_change": [sorted({token for one in lists for token in one.tokens[:N_CHANGED]})]}
