"""Collections: dictionaries that belong together, and runs over all of them; on the wire and in the store.

A run of a collection is a run of each of its dictionaries. Runs of one subject read the corpus together, in a *pass*.
"""

from collections.abc import Hashable, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from pydantic import Field

from schema.budgets import NANO, in_words
from schema.errors import BadBudget
from schema.records import Budget, Dictionary, Record, Run, RunSpec, RunTerms

MOST_DICTIONARIES = 1000
FEATURES_PER_PASS = 2**17
"""What has been seen of 65,536 features takes up to 1.6 GiB (docs/decisions/7), beside their weights. Most of
a pass of so many is their encoding, which nothing shares."""


class CollectionSpec(Record):
    """What a user submits to make a collection of dictionaries that are there."""

    name: str = Field(min_length=1, max_length=200)
    dictionary_ids: tuple[UUID, ...] = Field(
        min_length=1, max_length=MOST_DICTIONARIES, description="in their order; no two of one name"
    )


class Collection(Record):
    """A stored collection. Dictionaries that were deleted are no longer in it."""

    id: UUID
    name: str
    dictionaries: tuple[Dictionary, ...]
    created_at: datetime


class CollectionRun(Record):
    """A run over a collection: a run of each dictionary, in their order, without their stages."""

    id: UUID
    collection_id: UUID
    spec: RunTerms = Field(description="`features` is selected in each dictionary; the budget is that of all together")
    created_at: datetime
    runs: tuple[Run, ...]


class CollectionPage(Record):
    """Collections, newest first."""

    items: tuple[Collection, ...]
    next_cursor: str | None


class CollectionRunPage(Record):
    """Runs over a collection, newest first."""

    items: tuple[CollectionRun, ...]
    next_cursor: str | None


def spec_for(terms: RunTerms, dictionary_id: UUID, budget: Budget | None) -> RunSpec:
    """Return what is asked of the run of one dictionary."""
    given = {name: getattr(terms, name) for name in RunTerms.model_fields}
    return RunSpec(**{**given, "dictionary_id": dictionary_id, "budget": budget})


class Member(NamedTuple):
    """What decides which corpus pass a dictionary is read in: those of one subject share."""

    subject: Hashable
    n_features: int


def passes(members: Sequence[Member], most: int = FEATURES_PER_PASS) -> list[list[int]]:
    """Return the members, by their positions, that read the corpus together.

    A pass is of one subject and of at most so many features, unless one dictionary alone has more.
    """
    found: list[list[int]] = []
    last: dict[Hashable, tuple[list[int], int]] = {}
    for position, member in enumerate(members):
        together, n_features = last.get(member.subject, ([], most))
        if n_features + member.n_features > most:
            together, n_features = [], 0
            found.append(together)
        together.append(position)
        last[member.subject] = (together, n_features + member.n_features)
    return found


def shares(budget: Budget | None, sizes: Sequence[int]) -> list[Budget | None]:
    """Return each run's share of a budget, by the features that it is about; together they never exceed it.

    Raises: BadBudget if a share would be nothing.
    """
    return [None if budget is None else _share(budget, size, sum(sizes)) for size in sizes]


def _share(budget: Budget, size: int, whole: int) -> Budget:
    tokens = None if budget.tokens is None else budget.tokens * size // whole
    nano = None if budget.dollars is None else round(budget.dollars * NANO) * size // whole
    if tokens == 0 or (nano is not None and nano < NANO // 10**6):
        raise BadBudget(
            f"a budget of {in_words(budget.dollars, budget.tokens)} divided by features leaves one dictionary with "
            f"{size} of {whole} features less than a token or a millionth of a dollar; give more"
        )
    return Budget(dollars=None if nano is None else nano / NANO, tokens=tokens)
