"""Texts that resemble a feature's exemplars, for its sensitivity: on how many of them does it fire?"""

from typing import NamedTuple

from prompts import ask_for_similar
from prompts.composing import COPIES, copies_example
from prompts.describing import FEWEST_EXEMPLARS, marked, spread
from schema.evidence import Exemplars
from schema.labels import Status
from schema.profiles import LLMProfile
from schema.stages import Stage
from schema.store import evidence, jobs
from workers import recipes
from workers.calls import together
from workers.desk import Block
from workers.engine import Context
from workers.parse import shortened, similar_reply
from workers.questions import Question, pose

TEMPERATURE = 0.8  # at 0 several texts tend to be one
FREQUENCY_PENALTY = 0.8
SIDES = 2  # as many texts as there are sentences of both sides


class Similar(NamedTuple):
    """The texts that resemble a feature's exemplars, or why there are none."""

    status: Status
    texts: tuple[str, ...] = ()
    reason: str | None = None


def write_similar(context: Context, block: Block, llm: LLMProfile) -> dict[str, object]:
    """Return for each selected feature what `read_similar` finds, where the run asks for it."""
    if "sensitivity" not in block.brief.spec.evaluations:
        return {}
    recipe = recipes.evidence("exemplars", block.brief, block.corpus)
    with context.transaction() as connection:
        known = evidence.load(connection, block.brief.dictionary.id, Exemplars, recipe, block.selected)
    made = together(lambda one: _write(context, block, llm, *one), known.items(), llm)
    return {str(feature): similar._asdict() for feature, similar in zip(known, made, strict=True)}


def read_similar(context: Context, numbers: list[int]) -> dict[int, Similar]:
    """Return what the write jobs of some blocks left, by feature."""
    with context.transaction() as connection:
        finished = jobs.results(connection, context.job.run_id, Stage.WRITE, numbers)
    found = [job.result.get("similar", {}) for job in finished if job.result]
    return {
        int(feature): Similar(Status(left["status"]), tuple(left["texts"]), left["reason"])
        for of_block in found
        for feature, left in of_block.items()
    }


def _write(context: Context, block: Block, llm: LLMProfile, feature: int, exemplars: Exemplars) -> Similar:
    spec = block.brief.spec
    windows = spread(exemplars.describe, spec.options.exemplars_in_prompt)
    if len(windows) < FEWEST_EXEMPLARS:
        status = Status.TOO_RARE if exemplars.n_firing else Status.DEAD
        return Similar(status, reason=f"it fires in {len(windows)} contexts; needs {FEWEST_EXEMPLARS}")
    n = SIDES * spec.options.n_sentences
    ask = ask_for_similar([marked(window) for window in windows], n, context.secret)
    question = Question(
        ask.messages,
        shortened(similar_reply(n), spec.options.reply_length),
        max_tokens=spec.options.max_tokens_sentences,
        purpose="write similar",
        feature=feature,
        temperature=TEMPERATURE,
        frequency_penalty=FREQUENCY_PENALTY,
    )
    completion = pose(context, block.brief, llm, question)
    texts = completion.value.texts if completion.value else ()
    if copies_example(texts, ask.prompt.examples):
        return Similar(Status.UNPARSED, reason=COPIES)
    return Similar(completion.status, texts, completion.reason)
