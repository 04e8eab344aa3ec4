"""Text that people write and others read: no character in it moves a cursor or makes it read as another text."""

import unicodedata
from typing import Annotated

from pydantic import AfterValidator, Field

_DIRECTION = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")


def check_plain(text: str) -> str:
    """Return text as it is. Raises ValueError where it is blank, or holds control characters or marks of direction."""
    for character in text:
        if character in _DIRECTION or unicodedata.category(character) in ("Cc", "Cs"):
            raise ValueError(f"holds the control character U+{ord(character):04X}")
    if not text.strip():
        raise ValueError("is blank")
    return text


PlainText = Annotated[str, Field(min_length=1, max_length=2000), AfterValidator(check_plain)]
PlainName = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(check_plain)]
