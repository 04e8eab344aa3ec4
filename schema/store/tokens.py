"""The strongest tokens of features' lists, by which they are found: "features that promote this token".

A row a feature with the ids of its tokens, strongest first, under an inverted index of them.
"""

from collections.abc import Mapping, Sequence
from typing import LiteralString, NamedTuple, cast
from uuid import UUID

from psycopg.sql import SQL, Identifier

from schema.search import TOKENS_A_LIST, TokenRank, TokenSide, TokenSource
from schema.store.database import Connection
from schema.store.queries import as_array, load_queries
from schema.store.search import Key

MOST_RANKED = 5000
"""Features with one token that are put in order; a token that more of them have tells little."""
_LONGEST = 500  # characters of a token that is indexed; longer ones are runs of one character

_queries = load_queries("tokens")


class TokenLists(NamedTuple):
    """The tokens of one feature, strongest first: where it fires, and what it does by itself and in contexts."""

    fires: Sequence[str] = ()
    promoted: Sequence[str] = ()
    suppressed: Sequence[str] = ()
    raised: Sequence[str] = ()
    lowered: Sequence[str] = ()


class Ranked(NamedTuple):
    """A feature with a token in its lists."""

    key: Key
    ranks: tuple[TokenRank, ...]


class _Lists(NamedTuple):
    """The two lists of a side and what each was found by."""

    first: str
    first_source: TokenSource
    second: str
    second_source: TokenSource


_SIDES: dict[TokenSide, _Lists] = {
    "promoted": _Lists("promoted", "vocabulary", "raised", "token_change"),
    "suppressed": _Lists("suppressed", "vocabulary", "lowered", "token_change"),
    "fires": _Lists("fires", "exemplars", "fires", "exemplars"),
}


def put(connection: Connection, dictionary_id: UUID, rows: Mapping[int, TokenLists]) -> None:
    """Write (or write again) the lists of some features."""
    short = {feature: TokenLists(*(_strongest(tokens) for tokens in lists)) for feature, lists in rows.items()}
    ids = _ids(connection, sorted({token for lists in short.values() for tokens in lists for token in tokens}))
    arrays = {
        name: [as_array([ids[token] for token in getattr(lists, name)]) for lists in short.values()]
        for name in TokenLists._fields
    }
    _queries.put(connection, dictionary_id=dictionary_id, features=list(short), **arrays)


def find(
    connection: Connection, dictionaries: Sequence[UUID], side: TokenSide, token: str, *, skip: int, most: int
) -> list[Ranked]:
    """Return features that have a token on a side, those that have it highest in a list first."""
    id_ = _queries.id(connection, text=_plain(token))
    if id_ is None:
        return []
    lists = _SIDES[side]
    statement = SQL(cast(LiteralString, _queries.find.sql)).format(
        first=Identifier(lists.first), second=Identifier(lists.second)
    )
    names = {"token": id_, "dictionaries": list(dictionaries), "skip": skip, "most": most, "most_ranked": MOST_RANKED}
    return [_ranked(lists, *row) for row in connection.execute(statement, names, prepare=False)]


def near(connection: Connection, token: str) -> list[str]:
    """Return other tokens that differ from one by blanks around them or case alone."""
    return [text for (text,) in _queries.near(connection, text=_plain(token))]


def _ranked(lists: _Lists, dictionary_id: UUID, feature: int, first: int | None, second: int | None) -> Ranked:
    ranks = {lists.second_source: second, lists.first_source: first}
    found = [TokenRank(source=source, rank=rank) for source, rank in reversed(ranks.items()) if rank is not None]
    return Ranked(Key(dictionary_id, feature), tuple(found))


def _ids(connection: Connection, texts: list[str]) -> dict[str, int]:
    """Return the ids of tokens, in order added where they are new."""
    known = dict(_queries.known(connection, texts=texts))
    new = [text for text in texts if text not in known]
    if new:
        _queries.add(connection, texts=new)
        known |= dict(_queries.known(connection, texts=new))
    return known


def _strongest(tokens: Sequence[str]) -> list[str]:
    """Return the first tokens of a list, each once; equal texts of several ids are one."""
    plain = dict.fromkeys(_plain(token) for token in tokens if token and len(token) <= _LONGEST)
    return list(plain)[:TOKENS_A_LIST]


def _plain(token: str) -> str:
    return token.replace("\0", "\ufffd")
