"""The LLM judge on contexts of the corpus: detection and fuzzing of the descriptions of one feature."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from prompts.evaluation import CONTEXTS_PER_CALL, ContextKind, ask_about_contexts
from schema.labels import Description, Score, Status
from schema.profiles import LLMProfile
from workers.court import Case, Court
from workers.methods.corpus_evaluation import Item, detection_items, evaluate_answers, fuzzing_items
from workers.methods.statistics import Measurement, unmeasured
from workers.parse import contexts_reply
from workers.questions import Question, pose

_TOKENS_PER_ANSWER = 10
TEMPERATURE = 0.0

_DRAWN: dict[ContextKind, Callable[..., tuple[Item, ...] | Measurement]] = {
    "detection": detection_items,
    "fuzzing": fuzzing_items,
}


class _Asking(NamedTuple):
    """Who is asked what, by whom."""

    court: Court
    llm: LLMProfile
    kind: ContextKind


def judge_contexts(court: Court, llm: LLMProfile, case: Case, judged: Sequence[Description]) -> Iterator[Score]:
    """Yield the detection and fuzzing scores of some descriptions, as far as the run asks for them."""
    for kind in (kind for kind in _DRAWN if kind in court.block.brief.spec.evaluations):
        asking, items = _Asking(court, llm, kind), _items(court, case.feature, kind)
        for description in judged:
            measured = items if isinstance(items, Measurement) else _measure(asking, items, description)
            yield court.score(case, description, kind, measured)


def _items(court: Court, feature: int, kind: ContextKind) -> tuple[Item, ...] | Measurement:
    exemplars = court.exemplars.get(feature)
    if exemplars is None:
        return unmeasured(Status.FAILED, "its exemplars could not be collected")
    n = court.block.brief.spec.options.n_contexts
    return _DRAWN[kind](exemplars, n, seed=court.seed, feature=feature)


def _measure(asking: _Asking, items: Sequence[Item], description: Description) -> Measurement:
    answers: list[bool | Status] = []
    for start in range(0, len(items), CONTEXTS_PER_CALL):
        answers += _ask(asking, items[start : start + CONTEXTS_PER_CALL], description)
    return evaluate_answers(items, answers)


def _ask(asking: _Asking, items: Sequence[Item], description: Description) -> list[bool | Status]:
    context, brief = asking.court.context, asking.court.block.brief
    texts = [item.text for item in items]
    question = Question(
        ask_about_contexts(asking.kind, texts, description.text or "", context.secret).messages,
        contexts_reply(len(items)),
        max_tokens=_TOKENS_PER_ANSWER * len(items) + 20,
        purpose=f"judge {asking.kind}",
        feature=description.feature,
        temperature=TEMPERATURE,
    )
    completion = pose(context, brief, asking.llm, question)
    return list(completion.value.answers) if completion.value else [completion.status] * len(items)
