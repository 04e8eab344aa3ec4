"""What a run found: the frozen records of its report. Every interval is over features, 95 %.

A score whose status is not `ok` is in no share and no mean: it is counted by its status, beside them.
"""

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import Field

from schema.labels import Estimate, ScoreKind, Status
from schema.records import Method, Record, StageProgress, Usage

LabelStatus = Status | Literal["unlabelled"]
"""A feature whose publishing job failed has no label of the run, and so not even a status."""


class Summary(Record):
    """One kind of score over the features of a line. A figure without a value is null, never 0."""

    kind: ScoreKind
    statuses: dict[LabelStatus, int] = Field(description="features by the status of their score; they add up")
    success: Estimate | None = Field(description="share of features that succeed, where the kind has a yes or no")
    value: Estimate | None = Field(description="mean")
    lift: Estimate | None = Field(description="mean of what is left over the control of each feature")

    @property
    def n_scored(self) -> int:
        """Return how many features are in the shares and means."""
        return self.statuses.get(Status.OK, 0)

    @property
    def not_scored(self) -> dict[LabelStatus, int]:
        """Return how many features have which status instead of a score."""
        return {status: n for status, n in self.statuses.items() if status != Status.OK}


class StatusShare(Record):
    """How many features have a label of this status."""

    status: LabelStatus
    n: int
    share: float = Field(description="of the run's features")


class LabelReport(Record):
    """The published labels, scored on items that took no part in their choice."""

    statuses: tuple[StatusShare, ...]
    methods: dict[Method, int] = Field(description="labels by the method that wrote them")
    scores: tuple[Summary, ...]


class MethodReport(Record):
    """The descriptions of one method, whether they became a label or not."""

    method: Method
    descriptions: dict[Status, int] = Field(description="by status; `failed` where their job left none")
    scores: tuple[Summary, ...]


class Control(Record):
    """What is scored where nothing should be found; the same for labels that say nothing."""

    kind: ScoreKind
    figure: Literal["success", "value"] = Field(description="`success`: share of successes; `value`: mean value")
    rate: Estimate = Field(description="measured, each feature with its own controls")
    chance: float | None = Field(description="null where chance has no constant: then the rate is it")
    contains_chance: bool | None


class RankedFeature(Record):
    """A label by the lower bounds of its lifts; null where the run measured no label on that side."""

    feature: int
    text: str | None
    method: Method | None
    lift_low: float = Field(description="sum of both sides")
    input_lift_low: float | None
    output_lift_low: float | None


class Ranking(Record):
    """The labels with most and with least to say for them, of those measured on every side on which any is."""

    n_ranked: int
    best: tuple[RankedFeature, ...]
    worst: tuple[RankedFeature, ...] = Field(description="the worst first; none of the best")


class DeadFeatures(Record):
    """Features that never fired in the corpus."""

    n: int
    n_tested: int = Field(description="for which sentences were written")
    n_revived: int = Field(description="that fired on one of these")


class RunReport(Record):
    """What a run found, made once when its last label was published."""

    run_id: UUID
    dictionary_id: UUID
    n_features: int
    labels: LabelReport
    methods: tuple[MethodReport, ...] = Field(description="in the order of the run")
    features: tuple[Summary, ...] = Field(description="scores of features rather than of descriptions")
    controls: tuple[Control, ...] = Field(description="of the published labels, and of the features' own scores")
    ranking: Ranking
    dead: DeadFeatures
    stages: tuple[StageProgress, ...] = Field(description="without the report itself")
    usage: Usage | None = Field(None, description="of LLMs")
    created_at: datetime | None = None
