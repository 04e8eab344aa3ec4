"""The embedding judge's room: to which steered texts does a description belong, and which are worth testing further.

It sees every description and every trial, without an LLM; where the run refines, the describer sees what its best
description fails on. Scores rest on *report* items; the ranking, and later the choice of a label, on *choose* items.
"""

from collections.abc import Mapping
from functools import partial

from prompts.evidence import Evidence
from schema.labels import Score
from schema.profiles import LLMProfile
from schema.store import scores
from workers.calls import together
from workers.court import Case, convene
from workers.describe import read_evidence
from workers.engine import Context, Outcome
from workers.hearing import Heard, Judge, hear
from workers.methods.racing import survivors
from workers.methods.statistics import Vector
from workers.questions import find_llm
from workers.refine import refine


def rank_block(context: Context) -> Outcome:
    """Return the embedding judge's scores of a block's descriptions, and which of them survive."""
    judge = Judge(convene(context), {})
    _embed_ahead(judge)
    context.progress.advance()
    court, spec = judge.court, judge.court.block.brief.spec
    cases = [court.open_case(feature) for feature in court.block.selected]
    llm = find_llm(context, court.block.brief, spec.profiles.describer) if "refined" in spec.methods else None
    known = read_evidence(context, court.block) if llm else {}
    heard = together(lambda case: _hear_all(judge, case, llm, known), cases, llm)
    made: list[Score] = []
    left: dict[str, object] = {}
    for case, of_case in zip(cases, heard, strict=True):
        for one in of_case:
            if "output" in spec.evaluations:
                made.append(court.score(case, one.description, "output", one.output))
            if "free" in spec.evaluations:
                made.append(court.score(case, one.description, "embedding_auroc", one.auroc))
        left[str(case.feature)] = {
            "hits": {str(one.description.id): one.hits for one in of_case if one.hits is not None},
            "survivors": survivors([one.contestant for one in of_case if one.contestant], spec.options.survivors),
            "refined": [one.description.id for one in of_case if one.description.method == "refined"],
        }
    id_ = court.block.brief.dictionary.id
    return Outcome(lambda connection: scores.put(connection, id_, made), {"features": left})


def _hear_all(judge: Judge, case: Case, llm: LLMProfile | None, known: Mapping[int, Evidence]) -> list[Heard]:
    """Return how a case's descriptions did, and last the revision of the best, where one is better."""
    contrasts: Mapping[int, Vector] = {member: judge.contrast(texts) for member, texts in case.sets.items()}
    hear_one = partial(hear, judge, case, contrasts)
    heard = [hear_one(description) for description in case.descriptions]
    revised = refine(judge, llm, known[case.feature], heard, hear_one) if llm and case.feature in known else None
    judge.court.context.progress.advance(1)
    return heard if revised is None else [*heard, revised]


def _embed_ahead(judge: Judge) -> None:
    """Embed what every case will need in few large requests: descriptions, and steered texts for judges."""
    court = judge.court
    found = [d.text for descriptions in court.found.values() for d in descriptions if d.text]
    steered = [text.text for texts in court.texts.values() for text in texts.score if text.target_kl_nats]
    judge.vectors(list(dict.fromkeys([*found, *steered])))
