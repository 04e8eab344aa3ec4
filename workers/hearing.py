"""How a description does before the embedding judge, on both sides of its feature."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from schema.labels import Description, Status
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
    wording,
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


class Said(NamedTuple):
    """Embeddings of a description, own (d,), and of the pool's by the same method, less what all of those say alike."""

    own: Vector
    others: dict[int, Vector]


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
    said = _said(judge, case.feature, description)
    hits, output = _try_texts(judge, case, contrasts, said)
    chosen, auroc = _try_contexts(judge, case.feature, said)
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


def _said(judge: Judge, feature: int, description: Description) -> Said:
    by_method = judge.court.texts_by(description)
    texts = {other: text for other, text in judge.court.wrong_texts(description).items() if other != feature}
    own, *others = judge.vectors([description.text or "", *texts.values()])
    alike = wording([vector for other, vector in zip(texts, others, strict=True) if other in by_method])
    return Said(own - alike, {other: vector - alike for other, vector in zip(texts, others, strict=True)})


# --------------------------------------------------------------------------------------------------------- output side


def _try_texts(
    judge: Judge, case: Case, contrasts: Mapping[int, Vector], said: Said
) -> tuple[HitHalves | None, Measurement]:
    if case.refusal is not None:
        return None, case.refusal
    hits = HitHalves(*(judge_pairs(said.own, case.feature, half, contrasts) for half in case.pairs))
    wrong: dict[Pair, int] = judge.court.draw_wrong(case, said.others)
    wrong_hits = judge_wrong(said.others, case.feature, wrong, contrasts)
    return hits, evaluate_output_embedding(case.pairs.report, hits.report, wrong, wrong_hits)


# ---------------------------------------------------------------------------------------------------------- input side


def _try_contexts(judge: Judge, feature: int, said: Said) -> tuple[Measurement | None, Measurement]:
    """Return the embedding AUROC on contexts to rank with, where there is a ranking, and on those to report."""
    court = judge.court
    if feature not in court.exemplars:
        return None, unmeasured(Status.FAILED, "its exemplars could not be collected")
    contexts = held_out_contexts(court.exemplars[feature])
    spec = court.block.brief.spec
    if spec.options.survivors is None and "refined" not in spec.methods:
        return None, _rank_contexts(judge, feature, said, contexts)
    choose, report = contexts.halves()
    return _rank_contexts(judge, feature, said, choose), _rank_contexts(judge, feature, said, report)


def _rank_contexts(judge: Judge, feature: int, said: Said, contexts: Contexts) -> Measurement:
    near = judge.court.neighbours.get(feature, ())
    others = [vector for other, vector in said.others.items() if other not in near]
    return evaluate_embedding_auroc(
        said.own,
        judge.vectors(contexts.firing),
        judge.vectors(contexts.silent),
        others[:_N_AUROC_CONTROLS],
        seed=judge.court.seed,
    )
