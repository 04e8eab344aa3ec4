"""Which kinds of evidence a run makes."""

import pytest

from schema.evidence import EvidenceKind
from schema.needs import SHOWN, kinds_made
from schema.records import Evaluation, Method, RunTerms

ALWAYS: frozenset[EvidenceKind] = frozenset({"exemplars", "vocabulary"})
ALL: frozenset[EvidenceKind] = ALWAYS | {"calibration", "token_change", "steered_texts"}


def made(methods: tuple[Method, ...], evaluations: tuple[Evaluation, ...], llm: str = "default") -> set[EvidenceKind]:
    return set(kinds_made(RunTerms(methods=methods, evaluations=evaluations, llm=llm)))


def test_by_default_all_kinds_are_made_with_an_llm_and_without() -> None:
    assert kinds_made(RunTerms()) == ALL
    assert kinds_made(RunTerms(llm="none")) == ALL


@pytest.mark.parametrize("evaluations", [("free",), ("input", "free"), ("detection", "fuzzing", "sensitivity"), ()])
def test_nothing_is_steered_where_no_judge_reads_texts_and_no_describer_is_shown_any(
    evaluations: tuple[Evaluation, ...],
) -> None:
    assert made(("lexical", "max_activating", "combined_vm"), evaluations) == ALWAYS
    assert made(("lexical", "combined", "steered_texts", "refined"), evaluations, llm="none") == ALWAYS


@pytest.mark.parametrize("evaluation", ["output", "output_llm"])
def test_judges_of_texts_have_texts_and_strengths(evaluation: Evaluation) -> None:
    assert made(("max_activating",), (evaluation,)) == ALL - {"token_change"}
    assert made(("lexical",), (evaluation,), llm="none") == ALL


@pytest.mark.parametrize("method", SHOWN)
def test_a_describer_has_what_it_is_shown_and_the_strengths_of_it(method: Method) -> None:
    kinds = made((method,), ("input",))
    assert kinds >= set(SHOWN[method])
    assert ("calibration" in kinds) == bool(kinds & {"token_change", "steered_texts"})
    assert kinds <= ALWAYS | set(SHOWN[method]) | {"calibration"}


def test_a_revision_is_shown_everything() -> None:
    assert made(("max_activating", "refined"), ("input",)) == ALL


def test_another_writer_or_judge_needs_nothing_more() -> None:
    terms = RunTerms(llm="none", writer="default", judge="default", evaluations=("input", "free"))
    assert kinds_made(terms) == ALWAYS
