"""Archives: everything that is known of one dictionary, as records without the ids of the installation they come from.

A feature is one line with all that hangs on it. What refers to something else says so by its place: scores and labels
name their description by its place in the feature's list, labels name their run by its number, and evidence names its
provenance by its place in the block's list. So the same content is the same archive, wherever it is stored.
"""

from datetime import datetime
from typing import Any, Literal

from pydantic import AwareDatetime, Field

from schema.evidence import EvidenceKind
from schema.labels import Description, Label, Score
from schema.labels import Sentences as StoredSentences
from schema.packing import VERSION as PACKING
from schema.records import DictionarySpec, Digest, Record, RunSpec
from schema.reports import RunReport

FORMAT = 1
BLOCK = 256
"""Features in one member of an archive."""

_NO_ID = "00000000-0000-0000-0000-000000000000"


class Manifest(Record):
    """What an archive begins with."""

    format: int = FORMAT
    glossarium: str = Field(description="the release that wrote it")
    packing: int = Field(PACKING, description="the version that evidence and contexts are packed in")
    spec: DictionarySpec
    weights_sha256: Digest | None = Field(description="null of neurons, which have none")
    has_weights: bool
    created_at: AwareDatetime


class ArchivedRun(Record):
    """A run of the dictionary; its number is its place. One that was not over is cancelled: nobody works on it here."""

    spec: dict[str, Any] = Field(description="a RunSpec without its dictionary")
    state: Literal["done", "failed", "cancelled"]
    note: str | None
    created_at: AwareDatetime
    started_at: AwareDatetime | None
    finished_at: AwareDatetime | None
    n_features: int | None
    llms: dict[str, Any] | None
    ingredients: dict[str, Any] | None
    report: dict[str, Any] | None = Field(description="a RunReport without run and dictionary")
    reported_at: AwareDatetime | None

    def check(self) -> None:
        """Raise ValidationError where spec or report are none."""
        RunSpec.model_validate({**self.spec, "dictionary_id": _NO_ID})
        if self.report is not None:
            RunReport.model_validate({**self.report, "run_id": _NO_ID, "dictionary_id": _NO_ID})


class ArchivedEvidence(Record):
    """A packed piece of evidence."""

    kind: EvidenceKind
    recipe: str
    payload: str = Field(description="base64 of the bytes as they are stored")
    created_at: AwareDatetime
    provenance: int = Field(ge=0, description="its place among the block's documents")
    reading: str | None = Field(description="the recipe of the reading that exemplars refer to")


class ArchivedSentences(Record):
    """What the writer wrote from a description."""

    body: dict[str, Any]
    created_at: AwareDatetime


class ArchivedDescription(Record):
    """A description and the sentences that were written from it."""

    body: dict[str, Any]
    created_at: AwareDatetime
    sentences: tuple[ArchivedSentences, ...]


class ArchivedScore(Record):
    """A score of the feature, or of one of its descriptions."""

    body: dict[str, Any]
    created_at: AwareDatetime
    description: int | None


class ArchivedLabel(Record):
    """A label that the feature has or had."""

    body: dict[str, Any]
    author: str = Field(min_length=1)
    recipe: str
    created_at: AwareDatetime
    run: int | None
    description: int | None


class ArchivedMember(Record):
    """The feature's place in a run."""

    run: int
    position: int = Field(ge=0)
    selected: bool
    pooled: bool
    label: int | None = Field(None, description="which of the labels the run gave it; older archives do not say")


class ArchivedFeature(Record):
    """A feature with everything that is known of it, in an order that its content decides."""

    feature: int = Field(ge=0)
    density: float | None
    max_activation: float | None
    current: int | None = Field(description="which of the labels is published")
    evidence: tuple[ArchivedEvidence, ...]
    descriptions: tuple[ArchivedDescription, ...]
    scores: tuple[ArchivedScore, ...]
    labels: tuple[ArchivedLabel, ...]
    runs: tuple[ArchivedMember, ...]

    def check(self, n_provenance: int, n_runs: int) -> None:
        """Raise ValueError (ValidationError is one) where a body is no record or a place does not exist."""
        for described in self.descriptions:
            Description.model_validate(described.body)
            for sentences in described.sentences:
                StoredSentences.model_validate({**sentences.body, "description_id": 0})
        for score in self.scores:
            Score.model_validate(score.body)
        for label in self.labels:
            label_of(self.feature, label)
        bodies = [*(one.body for one in self.descriptions), *(one.body for one in self.scores)]
        if any(body["feature"] != self.feature for body in bodies):
            raise ValueError("a description or a score is of another feature")
        described_by = [*(one.description for one in self.scores), *(one.description for one in self.labels)]
        _check_places("description", described_by, len(self.descriptions))
        _check_places("run", [*(one.run for one in self.labels), *(one.run for one in self.runs)], n_runs)
        _check_places("provenance", [one.provenance for one in self.evidence], n_provenance)
        _check_places("current", [self.current], len(self.labels))
        _check_places("label", [one.label for one in self.runs], len(self.labels))


class Block(Record):
    """What stands before the features of a block: the documents that their evidence was made from."""

    provenance: tuple[dict[str, Any], ...]


class ArchivedContext(Record):
    """The tokens of a context of a reading."""

    number: int = Field(ge=0, lt=2**63)
    tokens: str = Field(description="base64 of the bytes as they are stored")


class ReadingHead(Record):
    """What stands before the contexts of a reading."""

    recipe: str


class End(Record):
    """What an archive ends with: the sha256 of every member before it, by name."""

    members: dict[str, Digest]


def label_of(feature: int, label: ArchivedLabel) -> Label:
    """Return an archived label as a record, without the ids of its description and run. Raises ValidationError."""
    return Label.model_validate(
        {
            **label.body,
            "feature": feature,
            "author": label.author,
            "created_at": label.created_at,
            "description_id": None,
        }
    )


def stamp(moment: datetime | None) -> str | None:
    """Return a moment as text that comes back as the same moment."""
    return None if moment is None else moment.isoformat()


def _check_places(what: str, places: list[int | None], n: int) -> None:
    wrong = next((place for place in places if place is not None and not 0 <= place < n), None)
    if wrong is not None:
        raise ValueError(f"{what}={wrong}; there are {n}")
