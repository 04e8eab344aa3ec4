"""The writer's room: from a description alone to sentences that should, and should not, make the feature fire."""

from collections.abc import Mapping

from prompts.composing import COPIES, copies_example
from prompts.evaluation import SENTENCES, ask_for_sentences
from prompts.loader import load_prompt
from schema.graph import N_CONTROL_FEATURES
from schema.labels import Description, Sentences, Status
from schema.profiles import LLMProfile
from schema.recipes import digest
from schema.store import descriptions
from schema.store.run_features import RunFeature
from workers.calls import together
from workers.desk import Block, Ranking, described, ranked, read_block, survives
from workers.engine import Context, Outcome
from workers.parse import sentences_reply, shortened
from workers.questions import Question, find_llm, pose
from workers.similar import write_similar

VERSION = 2
TEMPERATURE = 0.8  # ten sentences at temperature 0 tend to be one sentence
FREQUENCY_PENALTY = 0.8  # and a small model's still tend to; a repeated one is refused


def write_block(context: Context) -> Outcome:
    """Return the sentences for the descriptions of a block.

    Only descriptions that survived the ranking get any. Features that are only in the pool get sentences for one
    description, and only as many features as controls need.
    """
    block = read_block(context)
    llm = find_llm(context, block.brief, block.brief.spec.profiles.writer)
    found = described(context, block, [context.job.block])
    if llm is None:
        return Outcome(lambda connection: None, {})
    recipe = sentences_recipe(block, llm.recipe)
    rankings = ranked(context)
    features = block.features if "input" in block.brief.spec.evaluations else ()
    asked = [
        description
        for entry in features
        for description in _worth_writing(entry, found.get(entry.feature, []), rankings.get(entry.feature))
    ]
    together(lambda one: _write(context, block, llm, one, recipe), asked, llm)
    similar = write_similar(context, block, llm)
    context.progress.advance(len(block.features))
    return Outcome(lambda connection: None, {"similar": similar})


def sentences_recipe(block: Block, llm: Mapping[str, object]) -> str:
    """Return the recipe of sentences by the LLM of a recipe; with the description, all that they are made from."""
    options = block.brief.spec.options
    return digest(
        {
            "kind": "sentences",
            "version": VERSION,
            "prompt": load_prompt(SENTENCES).sha256,
            **llm,
            "n": options.n_sentences,
            "length": options.reply_length,
            "max_tokens": options.max_tokens_sentences,
            "temperature": TEMPERATURE,
            "frequency_penalty": FREQUENCY_PENALTY,
            "seed": block.brief.spec.seed,
        }
    )


def _worth_writing(entry: RunFeature, found: list[Description], ranking: Ranking | None) -> list[Description]:
    usable = [description for description in found if description.status == Status.OK]
    if entry.selected:
        return [d for d in usable if survives(ranking, d)]
    return usable[-1:] if entry.position <= N_CONTROL_FEATURES else []


def _write(context: Context, block: Block, llm: LLMProfile, description: Description, recipe: str) -> None:
    id_ = description.id or 0
    with context.transaction() as connection:
        known = descriptions.load_sentences(connection, [id_], recipe).get(id_)
    if known is not None and known.status == Status.OK:
        return
    options = block.brief.spec.options
    ask = ask_for_sentences(description.text or "", options.n_sentences, context.secret)
    question = Question(
        ask.messages,
        shortened(sentences_reply(options.n_sentences), options.reply_length),
        max_tokens=options.max_tokens_sentences,
        purpose="write",
        feature=description.feature,
        temperature=TEMPERATURE,
        frequency_penalty=FREQUENCY_PENALTY,
    )
    completion = pose(context, block.brief, llm, question)
    written, status, reason = completion.value, completion.status, completion.reason
    # A neutral sentence of the example's is as neutral as any other.
    if written and copies_example(written.activating, ask.prompt.examples):
        written, status, reason = None, Status.UNPARSED, COPIES
    with context.transaction() as connection:
        descriptions.put_sentences(
            connection,
            Sentences(
                description_id=id_,
                status=status,
                activating=written.activating if written else (),
                neutral=written.neutral if written else (),
                reason=reason,
                prompt_id=ask.prompt.id,
                reply=completion.reply,
                prompt_tokens=completion.usage.prompt_tokens,
                completion_tokens=completion.usage.completion_tokens,
                recipe=recipe,
            ),
        )
