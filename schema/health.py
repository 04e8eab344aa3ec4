"""How a dictionary does on its subject: what was measured on a few thousand tokens, and what it means."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import Field

from schema.records import DictionarySpec, Record

Mistake = Literal["layer", "hook", "scale", "normalisation", "bias", "transposition", "threshold"]


class Norms(Record):
    """Norms of the rows of a matrix, one a feature."""

    smallest: float
    median: float
    largest: float


class Sink(Record):
    """What a dictionary does at the first position of a context, which is left out of everything else."""

    norm: float = Field(description="of the value that is read, in medians of the other positions")
    fvu: float | None
    l0: float


class Suspicion(Record):
    """A mistake that would explain what was measured: with it undone, the dictionary reconstructs better."""

    mistake: Mistake
    suggestion: str
    fvu: float = Field(description="with the mistake undone")
    by_dimension: float = Field(description="the same, as a mean over dimensions")
    certain: bool = Field(description="so much is gained that it can be nothing else")


class Health(Record):
    """How a dictionary does on its subject.

    `fvu` and `l0` are null for neurons and plain directions, which reconstruct nothing and are never silent.
    """

    n_tokens: int
    fvu: float | None = Field(description="fraction of the variance at the write site that is not reconstructed")
    l0: float | None = Field(description="features that fire on a token, on average")
    dead: float | None = Field(description="share of the features that fire on none of the tokens")
    sink: Sink | None
    suspicions: tuple[Suspicion, ...] = Field((), description="the likeliest first")
    verdict: str = Field(description="in a sentence")
    fits: bool = Field(description="false where a run would be wasted")


class MeasuredHealth(Health):
    """How a dictionary does on its subject, as a run found it on its corpus."""

    run_id: UUID
    measured_at: datetime


class TensorShape(Record):
    """A tensor of the canonical form."""

    name: str
    dtype: str
    shape: tuple[int, ...]


class Inspection(Record):
    """What is known of a dictionary before it is submitted."""

    found: str
    spec: DictionarySpec
    tensors: tuple[TensorShape, ...]
    encoder_norms: Norms | None
    decoder_norms: Norms | None
    duplicates: float | None = Field(description="share of the features with a near twin among the others")
    labels: int = Field(description="features that the files name")
    health: Health | None
    unmeasured: str | None = Field(description="why there is no health")
