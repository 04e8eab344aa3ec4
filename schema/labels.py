"""What is said of features: frozen records of descriptions, scores and labels, and of all that is known of one."""

from datetime import datetime
from enum import StrEnum
from typing import Literal
from uuid import UUID

from pydantic import Field

from schema.evidence import Calibration, Exemplars, SteeredTexts, TokenChange, VocabularyProjection
from schema.records import Method, Record

MACHINE = "glossarium"
"""The author of labels that runs made; any other is a person."""


class Status(StrEnum):
    """What a value is when it is not a number or a text. Only `ok` counts in a mean."""

    OK = "ok"
    DEAD = "dead"
    TOO_RARE = "too_rare"
    UNREACHABLE = "unreachable"
    REFUSED = "refused"
    UNPARSED = "unparsed"
    NO_PATTERN = "no_pattern"
    ELIMINATED = "eliminated"
    NOT_APPLICABLE = "not_applicable"
    UNREPORTED = "unreported"
    FAILED = "failed"


class Description(Record):
    """What a method says of a feature, with what it was made from."""

    id: int | None = None
    feature: int
    method: Method
    status: Status
    text: str | None = Field(None, description="one sentence for both facets")
    trigger: str | None = None
    effect: str | None = None
    reason: str | None = Field(None, description="why the status is not ok")
    prompt_id: str | None = None
    prompt_sha256: str | None = None
    model: str | None = None
    parameters: dict[str, float | int | str] = Field({})
    reply: str | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    recipe: str
    created_at: datetime | None = None


class Sentences(Record):
    """What the writer wrote from a description alone."""

    description_id: int
    status: Status
    activating: tuple[str, ...] = ()
    neutral: tuple[str, ...] = ()
    reason: str | None = None
    prompt_id: str | None = None
    reply: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    recipe: str


ScoreKind = Literal[
    "input",
    "output",
    "output_llm",
    "detection",
    "fuzzing",
    "sensitivity",
    "embedding_auroc",
    "free_input",
    "free_output",
]


class Estimate(Record):
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float
    n: int


class Score(Record):
    """A tested description (or, for free feature scores, a tested feature: `description_id` is None)."""

    feature: int
    kind: ScoreKind
    description_id: int | None = None
    method: Method | None = None
    status: Status
    estimate: Estimate | None = None
    control: Estimate | None = Field(None, description="measured, or chance where the definition has one")
    lift: float | None = Field(None, description="estimate less control")
    lift_low: float | None = None
    lift_high: float | None = None
    success: bool | None = Field(None, description="the paper's yes or no for this description")
    reason: str | None = None
    details: dict[str, object] = Field({})
    recipe: str


class Label(Record):
    """The published description of a feature, with the scores it is reported with."""

    id: int | None = None
    feature: int
    text: str | None
    status: Status
    method: Method | None
    description_id: int | None
    author: str = Field(MACHINE, description="`glossarium`, or the person who wrote it")
    note: str | None = Field(None, description="why the person wrote it")
    input: Score | None = None
    output: Score | None = None
    output_llm: Score | None = None
    best_input: str | None = Field(None, description="the description that reads best")
    best_output: str | None = Field(None, description="the description that predicts steering best")
    choice: dict[str, object] = Field({}, description="how the winner won: candidates with their choose statistics")
    run_id: UUID | None = None
    created_at: datetime | None = None


class FeatureSummary(Record):
    """One row of a list of features."""

    index: int
    status: str
    label: str | None
    method: str | None
    density: float | None
    max_activation: float | None
    input_success: bool | None
    input_value: float | None
    input_lift: float | None
    output_success: bool | None
    output_value: float | None
    output_lift: float | None


class Provenance(Record):
    """What a piece of evidence was made from."""

    recipe: str
    document: dict[str, object]


class Feature(Record):
    """A feature with everything that is known of it."""

    summary: FeatureSummary
    label: Label | None
    exemplars: Exemplars | None = None
    vocabulary: VocabularyProjection | None = None
    token_change: TokenChange | None = None
    calibration: Calibration | None = None
    steered_texts: SteeredTexts | None = None
    descriptions: tuple[Description, ...] = ()
    scores: tuple[Score, ...] = ()
    provenance: dict[str, Provenance] = Field({})
