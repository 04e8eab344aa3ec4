"""The short form of `make chaos`: some faults, few features, one stack."""

from collections.abc import Iterator

import pytest

from tests.chaos.__main__ import arena_folder
from tests.chaos.arena import Arena, open_arena
from tests.chaos.faults import FAULTS
from tests.chaos.trial import SHORT


@pytest.fixture(scope="module")
def arena() -> Iterator[Arena]:
    with arena_folder() as folder, open_arena(folder) as opened:
        yield opened


@pytest.mark.parametrize("name", ["kill", "redis-down", "postgres", "cancel"])
def test_nothing_is_lost_doubled_or_left_in_hand(arena: Arena, name: str) -> None:
    outcome = FAULTS[name](arena, SHORT)
    assert (outcome.lost, outcome.doubled) == (0, 0)
    assert outcome.injected > 0
