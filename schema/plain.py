"""Text that people write and others read: no character in it moves a cursor or makes it read as another text."""

import unicodedata
from typing import Annotated

from pydantic import AfterValidator, Field

# Marks that turn the direction of writing can make a text read as another; a lone byte-order mark has no use at all.
_DIRECTION = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")


def check_readable(text: str) -> str:
    """Return text as it is. Raises ValueError where it holds control characters other than tabs and line ends."""
    for position, character in enumerate(text):
        if _is_control(character) and character not in "\t\n\r":
            raise ValueError(f"holds the control character U+{ord(character):04X} at {position}")
    return text


def check_unmarked(text: str) -> str:
    """Return text as it is. Raises ValueError where it holds control characters or marks of direction."""
    for character in text:
        if character in _DIRECTION or _is_control(character):
            raise ValueError(f"holds the control character U+{ord(character):04X}")
    return text


def check_plain(text: str) -> str:
    """Return text as it is. Raises ValueError where it is blank, or holds control characters or marks of direction."""
    check_unmarked(text)
    if not text.strip():
        raise ValueError("is blank")
    return text


def one_line(text: str) -> str:
    """Return a text as one line, without control characters and marks of direction."""
    return " ".join("".join(" " if c in _DIRECTION or _is_control(c) else c for c in text).split())


def _is_control(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs")


PlainText = Annotated[str, Field(min_length=1, max_length=2000), AfterValidator(check_plain)]
PlainName = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(check_plain)]
