"""Which dictionaries stay loaded between jobs."""

import uuid
from datetime import UTC, datetime

import pytest

from schema.records import Dictionary, DictionarySpec, Encoder
from tests.tiny import D_MLP, build_subject
from workers.opened import Place, Shelf
from workers.subject import Subject


@pytest.fixture(scope="module")
def subject() -> Subject:
    return build_subject()


def place(subject: Subject, layer: int) -> Place:
    """Return where the neurons of a layer are."""
    spec = DictionarySpec(
        name="n", subject="tiny", read_site=f"mlp_hidden.{layer}", encoder=Encoder(kind="neurons"), n_features=D_MLP
    )
    record = Dictionary(
        id=uuid.uuid4(),
        spec=spec,
        state="ready",
        weights_sha256=None,
        digest=f"{layer:064x}",
        error=None,
        created_at=datetime.now(UTC),
    )
    return Place(record, subject, None)


def test_the_dictionaries_of_a_pass_stay_loaded(subject: Subject) -> None:
    shelf = Shelf(3 * D_MLP)
    loaded = [shelf.get(place(subject, layer)) for layer in range(3)]
    assert [shelf.get(place(subject, layer)) for layer in range(3)] == loaded
    shelf.get(place(subject, 3))
    assert shelf.get(place(subject, 2)) is loaded[2]
    assert shelf.get(place(subject, 0)) is not loaded[0]  # it was used the longest ago


def test_two_dictionaries_stay_however_large_they_are(subject: Subject) -> None:
    shelf = Shelf(1)
    loaded = [shelf.get(place(subject, layer)) for layer in range(3)]
    assert shelf.get(place(subject, 2)) is loaded[2]
    assert shelf.get(place(subject, 1)) is loaded[1]
    assert shelf.get(place(subject, 0)) is not loaded[0]


def test_those_of_a_subject_that_is_no_longer_used_go(subject: Subject) -> None:
    shelf = Shelf(100 * D_MLP)
    loaded = shelf.get(place(subject, 0))
    shelf.get(place(build_subject(seed=1), 0))
    assert shelf.get(place(subject, 0)) is not loaded
