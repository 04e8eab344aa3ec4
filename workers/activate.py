"""The tester's room: sentences through the subject, and the scores of a feature that need no LLM.

Leaves, for the judge, the activations that the choice of a label needs: a feature's own, by description, and those on
the sentences that were written for other features.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from schema.evidence import Exemplars, TokenList, VocabularyProjection
from schema.graph import N_CONTROL_FEATURES
from schema.labels import Description, Score, Sentences, Status
from schema.stages import Stage
from schema.store import descriptions, jobs, scores
from workers import recipes
from workers.desk import Block, Ranking, described, load_evidence, ranked, read_block, survives
from workers.engine import Context, Outcome
from workers.methods.corpus_evaluation import evaluate_sensitivity
from workers.methods.free_scores import evaluate_free_input, evaluate_free_output
from workers.methods.input_evaluation import SentenceActivations, evaluate_dead_input, evaluate_input
from workers.methods.interventions import run_clean, run_steered, tokens_per_forward
from workers.methods.prompts_neutral import CALIBRATION
from workers.methods.statistics import Measurement, unmeasured
from workers.opened import Opened, open_dictionary
from workers.score_recipe import score_recipe
from workers.shapes import Shape, in_fixed_shapes
from workers.similar import Similar, read_similar
from workers.write import sentences_recipe

_LONGEST = 512  # tokens of a written sentence that are read
FREE_OUTPUT_TIMES = 10.0  # 3-evaluation, "Free scores": the feature at 10× its maximum
_AMPLIFIED_AT_ONCE = 8  # features in a forward of one short prompt: few, as a block of steered features has few

Activations = Mapping[str, Sequence[float]]
"""The largest activation of each feature of a block, by sentence."""


Logits = NDArray[np.float32]


class Tested(NamedTuple):
    """What a block's tests start from."""

    block: Block
    opened: Opened
    found: Mapping[int, list[Description]]
    rankings: Mapping[int, Ranking]
    sentences: Mapping[int, Sentences]
    others: Mapping[int, Sentences]
    similar: Mapping[int, Similar]
    exemplars: Mapping[int, Exemplars]
    vocabulary: Mapping[int, VocabularyProjection]


def activate_block(context: Context) -> Outcome:
    """Return the input scores of the block's descriptions and the free scores of its features."""
    block = read_block(context)
    tested = _read(context, block)
    context.progress.advance()
    activations = _activations(context, tested)
    recipe = score_recipe(block, context.settings)
    amplified = _amplified_logits(tested) if "free" in block.brief.spec.evaluations else {}
    context.progress.advance()
    made: list[Score] = []
    left: dict[str, object] = {}
    for column, feature in enumerate(block.selected):
        own = {sentence: values[column] for sentence, values in activations.items()}
        if "input" in block.brief.spec.evaluations:
            made += list(_input_scores(tested, feature, own, recipe))
        if "sensitivity" in block.brief.spec.evaluations:
            made.append(_sensitivity(tested, feature, own).score(feature, "sensitivity", recipe))
        if "free" in block.brief.spec.evaluations:
            made += list(_free_scores(tested, feature, amplified.get(feature), recipe))
        left[str(feature)] = {
            "own": {str(id_): _sides(own, written) for id_, written in _written(tested, feature)},
            "others": [_sides(own, written) for written in _controls(tested, feature)],
            "dead": _is_dead(tested, feature),
        }
        context.progress.advance(1)
    return Outcome(lambda connection: scores.put(connection, block.brief.dictionary.id, made), {"features": left})


def _read(context: Context, block: Block) -> Tested:
    writer = recipes.llms(block.brief, context.settings)[block.brief.spec.profiles.writer]
    opened = open_dictionary(context, block.brief, block.corpus)
    with context.transaction() as connection:
        pool_blocks = jobs.blocks_of(connection, block.brief.run_id, Stage.DESCRIBE, 0, len(block.pool))
    found = described(context, block, {*pool_blocks, context.job.block})
    pool_ids = [d.id or 0 for feature in block.pooled for d in found.get(feature, [])]
    ids = [d.id or 0 for feature in block.selected for d in found.get(feature, [])]
    wanted = sorted({*block.selected, *block.pooled})
    with context.transaction() as connection:
        written: dict[int, Sentences] = {}
        if writer is not None:
            written = descriptions.load_sentences(connection, {*ids, *pool_ids}, sentences_recipe(block, writer))
        exemplars = load_evidence(connection, block, Exemplars, block.selected)
        vocabulary = load_evidence(connection, block, VocabularyProjection, wanted)
    others = _by_feature(block, found, written)
    similar = read_similar(context, sorted({*pool_blocks, context.job.block}))
    return Tested(block, opened, found, ranked(context), written, others, similar, exemplars, vocabulary)


def _by_feature(
    block: Block, found: Mapping[int, list[Description]], written: Mapping[int, Sentences]
) -> dict[int, Sentences]:
    """Return one set of sentences for each feature of the pool: of the last of its methods that has one."""
    sets: dict[int, Sentences] = {}
    for feature in block.pooled:
        usable = [written[d.id or 0] for d in found.get(feature, []) if d.id in written]
        complete = [sentences for sentences in usable if sentences.status == Status.OK]
        if complete:
            sets[feature] = complete[-1]
    return sets


def _written(tested: Tested, feature: int) -> Iterator[tuple[int, Sentences]]:
    for description in tested.found.get(feature, []):
        sentences = tested.sentences.get(description.id or 0)
        if sentences is not None and sentences.status == Status.OK:
            yield description.id or 0, sentences


def _controls(tested: Tested, feature: int) -> list[Sentences]:
    """Return the sentences written for up to 20 other features of the pool."""
    return [sentences for other, sentences in tested.others.items() if other != feature][:N_CONTROL_FEATURES]


def _activations(context: Context, tested: Tested) -> dict[str, list[float]]:
    """Return the largest activation of every selected feature in every sentence that is needed."""
    needed = [sentences for feature in tested.block.selected for _, sentences in _written(tested, feature)]
    needed += list(tested.others.values())
    written = {text for sentences in needed for text in (*sentences.activating, *sentences.neutral)}
    similar = {text for one in tested.similar.values() for text in one.texts}
    texts = sorted(written | similar, key=len)
    features = torch.tensor(tested.block.selected)
    subject = tested.opened.subject
    limit = min(subject.n_positions, _LONGEST) - 1
    rows = [Tokenized(text, [subject.sink_id, *subject.tokenize(text)[:limit]]) for text in texts]
    longest = max((len(row.ids) for row in rows), default=1)
    return subject.at_once.fit("tokens", longest, lambda: _largest_by_text(context, tested.opened, rows, features))


def _largest_by_text(
    context: Context, opened: Opened, rows: Sequence["Tokenized"], features: torch.Tensor
) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for shape, part in in_fixed_shapes(rows, lambda row: len(row.ids), tokens_per_forward(opened.subject)):
        values = largest_activations(opened, [row.ids for row in part], features, shape).tolist()
        found |= dict(zip((row.text for row in part), values, strict=True))
        context.progress.advance()
    return found


class Tokenized(NamedTuple):
    """A text and its token ids, the sink first."""

    text: str
    ids: list[int]


def largest_activations(
    opened: Opened, rows: Sequence[list[int]], features: torch.Tensor, shape: Shape
) -> torch.Tensor:
    """Return the largest activation (len(rows), n) of features (n,) over the counted tokens of each row.

    A row without a counted token has activation 0.
    """
    subject, dictionary = opened
    batch = subject.batch(rows, shape)
    values = dictionary.encode(subject.read(batch, dictionary.read_site), features)
    largest = values.masked_fill(~batch.counted[..., None], -torch.inf).amax(dim=1)
    return torch.where(largest.isfinite(), largest, 0.0).float().cpu()[: len(rows)]


def _sides(own: Mapping[str, float], written: Sentences) -> list[list[float]]:
    return [[round(own[text], 6) for text in side] for side in (written.activating, written.neutral)]


def _is_dead(tested: Tested, feature: int) -> bool:
    known = tested.exemplars.get(feature)
    return known is not None and known.n_firing == 0


def _input_scores(tested: Tested, feature: int, own: Mapping[str, float], recipe: str) -> Iterator[Score]:
    others = [_as_activations(_sides(own, written)) for written in _controls(tested, feature)]
    evaluate = evaluate_dead_input if _is_dead(tested, feature) else evaluate_input
    threshold = float(tested.opened.dictionary.threshold[feature])
    for description in tested.found.get(feature, []):
        sentences = tested.sentences.get(description.id or 0)
        if sentences is None:
            result = _untested(description, tested.rankings.get(feature))
        elif sentences.status != Status.OK:
            result = unmeasured(sentences.status, f"the writer: {sentences.reason}")
        else:
            mine = _as_activations(_sides(own, sentences))
            result = evaluate(mine, others, threshold=threshold, seed=tested.block.brief.spec.seed)
        yield result.score(feature, "input", recipe, description_id=description.id, method=description.method)


def _untested(description: Description, ranking: Ranking | None) -> Measurement:
    if description.status != Status.OK:
        return unmeasured(description.status, description.reason or f"the description is {description.status}")
    if ranking is not None and not survives(ranking, description):
        return unmeasured(Status.ELIMINATED, f"{len(ranking.survivors)} others did better with the embedding judge")
    return unmeasured(Status.NOT_APPLICABLE, "no sentences were written from it (llm=none)")


def _sensitivity(tested: Tested, feature: int, own: Mapping[str, float]) -> Measurement:
    similar = tested.similar.get(feature)
    if similar is None:
        return unmeasured(Status.NOT_APPLICABLE, "no texts were written to resemble its exemplars (llm=none)")
    if similar.status != Status.OK:
        return unmeasured(similar.status, similar.reason or f"the writer: {similar.status}")
    others = [one.texts for other, one in tested.similar.items() if other != feature and one.texts]
    return evaluate_sensitivity(
        [own[text] for text in similar.texts],
        [[own[text] for text in texts] for texts in others[:N_CONTROL_FEATURES]],
        threshold=float(tested.opened.dictionary.threshold[feature]),
        seed=tested.block.brief.spec.seed,
    )


def _as_activations(sides: Sequence[Sequence[float]]) -> SentenceActivations:
    activating, neutral = sides
    return SentenceActivations(np.array(activating), np.array(neutral))


def _free_scores(tested: Tested, feature: int, logits: Logits | None, recipe: str) -> Iterator[Score]:
    seed = tested.block.brief.spec.seed
    exemplars, vocabulary = tested.exemplars.get(feature), tested.vocabulary.get(feature)
    if exemplars is None or vocabulary is None:
        return
    others = _other_lists(tested, feature)
    yield evaluate_free_input(exemplars, vocabulary.promoted, others, seed=seed).score(feature, "free_input", recipe)
    if logits is None:
        dead = unmeasured(Status.DEAD, f"never fired in {exemplars.n_tokens} tokens, so it has no maximum")
        yield dead.score(feature, "free_output", recipe)
        return
    measured = evaluate_free_output(logits, vocabulary.promoted, others, seed=seed)
    yield measured.score(feature, "free_output", recipe)


def _other_lists(tested: Tested, feature: int) -> list[TokenList]:
    known = [
        tested.vocabulary[other] for other in tested.block.pooled if other != feature and other in tested.vocabulary
    ]
    return [projection.promoted for projection in known[:N_CONTROL_FEATURES]]


def _amplified_logits(tested: Tested) -> dict[int, Logits]:
    """Return the next-token logits (1, n_vocab) after one neutral prompt under each feature of the block that fires.

    At 10 times its maximum, added behind the sink.
    """
    subject, dictionary = tested.opened
    strengths = {
        feature: FREE_OUTPUT_TIMES * known.max for feature, known in tested.exemplars.items() if known.n_firing
    }
    if not strengths:
        return {}
    alphas = torch.tensor(list(strengths.values()), device=subject.device)[:, None]
    vectors = alphas * dictionary.directions(torch.tensor(list(strengths))).to(subject.device)
    batch = subject.batch([[subject.sink_id, *subject.tokenize(CALIBRATION[0].text)]])

    def measured() -> list[Logits]:
        clean = run_clean(subject, dictionary.write_site, batch)
        return [
            row
            for steered in run_steered(clean, vectors, _AMPLIFIED_AT_ONCE)
            for row in subject.unembed(steered.hidden[:, :, -1]).cpu().numpy()
        ]

    return dict(zip(strengths, subject.at_once.fit("tokens", batch.ids.numel(), measured), strict=True))
