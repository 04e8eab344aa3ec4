"""Presets are sets of fields that a run takes."""

from uuid import uuid4

import pytest

from schema.errors import InvalidInput
from schema.presets import PRESETS, preset
from schema.records import RunSpec


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_makes_a_run(name: str) -> None:
    RunSpec.model_validate({"dictionary_id": uuid4(), **preset(name)})


def test_the_small_preset_is_the_demos() -> None:
    spec = RunSpec.model_validate({"dictionary_id": uuid4(), **preset("small")})
    assert spec.methods == ("lexical", "max_activating", "vocabulary", "combined")
    assert spec.options.judge_trials == 1


def test_an_unknown_preset_names_those_there_are() -> None:
    with pytest.raises(InvalidInput, match="preset 'tiny'; must be one of default, small"):
        preset("tiny")
