"""Edits: labels that people write over those of runs, on the wire."""

from typing import Annotated

from pydantic import AfterValidator, Field

from schema.labels import MACHINE
from schema.plain import PlainName, PlainText
from schema.records import Record


def _is_a_person(author: str) -> str:
    if author.strip().casefold() == MACHINE:
        raise ValueError(f"is {MACHINE}, which only runs are")
    return author


Seen = Annotated[
    int | None,
    Field(
        ge=1,
        le=2**63 - 1,
        description="the `id` of the label that stood there when you looked; null if there was none",
    ),
]


class LabelEdit(Record):
    """A label by a person: it stands until a person withdraws it, whatever runs find."""

    text: PlainText
    author: Annotated[PlainName, AfterValidator(_is_a_person)]
    note: PlainText | None = Field(None, description="why; kept with the label")
    seen: Seen


class Withdrawal(Record):
    """Which label by a person is to stand no longer."""

    seen: int = Field(ge=1, le=2**63 - 1, description="its `id`")
