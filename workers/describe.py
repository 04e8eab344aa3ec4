"""The describer's room: from the evidence of a block to one description a method, with an LLM where one is needed."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from prompts import Ask, Message
from prompts.composing import COPIES, Composition, NotApplicable, concatenate, copies_example
from prompts.describing import messages_for
from prompts.evidence import Evidence
from schema.evidence import Calibration, EvidenceKind, Exemplars, SteeredTexts, TokenChange, VocabularyProjection
from schema.labels import Description, Status
from schema.needs import SHOWN, kinds_made
from schema.profiles import LLMProfile
from schema.recipes import digest
from schema.records import Method, RunOptions
from schema.store import descriptions
from workers import recipes
from workers.calls import together
from workers.desk import Block, load_evidence, read_block
from workers.engine import Context, Outcome
from workers.llm import Completion
from workers.methods.lexical import lexical_description
from workers.parse import DescriptionReply, SummaryReply, shortened
from workers.questions import Question, find_llm, pose

VERSION = 3
_ALL_BUT_TEXTS: tuple[EvidenceKind, ...] = ("exemplars", "vocabulary", "token_change")
TEMPERATURE = 0.0
_PARTS = (0.5, 0.25)  # of the evidence, where the context of the LLM is too small for all of it
FREQUENCY_PENALTY = 0.5  # small models otherwise go round in circles at temperature 0

_ANSWERS: dict[str, type[DescriptionReply] | type[SummaryReply]] = {"own": DescriptionReply, "paper": SummaryReply}

Made = dict[Method, Description]


class Desk(NamedTuple):
    """What describing a block needs."""

    context: Context
    block: Block
    llm: LLMProfile | None
    evidence: Mapping[int, Evidence]


def describe_block(context: Context) -> Outcome:
    """Return the descriptions of a block; those that exist under their recipe are not made again."""
    block = read_block(context)
    llm = find_llm(context, block.brief, block.brief.spec.profiles.describer)
    desk = Desk(context, block, llm, read_evidence(context, block))
    made: dict[int, Made] = {feature: {} for feature in block.indices}
    methods = [method for method in block.brief.spec.methods if method not in ("refined", "imported")]
    # Method by method: the calls of one method begin alike, and the endpoint has that beginning cached.
    asked = [(feature, method) for method in methods if method != "concat" for feature in block.indices]
    told = together(lambda pair: _describe(desk, *pair, {}), asked, desk.llm)
    for (feature, method), description in zip(asked, told, strict=True):
        made[feature][method] = description
    if "concat" in methods:
        for feature, parts in made.items():
            parts["concat"] = _describe(desk, feature, "concat", parts)
    context.progress.advance(len(block.indices))
    # Revisions are made when they are ranked; what was imported is there, for some features and more than once.
    ids = {str(feature): [by[method].id for method in methods] for feature, by in made.items()}
    for feature, others in _imported(context, block).items():
        ids[str(feature)] += [description.id for description in others]
    return Outcome(lambda connection: None, {"descriptions": ids})


def _imported(context: Context, block: Block) -> dict[int, list[Description]]:
    if "imported" not in block.brief.spec.methods:
        return {}
    with context.transaction() as connection:
        return descriptions.imported(connection, block.brief.dictionary.id, block.indices)


def read_evidence(context: Context, block: Block) -> dict[int, Evidence]:
    """Return what is stored of every feature of a block under this run's recipes, of the kinds that it makes."""
    indices = block.indices
    with context.transaction() as connection:
        exemplars = load_evidence(connection, block, Exemplars, indices)
        vocabulary = load_evidence(connection, block, VocabularyProjection, indices)
        change = load_evidence(connection, block, TokenChange, indices)
        calibration = load_evidence(connection, block, Calibration, indices)
        texts = load_evidence(connection, block, SteeredTexts, indices)
    return {
        feature: Evidence(
            exemplars.get(feature),
            vocabulary.get(feature),
            change.get(feature),
            calibration.get(feature),
            texts.get(feature),
        )
        for feature in indices
    }


def _recipe(block: Block, kind: EvidenceKind) -> str:
    return recipes.evidence(kind, block.brief, block.corpus)


def _describe(desk: Desk, feature: int, method: Method, made: Made) -> Description:
    """Return a method's description of a feature, stored: from its recipe if it is known, else made now."""
    if method == "lexical":
        known = desk.evidence[feature]
        answer = lexical_description(known.exemplars, known.vocabulary, known.token_change)
        return _composed(desk, feature, method, answer)
    if method == "concat":
        return _composed(desk, feature, method, concatenate(made.values()))
    return _asked(desk, feature, method)


def _composed(desk: Desk, feature: int, method: Method, answer: Composition | NotApplicable) -> Description:
    recipe = digest(_ingredients(desk, feature, method))
    if isinstance(answer, NotApplicable):
        return _keep(desk, _without_text(feature, method, recipe, answer))
    return _keep(
        desk,
        Description(
            feature=feature,
            method=method,
            status=Status.OK,
            text=answer.text,
            trigger=answer.trigger,
            effect=answer.effect,
            recipe=recipe,
        ),
    )


def _asked(desk: Desk, feature: int, method: Method) -> Description:
    if desk.llm is None:
        absent = NotApplicable(Status.NOT_APPLICABLE, "this run has no LLM (llm=none)")
        return _keep(desk, _without_text(feature, method, digest(_ingredients(desk, feature, method)), absent))
    options = desk.block.brief.spec.options
    ask = messages_for(method, desk.evidence[feature], options, desk.context.secret)
    if isinstance(ask, NotApplicable):
        return _keep(desk, _without_text(feature, method, digest(_ingredients(desk, feature, method)), ask))
    parameters = {
        "max_tokens": options.max_tokens_description,
        "temperature": TEMPERATURE,
        "frequency_penalty": FREQUENCY_PENALTY,
    }
    recipe = digest(
        _ingredients(desk, feature, method)
        | {"prompt": ask.prompt.sha256, **desk.llm.recipe}
        | parameters
        | {"shown": (options.exemplars_in_prompt, options.tokens_in_prompt), "length": options.reply_length}
    )
    found = _find(desk, feature, recipe)
    if found is not None:
        return found
    told = _ask_what_fits(desk, desk.llm, feature, method, ask)
    shown = {} if told.part == 1.0 else {"part_of_evidence": told.part}
    return _keep(desk, _from_completion(feature, method, recipe, told.ask, told.completion, parameters | shown))


class _Told(NamedTuple):
    """What was asked, what came of it, and which part of the evidence was shown."""

    ask: Ask
    completion: Completion[DescriptionReply] | Completion[SummaryReply]
    part: float


def _ask_what_fits(desk: Desk, llm: LLMProfile, feature: int, method: Method, whole: Ask) -> _Told:
    """Return the answer to a prompt, with less of the evidence where its context is too small for all of it."""
    told = _Told(whole, _complete(desk, llm, feature, method, whole), 1.0)
    for part in _PARTS:
        if not told.completion.too_long:
            break
        options = _showing(desk.block.brief.spec.options, part)
        ask = messages_for(method, desk.evidence[feature], options, desk.context.secret)
        if isinstance(ask, Ask):
            told = _Told(ask, _complete(desk, llm, feature, method, ask), part)
    return told


def _complete(
    desk: Desk, llm: LLMProfile, feature: int, method: Method, ask: Ask
) -> Completion[DescriptionReply] | Completion[SummaryReply]:
    options = desk.block.brief.spec.options
    question = Question(
        ask.messages,
        shortened(_ANSWERS[options.prompts], options.reply_length),
        max_tokens=options.max_tokens_description,
        purpose=f"describe {method}",
        feature=feature,
        temperature=TEMPERATURE,
        frequency_penalty=FREQUENCY_PENALTY,
    )
    return pose(desk.context, desk.block.brief, llm, question)


def _showing(options: RunOptions, part: float) -> RunOptions:
    """Return options under which a prompt shows a part of the evidence."""
    changes = {
        "exemplars_in_prompt": max(1, int(part * options.exemplars_in_prompt)),
        "tokens_in_prompt": max(1, int(part * options.tokens_in_prompt)),
        "n_steered_prompts": max(1, int(part * options.n_steered_prompts)),
    }
    return options.model_copy(update=changes)


def _from_completion(
    feature: int,
    method: Method,
    recipe: str,
    ask: Ask,
    completion: Completion[DescriptionReply] | Completion[SummaryReply],
    parameters: Mapping[str, float | int | str],
) -> Description:
    answer = completion.value
    standing = standing_of(completion, ask.prompt.examples)
    return Description(
        feature=feature,
        method=method,
        status=standing.status,
        text=answer.text if answer and standing.status == Status.OK else None,
        trigger=answer.trigger if answer else None,
        effect=answer.effect if answer else None,
        reason=standing.reason,
        prompt_id=ask.prompt.id,
        prompt_sha256=ask.prompt.sha256,
        model=completion.model,
        parameters=dict(parameters),
        reply=completion.reply,
        prompt_tokens=completion.usage.prompt_tokens,
        cached_tokens=completion.usage.cached_tokens,
        completion_tokens=completion.usage.completion_tokens,
        recipe=recipe,
    )


class Standing(NamedTuple):
    """What a reply is worth, and why it is not ok."""

    status: Status
    reason: str | None


def standing_of(
    completion: Completion[DescriptionReply] | Completion[SummaryReply], examples: Sequence[Message]
) -> Standing:
    """Return what a describer's reply is worth; one that copies an example of its prompt says nothing of a feature."""
    answer = completion.value
    if answer is None:
        return Standing(completion.status, completion.reason)
    if copies_example((answer.trigger or "", answer.effect or ""), examples):
        return Standing(Status.UNPARSED, COPIES)
    return Standing(answer.status, completion.reason)


def _without_text(feature: int, method: Method, recipe: str, answer: NotApplicable) -> Description:
    return Description(feature=feature, method=method, status=answer.status, reason=answer.reason, recipe=recipe)


def _ingredients(desk: Desk, feature: int, method: Method) -> dict[str, object]:
    """Return what every description is made from; the LLM's part is added where there is one."""
    return {
        "kind": "description",
        "version": VERSION,
        "method": method,
        "feature": feature,
        "seed": desk.block.brief.spec.seed,
        "evidence": [_recipe(desk.block, kind) for kind in _kinds_read(desk.block, method)],
        "parts": sorted(desk.block.brief.spec.methods) if method == "concat" else None,
        "llm": desk.llm.model if desk.llm and method == "concat" else None,
    }


def _kinds_read(block: Block, method: Method) -> list[EvidenceKind]:
    """Return the kinds of evidence that a method's description is made from."""
    if method in SHOWN:
        return list(SHOWN[method])
    made = kinds_made(block.brief.spec)
    return [kind for kind in _ALL_BUT_TEXTS if kind in made]


def _find(desk: Desk, feature: int, recipe: str) -> Description | None:
    with desk.context.transaction() as connection:
        brief = desk.block.brief
        return descriptions.find(connection, brief.dictionary.id, feature, recipe, run_id=brief.run_id)


def _keep(desk: Desk, description: Description) -> Description:
    """Store a description at once: writing it again changes nothing, and a crash then repeats no paid call."""
    with desk.context.transaction() as connection:
        return descriptions.put(connection, desk.block.brief.dictionary.id, description)
