"""What both judges of a block start from: whose texts a feature's are set against, and which descriptions are wrong."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from schema.evidence import Calibration, Exemplars, SteeredTexts, VocabularyProjection
from schema.labels import Description, Score, ScoreKind, Status
from schema.needs import kinds_made
from schema.stages import Stage
from schema.store import jobs
from workers.desk import Block, described, load_evidence, read_block
from workers.engine import Context
from workers.methods.output_evaluation import (
    Pair,
    PairHalves,
    Pool,
    TextSet,
    draw_pairs,
    draw_wrong,
    eligible_distractors,
    reached_targets,
    text_set,
)
from workers.methods.statistics import Measurement, Vector, unmeasured
from workers.score_recipe import score_recipe


class Case(NamedTuple):
    """One feature before the court: its pairs of distractors, the sets of texts, or why there are none."""

    feature: int
    descriptions: Sequence[Description]
    pairs: PairHalves
    sets: Mapping[int, TextSet]
    refusal: Measurement | None


@dataclass(frozen=True)
class Court:
    """What judging a block needs, read once."""

    context: Context
    block: Block
    recipe: str
    found: Mapping[int, list[Description]]
    exemplars: Mapping[int, Exemplars]
    neighbours: Mapping[int, tuple[int, ...]]
    calibration: Mapping[int, Calibration]
    texts: Mapping[int, SteeredTexts]
    cosines: Mapping[int, Vector]

    @property
    def seed(self) -> int:
        """Return the run's seed."""
        return self.block.brief.spec.seed

    def open_case(self, feature: int) -> Case:
        """Return a feature's case; it is refused where the feature can't be told from others by its texts."""
        descriptions = self.found.get(feature, [])

        def without(status: Status, reason: str) -> Case:
            return Case(feature, descriptions, PairHalves((), ()), {}, unmeasured(status, reason))

        if "steered_texts" not in kinds_made(self.block.brief.spec):
            return without(Status.NOT_APPLICABLE, "this run steers no texts")
        if not self._is_steered(feature):
            return without(Status.FAILED, "its steered texts could not be made")
        options = self.block.brief.spec.options
        targets = reached_targets(self.calibration[feature], options.judge_targets)
        if not targets:
            return without(Status.UNREACHABLE, f"no strength reaches a KL of {options.judge_targets} nats")
        places = [self.block.pooled.index(member) for member in self.pool.features]
        eligible = eligible_distractors(feature, self.cosines[feature][places], targets, self.pool)
        pairs = draw_pairs(self.seed, feature, eligible, self.pool, n=options.embedding_pairs)
        if not pairs.report:
            return without(Status.NOT_APPLICABLE, f"{len(eligible)} features of the pool fit as distractors; needs 2")
        members = {feature, *(i for half in pairs for pair in half for i in pair)}
        sets = {member: text_set(self.texts[member].score, targets) for member in sorted(members)}
        return Case(feature, descriptions, pairs, sets, None)

    def texts_by(self, description: Description) -> dict[int, str]:
        """Return what the pool's features are described as by a description's method, or by the one that it revises.

        Of imported ones, by those of the same origin.
        """
        method, origin = _method(description), description.parameters.get("origin")
        of_origin = [one for one in self._said_of_pool() if origin in (None, one.parameters.get("origin"))]
        return {one.feature: one.text or "" for one in of_origin if one.method == method}

    def wrong_texts(self, description: Description) -> dict[int, str]:
        """Return what the pool's features are described as, to set beside a description where it is wrong.

        By its own method. Labels are imported of some features only: for others, what any method says.
        """
        texts = self.texts_by(description)
        if _method(description) != "imported":
            return texts
        return {one.feature: one.text or "" for one in reversed(self._said_of_pool())} | texts

    def _said_of_pool(self) -> list[Description]:
        """Return the descriptions of the pool's features that say something, in the order of the run's methods."""
        of_pool = [one for feature in self.block.pooled for one in self.found.get(feature, [])]
        return [one for one in of_pool if one.status == Status.OK and one.text]

    def draw_wrong(self, case: Case, described: Collection[int]) -> dict[Pair, int]:
        """Return, for each reported pair, a feature whose description (of `described`) is wrong for the case."""
        neighbours = self.neighbours.get(case.feature, ())
        return draw_wrong(self.seed, case.feature, case.pairs.report, described, neighbours)

    def score(self, case: Case, description: Description, kind: ScoreKind, measurement: Measurement) -> Score:
        """Return a measurement as the score of one of the case's descriptions."""
        return measurement.score(
            case.feature, kind, self.recipe, description_id=description.id, method=description.method
        )

    def _is_steered(self, feature: int) -> bool:
        return feature in self.texts and feature in self.calibration and feature in self.cosines

    @cached_property
    def pool(self) -> Pool:
        """Return those features of the pool that have steered texts."""
        pooled = self.block.pooled
        members = [feature for feature in pooled if self._is_steered(feature)]
        places = [pooled.index(member) for member in members]
        cosines = np.array([self.cosines[member][places] for member in members]).reshape(len(members), len(members))
        reached = [
            frozenset(t.target_kl_nats for t in self.calibration[member].targets if t.reached) for member in members
        ]
        return Pool(tuple(members), cosines, tuple(reached))


def _method(description: Description) -> object:
    """Return the method of a description, or of the one that it revises."""
    return description.parameters.get("revises", description.method)


def convene(context: Context) -> Court:
    """Return the court of a block."""
    block = read_block(context)
    brief = block.brief
    everyone = sorted({*block.selected, *block.pooled})

    with context.transaction() as connection:
        pool_blocks = jobs.blocks_of(connection, brief.run_id, Stage.STEERING, 0, len(block.pool))
        numbers = sorted({*pool_blocks, context.job.block})
        steered = jobs.results(connection, brief.run_id, Stage.STEERING, numbers)
        exemplars = load_evidence(connection, block, Exemplars, block.selected)
        projections = load_evidence(connection, block, VocabularyProjection, block.selected)
        calibration = load_evidence(connection, block, Calibration, everyone)
        texts = load_evidence(connection, block, SteeredTexts, everyone)
    return Court(
        context=context,
        block=block,
        recipe=score_recipe(block, context.settings),
        found=described(context, block, numbers),
        exemplars=exemplars,
        neighbours={feature: projection.neighbours for feature, projection in projections.items()},
        calibration=calibration,
        texts=texts,
        cosines={int(f): np.array(row) for job in steered if job.result for f, row in job.result["cosines"].items()},
    )
