"""Contexts by number, and exemplars whose windows refer to them: the form in which exemplars are stored.

The same contexts are exemplars of many features. What is stored of a feature says where its windows lie and how
strongly it fires there; the tokens of a context are stored once (`store/contexts.py`). It does not know tokenizers:
tokens are texts here, as in `Window`.
"""

from collections.abc import Mapping

from pydantic import Field

from schema.errors import BadCorpus, GlossariumError
from schema.evidence import Exemplars, Firing, Lists, SplitExemplars, Window
from schema.records import Record

Texts = Mapping[int, tuple[str, ...]]
"""The tokens of contexts, by the contexts' numbers."""

_OFFSET_BITS = 32


def context_number(document: int, offset: int) -> int:
    """Return the number of the context that begins at a token offset of a document; below 2^63.

    Raises: BadCorpus from 2^31 documents or 2^32 tokens in one document on
    """
    if not (0 <= document < 2**31 and 0 <= offset < 2**_OFFSET_BITS):
        raise BadCorpus(f"document {document}, token {offset}: at most 2^31 documents of 2^32 tokens each are numbered")
    return document << _OFFSET_BITS | offset


def document_of(number: int) -> int:
    """Return the document of the context with this number."""
    return number >> _OFFSET_BITS


class Reference(Record):
    """A window by where it lies."""

    context: int
    position: int = Field(description="of the peak in the context")
    activations: tuple[float, ...] = Field(
        description="as wide as a window that no end of its context cuts, 0 beyond the ends; empty where all are 0"
    )


class SplitReferences(Lists[Reference]):
    """The contexts of one half of the corpus."""


class References(Firing):
    """Exemplars without their tokens. A window reaches from `before` tokens before its peak to `after` behind it."""

    before: int
    after: int
    describe: SplitReferences
    score: SplitReferences

    @property
    def contexts(self) -> frozenset[int]:
        """Return the numbers of the contexts that its windows lie in."""
        return frozenset(one.context for half in (self.describe, self.score) for _, some in half for one in some)


def unfold(folded: References, texts: Texts) -> Exemplars:
    """Return the exemplars as describers, judges and people see them. Raises GlossariumError if a context is absent."""
    halves = {
        name: SplitExemplars(**{kind: tuple(_window(folded, one, texts) for one in some) for kind, some in half})
        for name, half in (("describe", folded.describe), ("score", folded.score))
    }
    return Exemplars(**{name: getattr(folded, name) for name in Firing.model_fields}, **halves)


def _window(folded: References, reference: Reference, texts: Texts) -> Window:
    """Return a window, cut at the ends of its context."""
    context, position, activations = reference.context, reference.position, reference.activations
    if context not in texts:
        raise GlossariumError(f"context {context} is not stored, but exemplars refer to it")
    start = position - folded.before
    low, high = max(0, start), min(len(texts[context]), position + folded.after + 1)
    return Window(
        document=document_of(context),
        position=position,
        peak=position - low,
        tokens=texts[context][low:high],
        activations=activations[low - start : high - start] or (0.0,) * (high - low),
    )
