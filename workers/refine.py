"""The describer revises: it is shown what its best description fails on, while that helps.

Failures are found by embeddings among the describe half of the evidence; whether a revision is better is measured on
choose items. What is reported rests on neither.
"""

from collections.abc import Callable, Sequence

from prompts.composing import NotApplicable
from prompts.describing import marked, messages_for
from prompts.evidence import Evidence
from prompts.loader import Ask
from prompts.revising import Failures, ask_for_revision
from schema.labels import Description, Status
from schema.profiles import LLMProfile
from schema.recipes import digest
from schema.store import descriptions
from workers.describe import FREQUENCY_PENALTY, TEMPERATURE, Standing, standing_of
from workers.hearing import Heard, Judge
from workers.llm import Completion
from workers.methods.free_scores import cosines
from workers.parse import DescriptionReply, shortened
from workers.questions import Question, pose

MAX_ROUNDS = 2
N_MISSED = 3
N_FALSE_ALARMS = 2
N_CONTRADICTING = 2
VERSION = 2


def refine(
    judge: Judge, llm: LLMProfile, evidence: Evidence, heard: Sequence[Heard], hear: Callable[[Description], Heard]
) -> Heard | None:
    """Return the best revision of a feature's best description, or None where none is better than that.

    heard: how the feature's descriptions did; hear: how another one does. At most two rounds, and only as long as the
    lower bound of the lift rises.
    """
    tested = [one for one in heard if one.description.status == Status.OK]
    court = judge.court
    asked = messages_for("combined", evidence, court.block.brief.spec.options, court.context.secret)
    if not tested or isinstance(asked, NotApplicable):
        return None
    best = first = max(tested, key=lambda one: one.low)
    for _ in range(MAX_ROUNDS):
        revised = _revise(judge, llm, asked, evidence, best.description)
        if revised.status != Status.OK or revised.text == best.description.text:
            break
        found = hear(revised)
        if found.low <= best.low:
            break
        best = found
    if best is first:
        return None
    with court.context.transaction() as connection:
        kept = descriptions.put(connection, court.block.brief.dictionary.id, best.description)
    # What was heard carries the id of the description, which it has only now.
    contestant = best.contestant._replace(id=kept.id or 0) if best.contestant else None
    return best._replace(description=kept, contestant=contestant)


def _revise(judge: Judge, llm: LLMProfile, asked: Ask, evidence: Evidence, description: Description) -> Description:
    court, spec = judge.court, judge.court.block.brief.spec
    ask = ask_for_revision(
        asked,
        description.trigger or "",
        description.effect or "",
        _failures(judge, evidence, description),
        court.context.secret,
    )
    question = Question(
        ask.messages,
        shortened(DescriptionReply, spec.options.reply_length),
        max_tokens=spec.options.max_tokens_description,
        purpose="describe refined",
        feature=description.feature,
        temperature=TEMPERATURE,
        frequency_penalty=FREQUENCY_PENALTY,
    )
    completion = pose(court.context, court.block.brief, llm, question)
    return _description(ask, description, completion, standing_of(completion, asked.prompt.examples), llm)


def _description(
    ask: Ask, before: Description, completion: Completion[DescriptionReply], standing: Standing, llm: LLMProfile
) -> Description:
    answer, usage = completion.value, completion.usage
    return Description(
        feature=before.feature,
        method="refined",
        status=standing.status,
        text=answer.text if answer and standing.status == Status.OK else None,
        trigger=answer.trigger if answer else None,
        effect=answer.effect if answer else None,
        reason=standing.reason,
        prompt_id=ask.prompt.id,
        prompt_sha256=ask.prompt.sha256,
        model=completion.model,
        parameters={
            "revises": before.parameters.get("revises", before.method),
            "temperature": TEMPERATURE,
            "frequency_penalty": FREQUENCY_PENALTY,
        },
        reply=completion.reply,
        prompt_tokens=usage.prompt_tokens,
        cached_tokens=usage.cached_tokens,
        completion_tokens=usage.completion_tokens,
        recipe=digest(
            {
                "kind": "description",
                "version": VERSION,
                "method": "refined",
                "of": before.recipe,
                "messages": ask.messages,
            }
            | llm.recipe
        ),
    )


def _failures(judge: Judge, evidence: Evidence, description: Description) -> Failures:
    """Return the texts of the describe half that are least as the description has it."""
    (vector,) = judge.vectors([description.text or ""])

    def ranked(texts: Sequence[str], sign: float) -> list[int]:
        likeness = cosines(vector, judge.vectors(texts)).tolist() if texts else []
        return sorted(range(len(texts)), key=lambda i: sign * likeness[i])

    split = evidence.exemplars.describe if evidence.exemplars else None
    firing = list({window.text: window for window in (*split.top, *split.weighted)}.values()) if split else []
    silent = list(dict.fromkeys(w.text for w in (*split.silent, *split.hard_negatives))) if split else []
    steered = evidence.steered_texts.describe if evidence.steered_texts else ()
    amplified = [text.text.strip() for text in steered if text.target_kl_nats > 0 and text.text.strip()]
    missed = ranked([window.text for window in firing], 1.0)[:N_MISSED]
    return Failures(
        tuple(marked(firing[i]) for i in missed),
        tuple(silent[i] for i in ranked(silent, -1.0)[:N_FALSE_ALARMS]),
        tuple(amplified[i] for i in ranked(amplified, 1.0)[:N_CONTRADICTING]),
    )
