"""Which kinds of evidence a run makes: those that its methods show an LLM, and those that its evaluations read."""

from collections.abc import Mapping

from schema.evidence import EvidenceKind
from schema.profiles import NONE
from schema.records import Evaluation, Method, RunTerms

SHOWN: Mapping[Method, tuple[EvidenceKind, ...]] = {
    "max_activating": ("exemplars",),
    "vocabulary": ("vocabulary",),
    "token_change": ("token_change",),
    "steered_texts": ("steered_texts",),
    "combined_vm": ("exemplars", "vocabulary"),
    "combined_tm": ("exemplars", "token_change"),
    "combined_vt": ("vocabulary", "token_change"),
    "combined": ("exemplars", "vocabulary", "token_change"),
}
"""Kinds of evidence of each method that asks an LLM."""

_JUDGING_TEXTS: frozenset[Evaluation] = frozenset({"output", "output_llm"})


def kinds_made(terms: RunTerms) -> frozenset[EvidenceKind]:
    """Return the kinds of evidence that a run of these terms makes of its features.

    Always exemplars and the vocabulary projection, which cost one pass over the corpus and one product. What needs
    steered forwards (calibration, token change, steered texts) only where a describer is shown it or a judge reads it;
    a lexical description has token change where texts are steered anyway.
    """
    asked = frozenset[Method]() if terms.profiles.describer == NONE else frozenset(terms.methods)
    made: set[EvidenceKind] = {"exemplars", "vocabulary", *(kind for method in asked for kind in SHOWN.get(method, ()))}
    if "refined" in asked:
        made |= {"token_change", "steered_texts"}
    if _JUDGING_TEXTS & set(terms.evaluations):
        made |= {"steered_texts", "token_change"} if "lexical" in terms.methods else {"steered_texts"}
    if {"token_change", "steered_texts"} & made:
        made.add("calibration")
    return frozenset(made)
