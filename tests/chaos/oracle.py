"""What must hold when a run is over, whatever was done to it."""

from typing import NamedTuple
from uuid import UUID

from tests.chaos.arena import Arena


class Books(NamedTuple):
    """What a run left.

    missing:   descriptions and labels that there should be and are not.
    doubled:   descriptions and labels beyond the one that each should have.
    dead:      jobs that were given up.
    served:    chats that the LLM server was asked.
    settled:   requests that the run's account knows the end of; `unresolved` are still reserved.
    """

    missing: int
    doubled: int
    leased: int
    dead: int
    served: int
    settled: int
    unresolved: int


def balance(arena: Arena, run_id: UUID, served: int) -> Books:
    """Return what a run left, and how often it asked the LLM."""
    methods = len(arena.run(run_id).spec.methods)
    (features,) = arena.query("SELECT count(*) FROM run_feature WHERE run_id = %s AND selected", run_id)[0]
    described = arena.query(
        """SELECT count(*), count(DISTINCT (feature, method)) FROM description
           JOIN run ON run.dictionary_id = description.dictionary_id
           WHERE run.id = %s AND feature IN (SELECT feature FROM run_feature WHERE run_id = run.id AND selected)""",
        run_id,
    )[0]
    labelled = arena.query("SELECT count(*), count(DISTINCT feature) FROM label WHERE run_id = %s", run_id)[0]
    jobs = arena.query(
        "SELECT count(*) FILTER (WHERE state = 'leased'), count(*) FILTER (WHERE state = 'dead') FROM job"
        " WHERE run_id = %s",
        run_id,
    )[0]
    settled, unresolved = arena.query("SELECT n_settled, n_open FROM spending WHERE run_id = %s", run_id)[0]
    return Books(
        missing=features * methods - described[1] + features - labelled[1],
        doubled=described[0] - described[1] + labelled[0] - labelled[1],
        leased=jobs[0],
        dead=jobs[1],
        served=served,
        settled=settled,
        unresolved=unresolved,
    )


def check(books: Books, *, unresolved: int = 0, dead: int = 0) -> None:
    """Assert that nothing is lost, doubled or left in hand, and that every request is in the account.

    unresolved:  requests that may still be reserved: those that were in flight when their worker died.
    """
    assert books.missing == 0, books
    assert books.doubled == 0, books
    assert books.leased == 0, books
    assert books.dead == dead, books
    assert books.settled <= books.served <= books.settled + books.unresolved, books
    assert books.unresolved <= unresolved, books
