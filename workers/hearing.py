"""How a description does before the embedding judge, on both sides of its feature."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from schema.records import Description, Status
from workers.court import Case, Court
from workers.embeddings import Vectors, embed
from workers.methods.free_scores import Contexts, evaluate_embedding_auroc, held_out_contexts
from workers.methods.output_evaluation import (
    CHANCE,
    EmbeddedSet,
    Pair,
    TextSet,
    contrast,
    evaluate_output_embedding,
    independent_pairs,
    judge_pairs,
    judge_wrong,
)
from workers.methods.racing import Contestant
from workers.methods.selection import HitHalves
from workers.methods.statistics import Measurement, Vector, unmeasured, wilson

_N_AUROC_CONTROLS = 20


class Judge(NamedTuple):
    """The court, and what is embedded of it."""

    court: Court
    embedded: dict[str, Vectors]

    def vectors(self, texts: Sequence[str]) -> Vectors:
        """Return unit embeddings, remembered within the block."""
        return embed(texts, self.court.context.settings, self.embedded)

    def contrast(self, texts: TextSet) -> Vector:
        """Return what a set's amplified texts have that its suppressed ones have not."""
        return contrast(EmbeddedSet(self.vectors(texts.amplified), self.vectors(texts.suppressed)))


class Heard(NamedTuple):
    """How one description did.

    low: the lower bounds of its lift on choose items, of both sides together; a side that was not tested adds nothing.
    """

    description: Description
    hits: HitHalves | None
    output: Measurement
    auroc: Measurement
    contestant: Contestant | None
    low: float


def hear(judge: Judge, case: Case, contrasts: Mapping[int, Vector], description: Description) -> Heard:
    """Return how a description does; refused with its status where it is none.

    contrasts: of every set of the case, by feature.
    """
    if description.status != Status.OK:
        reason = description.reason or f"the description is {description.status}"
        refusal = unmeasured(description.status, reason)
        return Heard(description, None, refusal, refusal, None, float("-inf"))
    hits, output = _try_texts(judge, case, contrasts, description)
    chosen, auroc = _try_contexts(judge, case.feature, description)
    contestant = Contestant(
        description.id or 0,
        description.text or "",
        input=chosen.estimate.value if chosen and chosen.estimate else None,
        output=sum(hits.choose) / len(hits.choose) if hits and hits.choose else None,
    )
    return Heard(description, hits, output, auroc, contestant, _low(case, hits, chosen))


def _low(case: Case, hits: HitHalves | None, chosen: Measurement | None) -> float:
    by_input = chosen.lift.low if chosen and chosen.lift else 0.0
    if hits is None or not hits.choose:
        return by_input
    share = wilson(sum(hits.choose), len(hits.choose), n_independent=independent_pairs(case.pairs.choose))
    return by_input + share.low - CHANCE


# --------------------------------------------------------------------------------------------------------- output side


def _try_texts(
    judge: Judge, case: Case, contrasts: Mapping[int, Vector], description: Description
) -> tuple[HitHalves | None, Measurement]:
    if case.refusal is not None:
        return None, case.refusal
    (vector,) = judge.vectors([description.text or ""])
    hits = HitHalves(*(judge_pairs(vector, case.feature, half, contrasts) for half in case.pairs))
    wrong, vectors = _wrong(judge, case, description)
    wrong_hits = judge_wrong(vectors, case.feature, wrong, contrasts)
    return hits, evaluate_output_embedding(case.pairs.report, hits.report, wrong, wrong_hits)


def _wrong(judge: Judge, case: Case, description: Description) -> tuple[dict[Pair, int], dict[int, Vectors]]:
    """Return, for each pair, a feature whose description by the same method is wrong here, and their embeddings."""
    texts = judge.court.texts_by(description)
    wrong = judge.court.draw_wrong(case, texts)
    chosen = sorted(set(wrong.values()))
    return wrong, dict(zip(chosen, judge.vectors([texts[i] for i in chosen]), strict=True)) if chosen else {}


# ---------------------------------------------------------------------------------------------------------- input side


def _try_contexts(judge: Judge, feature: int, description: Description) -> tuple[Measurement | None, Measurement]:
    """Return the embedding AUROC on contexts to rank with, where there is a ranking, and on those to report."""
    court = judge.court
    if feature not in court.exemplars:
        return None, unmeasured(Status.FAILED, "its exemplars could not be collected")
    contexts = held_out_contexts(court.exemplars[feature])
    spec = court.block.brief.spec
    if spec.options.survivors is None and "refined" not in spec.methods:
        return None, _rank_contexts(judge, feature, description, contexts)
    choose, report = contexts.halves()
    return _rank_contexts(judge, feature, description, choose), _rank_contexts(judge, feature, description, report)


def _rank_contexts(judge: Judge, feature: int, description: Description, contexts: Contexts) -> Measurement:
    court = judge.court
    near = {feature, *court.neighbours.get(feature, ())}
    others = [text for other, text in court.texts_by(description).items() if other not in near]
    return evaluate_embedding_auroc(
        judge.vectors([description.text or ""])[0],
        judge.vectors(contexts.firing),
        judge.vectors(contexts.silent),
        list(judge.vectors(others[:_N_AUROC_CONTROLS])),
        seed=court.seed,
    )
