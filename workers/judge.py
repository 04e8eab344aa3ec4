"""The judge's room: to which steered texts does a description belong, and which description becomes the label.

The embedding judge sees every description and every trial; the LLM judge only ever reports. The choice is made here, on
*choose* items, with what the label is reported with; the next stage publishes it.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from prompts.evaluation import ask_for_choice
from schema.records import Calibration, Description, Exemplars, Score, Status, SteeredTexts, VocabularyProjection
from schema.stages import Stage
from schema.store import evidence, jobs, run_features, scores
from workers import recipes
from workers.cache import StoredCompletions
from workers.desk import Block, read_block
from workers.embeddings import Vectors, embed
from workers.engine import Context, Outcome
from workers.llm import LLMProfile, complete, profile
from workers.methods.free_scores import evaluate_embedding_auroc, held_out_contexts
from workers.methods.input_evaluation import SentenceActivations, SentenceHalves, evaluate_input, halve_sentences
from workers.methods.output_evaluation import (
    EmbeddedSet,
    JudgeTrial,
    Pair,
    PairHalves,
    Pool,
    TextSet,
    Verdict,
    contrast,
    control_features,
    draw_pairs,
    draw_wrong,
    eligible_distractors,
    evaluate_output_embedding,
    evaluate_output_llm,
    judge_pairs,
    judge_trials,
    judge_wrong,
    reached_targets,
    text_set,
    verdict,
)
from workers.methods.selection import Candidate, Choice, HitHalves, choose
from workers.methods.statistics import Measurement, Vector, stream, unmeasured
from workers.parse import JudgeReply
from workers.score_recipe import score_recipe
from workers.write import described

TEMPERATURE = 0.0
MAX_TOKENS = 100
_FEW = 200  # runs up to this size draw their LLM controls exactly; larger ones take each feature with chance 1/10
_N_AUROC_CONTROLS = 20


class Court(NamedTuple):
    """What judging a block needs, read once."""

    context: Context
    block: Block
    llm: LLMProfile | None
    recipe: str
    found: Mapping[int, list[Description]]
    exemplars: Mapping[int, Exemplars]
    neighbours: Mapping[int, tuple[int, ...]]
    calibration: Mapping[int, Calibration]
    texts: Mapping[int, SteeredTexts]
    cosines: Mapping[int, Vector]
    activations: Mapping[str, Any]
    controls: frozenset[int]
    embedded: dict[str, Vectors]

    @property
    def seed(self) -> int:
        """Return the run's seed."""
        return self.block.brief.spec.seed

    def vectors(self, texts: Sequence[str]) -> Vectors:
        """Return unit embeddings, remembered within the block."""
        return embed(texts, self.context.settings, self.embedded)


class Case(NamedTuple):
    """One feature before the court: its pairs of distractors, the sets of texts, or why there are none."""

    feature: int
    descriptions: Sequence[Description]
    pairs: PairHalves
    sets: Mapping[int, TextSet]
    contrasts: Mapping[int, Vector]
    refusal: Measurement | None


class Heard(NamedTuple):
    """What the embedding judge said of one description."""

    description: Description
    hits: HitHalves | None
    output: Measurement


def judge_block(context: Context) -> Outcome:
    """Return the output scores of a block's descriptions, and the choice of each feature's label."""
    court = _convene(context)
    _embed_ahead(court)
    context.progress.advance()
    made: list[Score] = []
    choices: dict[str, object] = {}
    for feature in court.block.selected:
        case = _open_case(court, feature)
        heard = [_hear(court, case, description) for description in case.descriptions]
        context.progress.advance()
        made += _embedding_scores(court, case, heard)
        candidates = [_candidate(court, feature, one) for one in heard]
        choice = choose(candidates, seed=court.seed)
        made += _llm_scores(court, case, choice)
        choices[str(feature)] = _ruling(court, feature, heard, candidates, choice)
        context.progress.advance(1)
    id_ = court.block.brief.dictionary.id
    return Outcome(lambda connection: scores.put(connection, id_, made), {"choices": choices})


# ------------------------------------------------------------------------------------------------------------- reading


def _convene(context: Context) -> Court:
    block = read_block(context)
    brief, id_ = block.brief, block.brief.dictionary.id
    everyone = sorted({*block.selected, *block.pooled})

    def recipe(kind: Any) -> str:
        return recipes.evidence(kind, brief, block.corpus)

    with context.transaction() as connection:
        pool_blocks = jobs.blocks_of(connection, brief.run_id, Stage.STEERING, 0, len(block.pool))
        numbers = sorted({*pool_blocks, context.job.block})
        steered = jobs.results(connection, brief.run_id, Stage.STEERING, numbers)
        (activated,) = jobs.results(connection, brief.run_id, Stage.ACTIVATE, [context.job.block])
        exemplars = evidence.load(connection, id_, Exemplars, recipe("exemplars"), block.selected)
        projections = evidence.load(connection, id_, VocabularyProjection, recipe("vocabulary"), block.selected)
        calibration = evidence.load(connection, id_, Calibration, recipe("calibration"), everyone)
        texts = evidence.load(connection, id_, SteeredTexts, recipe("steered_texts"), everyone)
        selected = run_features.selected(connection, brief.run_id, _FEW + 1)
    return Court(
        context=context,
        block=block,
        llm=profile(brief.spec.llm, context.settings),
        recipe=score_recipe(block),
        found=described(context, block, numbers),
        exemplars=exemplars,
        neighbours={feature: projection.neighbours for feature, projection in projections.items()},
        calibration=calibration,
        texts=texts,
        cosines={int(f): np.array(row) for job in steered if job.result for f, row in job.result["cosines"].items()},
        activations=(activated.result or {}).get("features", {}),
        controls=_llm_controls(block, selected),
        embedded={},
    )


def _embed_ahead(court: Court) -> None:
    """Embed what every case will need in few large requests: descriptions, and steered texts for judges."""
    found = [d.text for descriptions in court.found.values() for d in descriptions if d.text]
    steered = [text.text for texts in court.texts.values() for text in texts.score if text.target_kl_nats]
    court.vectors(list(dict.fromkeys([*found, *steered])))


def _llm_controls(block: Block, selected: Sequence[int]) -> frozenset[int]:
    """Return the features of the block whose LLM trials are repeated with a wrong description."""
    seed = block.brief.spec.seed
    if len(selected) <= _FEW:
        return control_features(seed, selected)
    return frozenset(f for f in block.selected if stream(seed, "llm_control_of", f).random() < 0.1)


def _open_case(court: Court, feature: int) -> Case:
    descriptions = court.found.get(feature, [])

    def without(status: Status, reason: str) -> Case:
        return Case(feature, descriptions, PairHalves((), ()), {}, {}, unmeasured(status, reason))

    if feature not in court.texts or feature not in court.calibration or feature not in court.cosines:
        return without(Status.FAILED, "its steered texts could not be made")
    wanted = court.block.brief.spec.options.judge_targets
    targets = reached_targets(court.calibration[feature], wanted)
    if not targets:
        return without(Status.UNREACHABLE, f"no strength reaches a KL of {wanted} nats")
    pool = _pool(court)
    places = [court.block.pooled.index(member) for member in pool.features]
    eligible = eligible_distractors(feature, court.cosines[feature][places], targets, pool)
    pairs = draw_pairs(court.seed, feature, eligible, pool, n=court.block.brief.spec.options.embedding_pairs)
    if not pairs.report:
        return without(Status.NOT_APPLICABLE, f"{len(eligible)} features of the pool fit as distractors; needs 2")
    members = {feature, *(i for half in pairs for pair in half for i in pair)}
    sets = {member: text_set(court.texts[member].score, targets) for member in sorted(members)}
    contrasts = {member: _contrast(court, texts) for member, texts in sets.items()}
    return Case(feature, descriptions, pairs, sets, contrasts, None)


def _pool(court: Court) -> Pool:
    """Return those features of the pool that have steered texts."""
    pooled = court.block.pooled
    members = [f for f in pooled if f in court.texts and f in court.calibration and f in court.cosines]
    places = [pooled.index(member) for member in members]
    cosines = np.array([court.cosines[member][places] for member in members]).reshape(len(members), len(members))
    reached = [
        frozenset(t.target_kl_nats for t in court.calibration[member].targets if t.reached) for member in members
    ]
    return Pool(tuple(members), cosines, tuple(reached))


def _contrast(court: Court, texts: TextSet) -> Vector:
    return contrast(EmbeddedSet(court.vectors(texts.amplified), court.vectors(texts.suppressed)))


# ----------------------------------------------------------------------------------------------------- embedding judge


def _hear(court: Court, case: Case, description: Description) -> Heard:
    if description.status != Status.OK:
        reason = description.reason or f"the description is {description.status}"
        return Heard(description, None, unmeasured(description.status, reason))
    if case.refusal is not None:
        return Heard(description, None, case.refusal)
    (vector,) = court.vectors([description.text or ""])
    hits = HitHalves(*(judge_pairs(vector, case.feature, half, case.contrasts) for half in case.pairs))
    wrong, vectors = _wrong(court, case, description, case.pairs.report)
    wrong_hits = judge_wrong(vectors, case.feature, wrong, case.contrasts)
    return Heard(description, hits, evaluate_output_embedding(case.pairs.report, hits.report, wrong, wrong_hits))


def _wrong(
    court: Court, case: Case, description: Description, pairs: Sequence[Pair]
) -> tuple[dict[Pair, int], dict[int, Vectors]]:
    """Return, for each pair, a feature whose description by the same method is wrong here, and their embeddings."""
    texts = _texts_by(court, description)
    wrong = draw_wrong(court.seed, case.feature, pairs, list(texts), court.neighbours.get(case.feature, ()))
    chosen = sorted(set(wrong.values()))
    return wrong, dict(zip(chosen, court.vectors([texts[i] for i in chosen]), strict=True)) if chosen else {}


def _texts_by(court: Court, description: Description) -> dict[int, str]:
    """Return what the pool's features are described as by the method of a description."""
    return {
        feature: other.text
        for feature in court.block.pooled
        for other in court.found.get(feature, [])
        if other.method == description.method and other.status == Status.OK and other.text
    }


def _embedding_scores(court: Court, case: Case, heard: Sequence[Heard]) -> Iterator[Score]:
    evaluations = court.block.brief.spec.evaluations
    for description, _, output in heard:
        marks = {"description_id": description.id, "method": description.method}
        if "output" in evaluations:
            yield output.score(case.feature, "output", court.recipe, **marks)  # type: ignore[arg-type]
        if "free" in evaluations:
            ranked = _rank_contexts(court, case.feature, description)
            yield ranked.score(case.feature, "embedding_auroc", court.recipe, **marks)  # type: ignore[arg-type]


def _rank_contexts(court: Court, feature: int, description: Description) -> Measurement:
    if description.status != Status.OK or feature not in court.exemplars:
        return unmeasured(description.status, description.reason or f"the description is {description.status}")
    contexts = held_out_contexts(court.exemplars[feature])
    near = {feature, *court.neighbours.get(feature, ())}
    others = [text for other, text in _texts_by(court, description).items() if other not in near]
    return evaluate_embedding_auroc(
        court.vectors([description.text or ""])[0],
        court.vectors(contexts.firing),
        court.vectors(contexts.silent),
        list(court.vectors(others[:_N_AUROC_CONTROLS])),
        seed=court.seed,
    )


# ----------------------------------------------------------------------------------------------------------- the label


def _candidate(court: Court, feature: int, heard: Heard) -> Candidate:
    description = heard.description
    activated = court.activations.get(str(feature), {})
    own = activated.get("own", {}).get(str(description.id))
    return Candidate(
        text=description.text,
        status=description.status,
        sentences=_halves(court, feature, own) if own else None,
        controls=tuple(_halves(court, feature, sides) for sides in activated.get("others", ())),
        hits=heard.hits,
    )


def _halves(court: Court, feature: int, sides: Sequence[Sequence[float]]) -> SentenceHalves:
    activations = SentenceActivations(*(np.array(side) for side in sides))
    return halve_sentences(activations, seed=court.seed, feature=feature)


def _ruling(
    court: Court, feature: int, heard: Sequence[Heard], candidates: Sequence[Candidate], choice: Choice
) -> dict[str, object]:
    """Return the choice, and the winner's scores on items that took no part in it, as JSON."""

    def text(index: int | None) -> str | None:
        return None if index is None else candidates[index].text

    ruling: dict[str, object] = {
        "status": choice.status,
        "best_input": text(choice.best_input),
        "best_output": text(choice.best_output),
        "standings": [
            standing._asdict() | {"candidate": heard[standing.candidate].description.method}
            for standing in choice.standings
        ],
    }
    if choice.winner is None:
        return ruling
    winner, candidate = heard[choice.winner], candidates[choice.winner]
    marks = {"description_id": winner.description.id, "method": winner.description.method}
    reported = _report_input(court, feature, candidate).score(feature, "input", court.recipe, **marks)  # type: ignore[arg-type]
    output = winner.output.score(feature, "output", court.recipe, **marks)  # type: ignore[arg-type]
    return ruling | {
        "winner": winner.description.id,
        "input": reported.model_dump(mode="json"),
        "output": output.model_dump(mode="json"),
    }


def _report_input(court: Court, feature: int, candidate: Candidate) -> Measurement:
    if candidate.sentences is None:
        return unmeasured(Status.NOT_APPLICABLE, "no sentences were written from it")
    known = court.exemplars.get(feature)
    controls = [halves.report for halves in candidate.controls]
    threshold = known.threshold if known else 0.0
    return evaluate_input(candidate.sentences.report, controls, threshold=threshold, seed=court.seed)


# ----------------------------------------------------------------------------------------------------------- LLM judge


def _llm_scores(court: Court, case: Case, choice: Choice) -> Iterator[Score]:
    """Yield the LLM judge's scores of the descriptions that it is to see; the winner's come with a control."""
    options = court.block.brief.spec.options
    if court.llm is None or "output_llm" not in court.block.brief.spec.evaluations or case.refusal is not None:
        return
    trials = judge_trials(court.seed, case.feature, options.judge_trials, case.pairs.report, case.sets)
    winner = None if choice.winner is None else case.descriptions[choice.winner]
    judged = [d for d in case.descriptions if d.status == Status.OK and (options.judged == "every" or d == winner)]
    verdicts: dict[int, list[Verdict]] = {description.id or 0: [] for description in judged}
    control: list[Verdict] = []
    for trial, pair in zip(trials, case.pairs.report, strict=False):
        # One trial after another: the three sets stand first in the prompt, and the endpoint has them cached.
        for description in judged:
            verdicts[description.id or 0].append(_ask(court, court.llm, trial, description.text or ""))
        if winner is not None and case.feature in court.controls:
            control += [_ask(court, court.llm, trial, text) for text in _wrong_texts(court, case, winner, pair)]
    for description in judged:
        measured = evaluate_output_llm(verdicts[description.id or 0], control if description == winner else ())
        yield measured.score(
            case.feature, "output_llm", court.recipe, description_id=description.id, method=description.method
        )


def _wrong_texts(court: Court, case: Case, description: Description, pair: Pair) -> list[str]:
    texts = _texts_by(court, description)
    wrong = draw_wrong(court.seed, case.feature, case.pairs.report, list(texts), court.neighbours.get(case.feature, ()))
    return [texts[wrong[pair]]] if pair in wrong else []


def _ask(court: Court, llm: LLMProfile, trial: JudgeTrial, text: str) -> Verdict:
    secret = court.context.settings.secret.get_secret_value().encode()
    completion = complete(
        llm,
        ask_for_choice([texts.amplified or texts.suppressed for texts in trial.sets], text, secret).messages,
        JudgeReply,
        max_tokens=MAX_TOKENS,
        temperature=TEMPERATURE,
        seed=court.seed,
        purpose="judge",
        cache=StoredCompletions(court.context, court.block.brief.tenant_id),
        on_attempt=court.context.progress.advance,
    )
    return verdict(trial, completion.value.choice) if completion.value else completion.status
