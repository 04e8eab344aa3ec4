"""What is asked of search and what comes back: labels by word and meaning, features by token."""

from typing import Literal
from uuid import UUID

from pydantic import Field, field_validator

from schema.labels import FeatureSummary
from schema.plain import check_readable
from schema.records import Record
from schema.wire import PageQuery, TraitFilter

SearchMode = Literal["words", "meaning", "both"]
Found = Literal["word", "similar_word", "meaning"]
TokenSide = Literal["promoted", "suppressed", "fires"]
TokenSource = Literal["exemplars", "vocabulary", "token_change"]

TOKENS_A_LIST = 10
"""Tokens of each list of a feature by which it can be found."""


class LabelFilter(TraitFilter):
    """Which labels are searched; what is not given does not filter."""

    dictionary_id: UUID | None = Field(None, description="all dictionaries unless given")


class SearchQuery(PageQuery, LabelFilter):
    """A question to the labels."""

    q: str = Field(
        min_length=1,
        max_length=500,
        description='what the label says, or means; for words also "a phrase", `or` and -without',
        examples=["boats on a river"],
    )
    mode: SearchMode = Field("both", description="by their words, by their meaning, or by both")
    limit: int = Field(
        20, ge=1, le=100, description="hits on a page; the first page looks for twice as many, and no fewer than 30"
    )

    @field_validator("q")
    @classmethod
    def _is_text(cls, q: str) -> str:
        """Refuse control characters, and what has nothing to look for."""
        check_readable(q)
        if not q.strip():
            raise ValueError("is blank")
        return q


class SearchHit(Record):
    """A feature whose label answers a question, and why."""

    dictionary_id: UUID
    feature: FeatureSummary
    score: float = Field(description="by which hits are ordered: the sum of 1 / (60 + rank) over the ways it was found")
    why: tuple[Found, ...] = Field(description="`similar_word` where a word is only spelt nearly so")
    similarity: float | None = Field(
        None, description="cosine of question and label; null where the label has no embedding or none was asked for"
    )


class SearchPage(Record):
    """Hits, best first."""

    items: tuple[SearchHit, ...]
    next_cursor: str | None
    note: str | None = Field(None, description="what could not be searched, and why")


class TokenQuery(PageQuery):
    """Which token, and on which side of features."""

    token: str = Field(
        min_length=1, max_length=200, description="exactly, with its leading space if it has one", examples=[" river"]
    )
    side: TokenSide = Field("promoted", description="what the feature does to it, or that it fires on it")
    dictionary_id: UUID | None = Field(None, description="all dictionaries unless given")


class TokenRank(Record):
    """Where a token is in a list of a feature."""

    source: TokenSource
    rank: int = Field(description="1 for the strongest")


class TokenHit(Record):
    """A feature that has a token among the strongest of its lists."""

    dictionary_id: UUID
    feature: FeatureSummary
    ranks: tuple[TokenRank, ...]


class TokenPage(Record):
    """Features, those with the token highest in a list first."""

    items: tuple[TokenHit, ...]
    next_cursor: str | None
    near: tuple[str, ...] = Field((), description="tokens that differ by space or case alone and are known as well")
