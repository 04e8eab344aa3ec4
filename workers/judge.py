"""The LLM judge's room: to which steered texts does a description belong, and which description becomes the label.

The choice is made here, on *choose* items, with what the label is reported with; the LLM judge takes no part in it.
The next stage publishes it.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from prompts.evaluation import ask_for_choice
from schema.labels import Description, Score, Status
from schema.profiles import LLMProfile
from schema.stages import Stage
from schema.store import jobs, run_features, scores
from workers.calls import together
from workers.corpus_judge import judge_contexts
from workers.court import Case, Court, convene
from workers.desk import Block, Ranking, ranked, survives
from workers.engine import Context, Outcome
from workers.methods.input_evaluation import SentenceActivations, SentenceHalves, evaluate_input, halve_sentences
from workers.methods.llm_judge import (
    JudgeTrial,
    Verdict,
    control_features,
    control_share,
    control_trials,
    evaluate_output_llm,
    judge_trials,
    verdict,
)
from workers.methods.output_evaluation import Pair
from workers.methods.selection import Candidate, choose
from workers.methods.statistics import Measurement, stream, unmeasured
from workers.parse import JudgeReply, shortened
from workers.questions import Question, find_llm, pose

TEMPERATURE = 0.0
MAX_TOKENS = 100
_FEW = 200  # runs up to this size draw their LLM controls exactly; larger ones take each feature with chance 1/10


class Bench(NamedTuple):
    """What judging a block needs beside the court itself.

    activations:  what `activate` left, by feature.
    rankings:     what `rank` left, by feature.
    outputs:      the embedding judge's scores, by description.
    controls:     features whose LLM trials are repeated with a wrong description.
    """

    court: Court
    llm: LLMProfile | None
    activations: Mapping[str, Any]
    rankings: Mapping[int, Ranking]
    outputs: Mapping[int | None, Score]
    controls: frozenset[int]


class Ruled(NamedTuple):
    """A case with the description that becomes the label, if any does, and the ruling as JSON."""

    case: Case
    winner: Description | None
    ruling: dict[str, object]


def judge_block(context: Context) -> Outcome:
    """Return the LLM judge's scores of a block, and the choice of each feature's label."""
    bench = _read(context)
    court = bench.court
    context.progress.advance()
    ruled = [_rule(bench, court.open_case(feature)) for feature in court.block.selected]
    heard = together(lambda one: list(_llm_scores(bench, one.case, one.winner)), ruled, bench.llm)
    context.progress.advance(len(ruled))
    made = [score for of_one in heard for score in of_one]
    id_ = court.block.brief.dictionary.id
    choices = {str(one.case.feature): one.ruling for one in ruled}
    return Outcome(lambda connection: scores.put(connection, id_, made), {"choices": choices})


def _read(context: Context) -> Bench:
    court = convene(context)
    block = court.block
    with context.transaction() as connection:
        activations = jobs.left(connection, context.job.run_id, Stage.ACTIVATE, context.job.block, "features")
        selected = run_features.selected(connection, context.job.run_id, _FEW + 1)
        known = scores.load(connection, block.brief.dictionary.id, court.recipe, block.selected)
    return Bench(
        court=court,
        llm=find_llm(context, block.brief, block.brief.spec.profiles.judge),
        activations=activations,
        rankings=ranked(context),
        outputs={score.description_id: score for score in known if score.kind == "output"},
        controls=_llm_controls(block, selected),
    )


def _llm_controls(block: Block, selected: Sequence[int]) -> frozenset[int]:
    """Return the features of the block whose LLM trials are repeated with a wrong description."""
    seed, n_trials = block.brief.spec.seed, block.brief.spec.options.judge_trials
    if len(selected) <= _FEW:
        return control_features(seed, selected, n_trials)
    chance = 0.1 * control_share(n_trials)
    return frozenset(f for f in block.selected if stream(seed, "llm_control_of", f).random() < chance)


# ----------------------------------------------------------------------------------------------------------- the label


def _candidate(bench: Bench, feature: int, description: Description) -> Candidate:
    activated = bench.activations.get(str(feature), {})
    own = activated.get("own", {}).get(str(description.id))
    ranking = bench.rankings.get(feature)
    eliminated = description.status == Status.OK and not survives(ranking, description)
    return Candidate(
        text=description.text,
        status=Status.ELIMINATED if eliminated else description.status,
        sentences=_halves(bench, feature, own) if own else None,
        controls=tuple(_halves(bench, feature, sides) for sides in activated.get("others", ())),
        hits=ranking.hits.get(description.id or 0) if ranking else None,
    )


def _halves(bench: Bench, feature: int, sides: Sequence[Sequence[float]]) -> SentenceHalves:
    activations = SentenceActivations(*(np.array(side) for side in sides))
    return halve_sentences(activations, seed=bench.court.seed, feature=feature)


def _rule(bench: Bench, case: Case) -> Ruled:
    """Return the choice, and the winner's scores on items that took no part in it."""
    candidates = [_candidate(bench, case.feature, description) for description in case.descriptions]
    choice = choose(candidates, seed=bench.court.seed)

    def text(index: int | None) -> str | None:
        return None if index is None else candidates[index].text

    ruling: dict[str, object] = {
        "status": choice.status,
        "best_input": text(choice.best_input),
        "best_output": text(choice.best_output),
        "standings": [
            standing._asdict() | {"candidate": _name(case.descriptions[standing.candidate])}
            for standing in choice.standings
        ],
    }
    if choice.winner is None:
        return Ruled(case, None, ruling)
    winner, candidate = case.descriptions[choice.winner], candidates[choice.winner]
    reported = bench.court.score(case, winner, "input", _report_input(bench, case.feature, candidate))
    output = bench.outputs.get(winner.id)
    scored = {
        "winner": winner.id,
        "input": reported.model_dump(mode="json"),
        "output": output.model_dump(mode="json") if output else None,
    }
    return Ruled(case, winner, ruling | scored)


def _name(description: Description) -> str:
    """Return what a description is called among the standings: its method, and where an imported one is from."""
    origin = description.parameters.get("origin")
    return description.method if origin is None else f"{description.method} ({origin})"


def _report_input(bench: Bench, feature: int, candidate: Candidate) -> Measurement:
    if candidate.sentences is None:
        return unmeasured(Status.NOT_APPLICABLE, "no sentences were written from it")
    known = bench.court.exemplars.get(feature)
    controls = [halves.report for halves in candidate.controls]
    threshold = known.threshold if known else 0.0
    return evaluate_input(candidate.sentences.report, controls, threshold=threshold, seed=bench.court.seed)


# ----------------------------------------------------------------------------------------------------------- LLM judge


def _llm_scores(bench: Bench, case: Case, winner: Description | None) -> Iterator[Score]:
    """Yield the LLM judge's scores of the descriptions that it is to see; the winner's come with a control."""
    if bench.llm is None:
        return
    judged = [d for d in case.descriptions if d.status == Status.OK and _is_judged(bench, case, d, winner)]
    if "output_llm" in bench.court.block.brief.spec.evaluations and case.refusal is None:
        yield from _judge_texts(bench, bench.llm, case, judged, winner)
    yield from judge_contexts(bench.court, bench.llm, case, judged)


def _judge_texts(
    bench: Bench, llm: LLMProfile, case: Case, judged: Sequence[Description], winner: Description | None
) -> Iterator[Score]:
    court = bench.court
    n_trials = court.block.brief.spec.options.judge_trials
    wrong = _wrong_texts(court, case, winner) if winner is not None and case.feature in bench.controls else {}
    n_asked = control_trials(n_trials) if wrong else n_trials
    trials = judge_trials(court.seed, case.feature, n_asked, case.pairs.report, case.sets)
    verdicts: dict[int, list[Verdict]] = {description.id or 0: [] for description in judged}
    control: list[Verdict] = []
    for i, (trial, pair) in enumerate(zip(trials, case.pairs.report, strict=False)):
        # One trial after another: the three sets stand first in the prompt, and the endpoint has them cached.
        for description in judged if i < n_trials else ():
            verdicts[description.id or 0].append(_ask(court, llm, trial, case.feature, description.text or ""))
        if pair in wrong:
            control.append(_ask(court, llm, trial, case.feature, wrong[pair]))
    for description in judged:
        measured = evaluate_output_llm(verdicts[description.id or 0], control if description == winner else ())
        yield court.score(case, description, "output_llm", measured)


def _is_judged(bench: Bench, case: Case, description: Description, winner: Description | None) -> bool:
    every = bench.court.block.brief.spec.options.judged == "every"
    return description == winner or (every and survives(bench.rankings.get(case.feature), description))


def _wrong_texts(court: Court, case: Case, description: Description) -> dict[Pair, str]:
    """Return, for the reported pairs that have one, a description by the same method of a feature it is wrong for."""
    texts = court.wrong_texts(description)
    return {pair: texts[feature] for pair, feature in court.draw_wrong(case, texts).items()}


def _ask(court: Court, llm: LLMProfile, trial: JudgeTrial, feature: int, text: str) -> Verdict:
    shown = [texts.amplified or texts.suppressed for texts in trial.sets]
    question = Question(
        ask_for_choice(shown, text, court.context.secret).messages,
        shortened(JudgeReply, court.block.brief.spec.options.reply_length),
        max_tokens=MAX_TOKENS,
        purpose="judge",
        feature=feature,
        temperature=TEMPERATURE,
    )
    completion = pose(court.context, court.block.brief, llm, question)
    return verdict(trial, completion.value.choice) if completion.value else completion.status
