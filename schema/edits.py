"""Edits: labels that people write over those of runs, on the wire."""

from typing import Annotated

from pydantic import AfterValidator, Field, ValidationError

from schema.errors import InvalidInput
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


Author = Annotated[PlainName, AfterValidator(_is_a_person)]


class LabelEdit(Record):
    """A label by a person: it stands until a person withdraws it, whatever runs find."""

    text: PlainText
    author: Author | None = Field(None, description="who says so; the name of the API key unless given")
    note: PlainText | None = Field(None, description="why; kept with the label")
    seen: Seen

    def signed(self, name: str) -> "SignedEdit":
        """Return the edit by its author, or by `name` where it has none.

        Raises: InvalidInput if the name can't be an author's.
        """
        try:
            return SignedEdit.model_validate({**self.model_dump(), "author": self.author or name})
        except ValidationError as exc:
            why = exc.errors()[0]["msg"].removeprefix("Value error, ")
            raise InvalidInput(f"the name of your API key, {name[:80]!r}, can't be an author: {why}; give one") from exc


class SignedEdit(LabelEdit):
    """A label by a person who is named."""

    author: Author


class Withdrawal(Record):
    """Which label by a person is to stand no longer."""

    seen: int = Field(ge=1, le=2**63 - 1, description="its `id`")
