"""Trials: what people try on a subject while they wait, on the wire and in the store.

A text is read and the features that fire on it are wanted, or a prompt is continued with and without a feature. A trial
is over, one way or another, when its time is: it never hangs.
"""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, Field, model_validator

from schema.labels import FeatureSummary
from schema.plain import check_readable
from schema.records import Record

MOST_CHARACTERS = 10_000
"""Of a text or a prompt."""
MOST_TOKENS = 1024
"""Of a text or a prompt as its subject reads it, and never more than the subject's own context."""
MOST_UNFINISHED = 16
"""Trials of a tenant at once: a subject worker does one at a time."""

StrengthUnit = Literal["r", "alpha", "kl_nats"]
"""`r` is |alpha|·|w| over the mean norm of what is added to, as in calibrations; `alpha` is what the direction of the
feature is multiplied by; `kl_nats` is the KL divergence of the output that is to be reached. Negative ones suppress."""

MOST_STRENGTH: dict[StrengthUnit, float] = {"r": 20.0, "alpha": 1e6, "kl_nats": 10.0}
"""In either direction. Calibrations end at r = 5; whatever its unit, no strength may come to an r above the limit."""

TrialKind = Literal["activations", "steering"]
TrialState = Literal["waiting", "running", "done", "failed", "cancelled", "expired"]
ENDED: frozenset[TrialState] = frozenset({"done", "failed", "cancelled", "expired"})

Text = Annotated[str, Field(min_length=1, max_length=MOST_CHARACTERS), AfterValidator(check_readable)]


class ActivationsSpec(Record):
    """A text, of which it is wanted what fires on it."""

    text: Text = Field(description=f"at most {MOST_TOKENS:,} tokens, or the subject's context if that is shorter")
    k: int = Field(5, ge=1, le=50, description="features of each token, the most active ones")


class SteeringSpec(Record):
    """A prompt that is to be continued under some strengths of a feature, and without it."""

    prompt: Text = Field(description=f"with `n_tokens` at most {MOST_TOKENS:,} tokens, or the subject's context")
    strengths: tuple[Annotated[float, Field(allow_inf_nan=False)], ...] = Field(
        min_length=1, max_length=8, description="above 0 amplify, below 0 suppress"
    )
    unit: StrengthUnit = "r"
    n_tokens: int = Field(25, ge=1, le=100, description="new ones of each text")
    seed: int = Field(0, ge=0, le=2**31 - 1, description="all texts are drawn with the same random numbers")
    temperature: float = Field(0.75, ge=0.05, le=2.0, allow_inf_nan=False, description="that of steered texts")

    @model_validator(mode="after")
    def _check_strengths(self) -> "SteeringSpec":
        most = MOST_STRENGTH[self.unit]
        for strength in self.strengths:
            if not 0 < abs(strength) <= most:
                raise ValueError(f"strength {strength:g} {self.unit}: must be in -{most:g}..{most:g}, and not 0")
        return self


class FeatureActivation(Record):
    """How strongly a feature fires on a token."""

    index: int
    activation: float


class TokenActivations(Record):
    """A token of a text and the features that are most active on it; none on special tokens."""

    token: str
    features: tuple[FeatureActivation, ...]


class TextActivations(Record):
    """What fires on a text; the tokens, joined, are the text."""

    tokens: tuple[TokenActivations, ...]
    features: tuple[FeatureSummary, ...] = Field((), description="those that are named above, as they are labelled now")


class SteeredContinuation(Record):
    """How the prompt went on under one strength."""

    strength: float = Field(description="as it was asked for")
    alpha: float
    r: float
    achieved_kl_nats: float | None = Field(None, description="on the calibration prompts, where a KL was asked for")
    reached: bool = Field(True, description="false: no strength has the KL that was asked for, and there is no text")
    text: str | None = Field(description="the new tokens only")


class Continuations(Record):
    """How a prompt goes on with a feature and without it."""

    unsteered: str
    steered: tuple[SteeredContinuation, ...] = Field(description="in the order of the strengths")
    feature: FeatureSummary | None = Field(None, description="as it is labelled now")


class Trial(Record):
    """What was tried, and what came of it."""

    id: UUID
    dictionary_id: UUID
    kind: TrialKind
    feature: int | None = Field(description="of steering")
    spec: ActivationsSpec | SteeringSpec
    state: TrialState
    error: str | None = Field(None, description="of a failed one, the name of an exception in schema.errors")
    reason: str | None = Field(None, description="why it failed or expired")
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    expires_at: datetime = Field(description="by when it is over, whatever becomes of it")
    activations: TextActivations | None = None
    steering: Continuations | None = None

    @property
    def over(self) -> bool:
        """Return whether nothing more will come of it."""
        return self.state in ENDED


Seconds = Annotated[float, Field(ge=0, le=25, allow_inf_nan=False)]


class TrialWait(Record):
    """How long the answer to a request for a trial may take."""

    wait: Seconds = Field(10.0, description="for the end of the trial before the answer, in seconds")


class TrialLook(Record):
    """How long the answer to a look at a trial may take."""

    wait: Seconds = Field(0.0, description="for the end of the trial before the answer, in seconds")
