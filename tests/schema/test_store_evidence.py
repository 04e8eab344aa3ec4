"""Evidence in a real Postgres: exemplars come back whole, and contexts are stored once."""

import threading
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from schema.contexts import Reference, References, SplitReferences, Texts, context_number
from schema.errors import GlossariumError
from schema.evidence import Calibration, Exemplars, Window
from schema.labels import Provenance
from schema.store import database, evidence
from schema.store.contexts import Reading
from schema.store.database import Connection

CONTEXTS: Texts = {
    context_number(document, 0): tuple(f" {document}:{i}" for i in range(length))
    for document, length in enumerate([6, 40, 9, 9, 3])
}
EMPTY = SplitReferences(top=(), uniform=(), weighted=(), silent=(), hard_negatives=())
MADE = Provenance(recipe="r", document={"seed": 1})


@pytest.fixture
def dictionary(connection: Connection, run_id: uuid.UUID) -> uuid.UUID:
    """Return a stored dictionary."""
    (found,) = connection.execute("SELECT dictionary_id FROM run WHERE id = %s", (run_id,)).fetchone() or (None,)
    assert isinstance(found, uuid.UUID)
    return found


def at(document: int, position: int, *activations: float) -> Reference:
    return Reference(context=context_number(document, 0), position=position, activations=activations)


def references(*top: Reference, silent: Sequence[Reference] = ()) -> References:
    """Return exemplars whose windows have two tokens before the peak and one behind it."""
    return References(
        n_tokens=58,
        n_firing=3,
        threshold=0.0,
        sum=7.5,
        max=4.0,
        histogram_edges=(1.0, 2.0),
        histogram=(3,),
        before=2,
        after=1,
        describe=EMPTY.model_copy(update={"top": top, "silent": tuple(silent)}),
        score=EMPTY,
    )


class Source:
    """A reading of the contexts above that remembers for which it was asked."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, numbers: Sequence[int]) -> Texts:
        self.asked += numbers
        return {number: CONTEXTS[number] for number in numbers}


def stored(connection: Connection) -> list[tuple[str, int]]:
    rows = connection.execute("SELECT recipe, number FROM context JOIN reading ON id = reading_id ORDER BY 1, 2")
    return [(recipe, number) for recipe, number in rows]


def test_histograms_are_those_of_the_newest_exemplars(connection: Connection, dictionary: uuid.UUID) -> None:
    newer = references().model_copy(update={"histogram_edges": (1.0, 2.0, 4.0), "histogram": (2, 9)})
    reading = Reading("bundled", Source())
    evidence.put_exemplars(connection, dictionary, MADE, {7: references(), 8: references()}, reading)
    evidence.put_exemplars(connection, dictionary, Provenance(recipe="new", document={}), {7: newer}, reading)
    assert evidence.histograms(connection, dictionary, [6, 7, 8]) == {7: (2, 9), 8: (3,)}


def test_exemplars_come_back_with_the_tokens_of_their_windows(connection: Connection, dictionary: uuid.UUID) -> None:
    folded = references(
        at(1, 10, 0.0, 0.5, 4.0, 1.0), at(0, 5, 0.0, 0.0, 2.0, 0.0), at(4, 1, 0.0, 0.25, 1.0, 0.0), silent=[at(2, 0)]
    )
    evidence.put_exemplars(connection, dictionary, MADE, {7: folded}, Reading("bundled", Source()))
    found = evidence.load(connection, dictionary, Exemplars, "r", [7, 8])
    assert found.keys() == {7}
    assert found[7].describe.top == (
        Window(
            document=1, position=10, peak=2, tokens=(" 1:8", " 1:9", " 1:10", " 1:11"), activations=(0.0, 0.5, 4.0, 1.0)
        ),
        Window(document=0, position=5, peak=2, tokens=(" 0:3", " 0:4", " 0:5"), activations=(0.0, 0.0, 2.0)),
        Window(document=4, position=1, peak=1, tokens=(" 4:0", " 4:1", " 4:2"), activations=(0.25, 1.0, 0.0)),
    )
    assert found[7].describe.silent == (
        Window(document=2, position=0, peak=0, tokens=(" 2:0", " 2:1"), activations=(0.0, 0.0)),
    )
    assert (found[7].n_firing, found[7].max, found[7].histogram, found[7].density) == (3, 4.0, (3,), 3 / 58)
    latest = evidence.latest(connection, dictionary, 7)
    assert latest == {"exemplars": evidence.Stored(found[7], MADE)}


def test_what_exemplars_are_for_people_has_no_trace_of_how_they_are_stored() -> None:
    assert list(Exemplars.model_fields) == [
        *("n_tokens", "n_firing", "threshold", "sum", "max", "histogram_edges", "histogram", "describe", "score")
    ]
    assert list(Window.model_fields) == ["document", "position", "peak", "tokens", "activations"]


def test_features_and_dictionaries_share_contexts_and_readings_do_not(
    connection: Connection, dictionary: uuid.UUID
) -> None:
    one, two = references(at(0, 1, 1.0), at(1, 1, 1.0)), references(at(1, 2, 2.0), at(2, 1, 1.0))
    first, second = Source(), Source()
    evidence.put_exemplars(connection, dictionary, MADE, {0: one, 1: one}, Reading("a", first))
    evidence.put_exemplars(connection, dictionary, MADE, {2: two}, Reading("a", second))
    numbers = [context_number(document, 0) for document in range(3)]
    assert first.asked == numbers[:2]
    assert second.asked == numbers[2:]
    assert stored(connection) == [("a", number) for number in numbers]
    evidence.put_exemplars(
        connection, dictionary, MADE.model_copy(update={"recipe": "other"}), {2: two}, Reading("b", second)
    )
    assert stored(connection) == [("a", number) for number in numbers] + [("b", number) for number in numbers[1:]]


def test_writers_of_the_same_contexts_neither_lose_nor_double_any(
    connection: Connection, database_url: str, dictionary: uuid.UUID
) -> None:
    connection.commit()
    n_writers, n_features = 4, 25
    start = threading.Barrier(n_writers)
    many = {context_number(document, 0): (f" {document}",) * 4 for document in range(60)}

    def write(writer: int) -> None:
        own = database.connect(database_url)
        start.wait()
        with own:
            for feature in range(n_features):
                documents = [(7 * writer + 11 * feature + i * (-1) ** writer) % 60 for i in range(30)]
                made = references(*(at(document, 1, 0.0, 0.0, 1.0, 0.0) for document in documents))
                reading = Reading("shared", lambda numbers: {number: many[number] for number in numbers})
                evidence.put_exemplars(own, dictionary, MADE, {n_features * writer + feature: made}, reading)
                own.commit()

    with ThreadPoolExecutor(n_writers) as pool:
        list(pool.map(write, range(n_writers)))
    assert stored(connection) == [("shared", number) for number in many]
    found = evidence.load(connection, dictionary, Exemplars, "r", range(n_writers * n_features))
    assert len(found) == n_writers * n_features
    assert all(window.tokens[1] == f" {window.document}" for one in found.values() for window in one.describe.top)


def test_a_context_that_is_gone_is_named(connection: Connection, dictionary: uuid.UUID) -> None:
    evidence.put_exemplars(connection, dictionary, MADE, {0: references(at(3, 1, 1.0))}, Reading("a", Source()))
    connection.execute("DELETE FROM context")
    with pytest.raises(GlossariumError, match=f"context {context_number(3, 0)} is not stored"):
        evidence.load(connection, dictionary, Exemplars, "r", [0])


def test_contexts_stay_when_a_dictionary_goes(connection: Connection, dictionary: uuid.UUID) -> None:
    evidence.put_exemplars(connection, dictionary, MADE, {0: references(at(3, 1, 1.0))}, Reading("a", Source()))
    connection.execute("DELETE FROM run")
    connection.execute("DELETE FROM dictionary WHERE id = %s", (dictionary,))
    assert connection.execute("SELECT count(*) FROM evidence").fetchone() == (0,)
    assert len(stored(connection)) == 1


def test_other_kinds_need_no_contexts(connection: Connection, dictionary: uuid.UUID) -> None:
    curve = Calibration(residual_norm=3.5, amplified=(), suppressed=(), targets=())
    evidence.put(connection, dictionary, "calibration", MADE, {4: curve})
    evidence.put(connection, dictionary, "calibration", MADE, {})
    evidence.put_exemplars(connection, dictionary, MADE, {}, Reading("a", Source()))
    assert evidence.load(connection, dictionary, Calibration, "r", [4, 5]) == {4: curve}
    assert stored(connection) == []
