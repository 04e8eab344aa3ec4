"""What a run is expected to ask: numbers of calls by hand, and how sizes follow the options."""

import uuid
from typing import Any

import pytest

from prompts.estimating import REPAIRS, Expected, Features, expected_calls
from schema.presets import preset
from schema.records import RunSpec


def calls(features: Features, **changes: Any) -> dict[str, float]:
    spec = RunSpec.model_validate({"dictionary_id": uuid.uuid4(), **changes})
    return {one.purpose: one.calls / REPAIRS for one in expected_calls(spec, features)}


def test_calls_of_the_small_preset_by_hand() -> None:
    assert calls(Features(24, 0), **preset("small")) == pytest.approx(
        {
            "describe max_activating": 24,
            "describe vocabulary": 24,
            "describe combined": 24,
            "write": 24,  # one survivor each
            "judge": 24 + 20,  # the label once, and 20 controls
        }
    )


def test_features_of_the_pool_are_described_and_some_written_for() -> None:
    found = calls(Features(100, 30), methods=["lexical", "combined"], evaluations=["input"])
    assert found == pytest.approx({"describe combined": 130, "write": 100 * 2 + 20})


def test_what_the_judge_is_asked_grows_with_trials_methods_and_contexts() -> None:
    options = {"judge_trials": 3, "n_contexts": 20}
    found = calls(
        Features(400, 0),
        methods=["lexical", "combined"],
        evaluations=["output_llm", "detection", "sensitivity"],
        options=options,
    )
    assert found["judge"] == pytest.approx((800 + 40) * 3)
    assert found["judge detection"] == pytest.approx(800 * 2)
    assert found["write similar"] == pytest.approx(400)


def test_nothing_is_asked_without_methods_and_evaluations_that_ask() -> None:
    assert calls(Features(9, 9), methods=["lexical", "concat"], evaluations=["free", "output"]) == {}


@pytest.mark.parametrize("method", ["max_activating", "vocabulary", "token_change", "steered_texts", "combined"])
def test_a_prompt_that_shows_more_is_expected_to_be_longer(method: str) -> None:
    def size(**options: int) -> float:
        spec = RunSpec.model_validate(
            {"dictionary_id": uuid.uuid4(), "methods": [method], "evaluations": [], "options": options}
        )
        (one,) = expected_calls(spec, Features(1, 0))
        return one.prompt_tokens

    more = {"exemplars_in_prompt": 30, "tokens_in_prompt": 90, "n_steered_tokens": 60}
    assert size(**more) > 1.2 * size()


def test_the_papers_prompts_are_expected_to_be_as_long_as_they_are() -> None:
    sizes = {one.purpose: one.prompt_tokens for one in _expected(**preset("paper"))}
    assert sizes["describe max_activating"] > 1000
    assert sizes["describe combined"] > sizes["describe combined_vm"] > sizes["describe vocabulary"]


def _expected(**changes: Any) -> list[Expected]:
    return expected_calls(RunSpec.model_validate({"dictionary_id": uuid.uuid4(), **changes}), Features(1, 0))
