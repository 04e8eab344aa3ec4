"""The short form of `make chaos`: some faults, few features, one stack."""

from collections.abc import Iterator

import pytest

from tests.chaos.__main__ import BUSY, arena_folder, check_added
from tests.chaos.arena import Arena, open_arena
from tests.chaos.faults import FAULTS
from tests.chaos.trial import SHORT, Outcome


@pytest.fixture(scope="module")
def arena() -> Iterator[Arena]:
    with arena_folder() as folder, open_arena(folder) as opened:
        yield opened


@pytest.mark.parametrize("name", ["kill", "redis-down", "postgres", "cancel"])
def test_nothing_is_lost_doubled_or_left_in_hand(arena: Arena, name: str) -> None:
    outcome = FAULTS[name](arena, SHORT)
    assert (outcome.lost, outcome.doubled) == (0, 0)
    assert outcome.injected > 0
    assert (outcome.added_s or 0.0) <= (outcome.recovered_s or 0.0)


def test_a_fault_that_adds_more_than_it_may_fails_on_a_machine_that_is_not_too_busy() -> None:
    outcome = Outcome("one", 1, 0, 0, 9.0, 4.0, 4.0, 1.0, "")
    check_added(outcome)
    with pytest.raises(AssertionError, match=r"one added 4\.1 s; at most 4"):
        check_added(outcome._replace(added_s=4.1, load=BUSY))
    check_added(outcome._replace(added_s=4.1, load=BUSY + 0.1))
