"""The tokens of the contexts that exemplars refer to, once for all features, dictionaries and runs.

A *reading* is a corpus as one tokenizer reads it, in contexts of one length; its contexts never change. They outlive
the dictionaries whose exemplars refer to them, for others may: a reading is never larger than its corpus.
"""

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from schema.contexts import Texts
from schema.packing import pack_texts, unpack_texts
from schema.store.database import Connection
from schema.store.queries import load_queries

_queries = load_queries("contexts")


class Reading(NamedTuple):
    """Where contexts come from: the recipe of the reading, and from numbers of contexts to their tokens."""

    recipe: str
    texts: Callable[[Sequence[int]], Texts]


def put(connection: Connection, reading: Reading, numbers: Collection[int]) -> int:
    """Write those contexts of a reading that are not stored yet, and return the reading's id.

    In the order of their numbers, so that writers of the same contexts wait for each other and never in a circle.
    """
    _queries.add_reading(connection, recipe=reading.recipe)
    reading_id: int = _queries.reading(connection, recipe=reading.recipe)
    known = {number for (number,) in _queries.present(connection, reading_id=reading_id, numbers=list(numbers))}
    new = sorted(set(numbers) - known)
    made = reading.texts(new) if new else {}
    packed = [pack_texts(made[number]) for number in new]
    _queries.put(connection, reading_id=reading_id, numbers=new, tokens=packed)
    return reading_id


def load(connection: Connection, reading_id: int, numbers: Collection[int]) -> Texts:
    """Return the tokens of some contexts; those that are not stored are left out."""
    rows = _queries.load(connection, reading_id=reading_id, numbers=list(numbers))
    return {number: unpack_texts(packed) for number, packed in rows}
