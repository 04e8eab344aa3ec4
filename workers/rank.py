"""The embedding judge's room: to which steered texts does a description belong, and which are worth testing further.

It sees every description and every trial, without an LLM. Scores rest on *report* items; the ranking, and later the
choice of a label, on *choose* items.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from schema.records import Description, Score, Status
from schema.store import scores
from workers.court import Case, Court, convene
from workers.embeddings import Vectors, embed
from workers.engine import Context, Outcome
from workers.methods.free_scores import Contexts, evaluate_embedding_auroc, held_out_contexts
from workers.methods.output_evaluation import (
    EmbeddedSet,
    Pair,
    TextSet,
    contrast,
    evaluate_output_embedding,
    judge_pairs,
    judge_wrong,
)
from workers.methods.racing import Contestant, survivors
from workers.methods.selection import HitHalves
from workers.methods.statistics import Measurement, Vector, unmeasured

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
    """How one description did."""

    description: Description
    hits: HitHalves | None
    output: Measurement
    auroc: Measurement
    contestant: Contestant | None


def rank_block(context: Context) -> Outcome:
    """Return the embedding judge's scores of a block's descriptions, and which of them survive."""
    judge = Judge(convene(context), {})
    _embed_ahead(judge)
    context.progress.advance()
    court, spec = judge.court, judge.court.block.brief.spec
    made: list[Score] = []
    left: dict[str, object] = {}
    for feature in court.block.selected:
        case = court.open_case(feature)
        contrasts = {member: judge.contrast(texts) for member, texts in case.sets.items()}
        context.progress.advance()
        heard = [_hear(judge, case, contrasts, description) for description in case.descriptions]
        for one in heard:
            if "output" in spec.evaluations:
                made.append(court.score(case, one.description, "output", one.output))
            if "free" in spec.evaluations:
                made.append(court.score(case, one.description, "embedding_auroc", one.auroc))
        left[str(feature)] = {
            "hits": {str(one.description.id): one.hits for one in heard if one.hits is not None},
            "survivors": survivors([one.contestant for one in heard if one.contestant], spec.options.survivors),
        }
        context.progress.advance(1)
    id_ = court.block.brief.dictionary.id
    return Outcome(lambda connection: scores.put(connection, id_, made), {"features": left})


def _embed_ahead(judge: Judge) -> None:
    """Embed what every case will need in few large requests: descriptions, and steered texts for judges."""
    court = judge.court
    found = [d.text for descriptions in court.found.values() for d in descriptions if d.text]
    steered = [text.text for texts in court.texts.values() for text in texts.score if text.target_kl_nats]
    judge.vectors(list(dict.fromkeys([*found, *steered])))


def _hear(judge: Judge, case: Case, contrasts: Mapping[int, Vector], description: Description) -> Heard:
    if description.status != Status.OK:
        reason = description.reason or f"the description is {description.status}"
        refusal = unmeasured(description.status, reason)
        return Heard(description, None, refusal, refusal, None)
    hits, output = _try_texts(judge, case, contrasts, description)
    chosen, auroc = _try_contexts(judge, case.feature, description)
    contestant = Contestant(
        description.id or 0,
        description.text or "",
        input=chosen.estimate.value if chosen and chosen.estimate else None,
        output=sum(hits.choose) / len(hits.choose) if hits and hits.choose else None,
    )
    return Heard(description, hits, output, auroc, contestant)


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
    if court.block.brief.spec.options.survivors is None:
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
