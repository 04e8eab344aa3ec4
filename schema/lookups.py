"""Lookups: the labels of many features of many dictionaries at once, and the features that are like one."""

from typing import Annotated, NamedTuple
from uuid import UUID

from pydantic import Field

from schema.labels import FeatureSummary
from schema.records import Record

MOST = 10_000
"""Features that are looked up at once."""

_Index = Annotated[int, Field(ge=0, le=2**31 - 1)]


class Place(NamedTuple):
    """A feature of a dictionary; in JSON a list of both."""

    dictionary_id: UUID
    feature: _Index


class LabelsWanted(Record):
    """Features whose labels are wanted, in any order; the same one may be there twice."""

    features: tuple[Place, ...] = Field(min_length=1, max_length=MOST, description="[dictionary, index] of each")


class BriefLabel(Record):
    """The current label of a feature without how it was found; a feature of which nothing is said has none."""

    id: int
    text: str | None
    status: str
    method: str | None
    author: str
    input_value: float | None
    input_lift: float | None
    output_value: float | None
    output_lift: float | None


class LabelsFound(Record):
    """The labels of the features that were asked for, in that order; null where there is none."""

    items: tuple[BriefLabel | None, ...]


class SimilarQuery(Record):
    """How many similar features."""

    limit: int = Field(10, ge=1, le=100, description="at most; no more are there than were found with the evidence")


class SimilarFeature(Record):
    """A feature that is like another, and how much: the cosine of their write directions."""

    cosine: float
    feature: FeatureSummary


class SimilarFeatures(Record):
    """The features that are most like one, the nearest first."""

    items: tuple[SimilarFeature, ...]
    reason: str | None = Field(None, description="why there are none")
