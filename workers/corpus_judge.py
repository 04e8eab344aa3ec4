"""The LLM judge on contexts of the corpus: detection and fuzzing of the descriptions of one feature."""

from collections.abc import Callable, Iterator, Sequence

from prompts.evaluation import ContextKind, ask_about_contexts
from schema.records import Description, Score, Status
from workers.cache import StoredCompletions
from workers.court import Case, Court
from workers.llm import LLMProfile, complete
from workers.methods.corpus_evaluation import Item, detection_items, evaluate_answers, fuzzing_items
from workers.methods.statistics import Measurement, unmeasured
from workers.parse import contexts_reply

ITEMS_PER_CALL = 10
_TOKENS_PER_ANSWER = 10
TEMPERATURE = 0.0

_DRAWN: dict[ContextKind, Callable[..., tuple[Item, ...] | Measurement]] = {
    "detection": detection_items,
    "fuzzing": fuzzing_items,
}


def judge_contexts(court: Court, llm: LLMProfile, case: Case, judged: Sequence[Description]) -> Iterator[Score]:
    """Yield the detection and fuzzing scores of some descriptions, as far as the run asks for them."""
    spec = court.block.brief.spec
    for kind in (kind for kind in _DRAWN if kind in spec.evaluations):
        items = _items(court, case.feature, kind)
        # Item by item for all descriptions: the contexts stand first in the prompt, and the endpoint has them cached.
        for description in judged:
            measured = items if isinstance(items, Measurement) else _measure(court, llm, kind, items, description)
            yield court.score(case, description, kind, measured)


def _items(court: Court, feature: int, kind: ContextKind) -> tuple[Item, ...] | Measurement:
    exemplars = court.exemplars.get(feature)
    if exemplars is None:
        return unmeasured(Status.FAILED, "its exemplars could not be collected")
    n = court.block.brief.spec.options.n_contexts
    return _DRAWN[kind](exemplars, n, seed=court.seed, feature=feature)


def _measure(
    court: Court, llm: LLMProfile, kind: ContextKind, items: Sequence[Item], description: Description
) -> Measurement:
    answers: list[bool | Status] = []
    for start in range(0, len(items), ITEMS_PER_CALL):
        answers += _ask(court, llm, kind, items[start : start + ITEMS_PER_CALL], description.text or "")
    return evaluate_answers(items, answers)


def _ask(court: Court, llm: LLMProfile, kind: ContextKind, items: Sequence[Item], text: str) -> list[bool | Status]:
    secret = court.context.settings.secret.get_secret_value().encode()
    completion = complete(
        llm,
        ask_about_contexts(kind, [item.text for item in items], text, secret).messages,
        contexts_reply(len(items)),
        max_tokens=_TOKENS_PER_ANSWER * len(items) + 20,
        temperature=TEMPERATURE,
        seed=court.seed,
        purpose=f"judge {kind}",
        cache=StoredCompletions(court.context, court.block.brief.tenant_id),
        on_attempt=court.context.progress.advance,
    )
    return list(completion.value.answers) if completion.value else [completion.status] * len(items)
