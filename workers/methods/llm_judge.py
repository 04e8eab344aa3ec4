"""The LLM as a judge of output evaluation: its trials, which of them are controls, and what its verdicts amount to.

A trial shows three sets of steered texts under letters, and a description. The room knows neither prompts nor calls.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from schema.labels import Status
from workers.methods.output_evaluation import CHANCE, Pair, TextSet
from workers.methods.statistics import Measurement, chance, measured, stream, unmeasured, wilson

LETTERS = "ABC"


class JudgeTrial(NamedTuple):
    """What an LLM judge is shown: three sets in order, and the letter of the right one."""

    features: tuple[int, int, int]
    sets: tuple[TextSet, TextSet, TextSet]
    correct: str


def judge_trial(seed: int, feature: int, trial: int, pair: Pair, sets: Mapping[int, TextSet]) -> JudgeTrial:
    """Return one trial of a feature against a pair of distractors.

    The right set's letter is drawn for the first trial and moves on with each one, so that three trials have it once
    under every letter and a judge that prefers one is right exactly once. The distractors' order is drawn.
    """
    generator = stream(seed, "judge", feature)
    correct = (int(generator.integers(3)) + trial) % 3
    order = [int(i) for i in stream(seed, "judge_order", feature, trial).permutation(pair)]
    order.insert(correct, feature)
    a, b, c = order
    return JudgeTrial((a, b, c), (sets[a], sets[b], sets[c]), LETTERS[correct])


def judge_trials(
    seed: int, feature: int, n: int, pairs: Sequence[Pair], sets: Mapping[int, TextSet]
) -> tuple[JudgeTrial, ...]:
    """Return up to n trials, each with fresh distractors: give the report pairs, which are disjoint first."""
    return tuple(judge_trial(seed, feature, trial, pair, sets) for trial, pair in enumerate(pairs[:n]))


def control_trials(n_trials: int) -> int:
    """Return how often a control is asked for: trials rounded up to threes, so that each letter is right as often.

    A judge that prefers a letter where it does not know is then at 1/3 on the controls, whatever letters were drawn.
    """
    return math.ceil(n_trials / len(LETTERS)) * len(LETTERS)


def control_features(seed: int, features: Collection[int], n_trials: int) -> frozenset[int]:
    """Return the features whose LLM trials are repeated with a wrong description: a tenth, at least 20.

    Fewer where each is asked about in more trials than a description: the calls are as many.
    """
    n = math.ceil(max(20, len(features) / 10) * control_share(n_trials))
    return frozenset(int(i) for i in stream(seed, "llm_control").permutation(sorted(features))[:n])


def control_share(n_trials: int) -> float:
    """Return how many trials a description has for each that a control has; 1 or less."""
    return n_trials / max(1, control_trials(n_trials))


Verdict = bool | Status
"""Right or wrong; or why there is no verdict (refused, unparsed, failed)."""


def verdict(trial: JudgeTrial, letter: str) -> bool:
    """Return whether the judge named the right set."""
    if len(letter) != 1 or letter.upper() not in LETTERS:
        raise ValueError(f"{letter=}; must be one of {', '.join(LETTERS)}")
    return letter.upper() == trial.correct


def evaluate_output_llm(verdicts: Sequence[Verdict], control: Sequence[Verdict] = ()) -> Measurement:
    """Return the share of trials in which the LLM judge named the right set.

    verdicts: one a trial. Trials without a verdict are counted in the details and take no part.
    control:  verdicts on the same sets with a wrong feature's description; without any the control is chance, 1/3.
    Success:  right in more than half of the trials that have a verdict (with one trial, the paper's).
    Status:   of the commonest failure when no trial has a verdict; `not_applicable` without trials.
    """
    judged, failed = _split(verdicts)
    controlled, control_failed = _split(control)
    details: dict[str, object] = {
        "verdicts": [str(v) if isinstance(v, Status) else v for v in verdicts],
        "control_verdicts": [str(v) if isinstance(v, Status) else v for v in control],
        "n_failed": len(failed),
        "n_control_failed": len(control_failed),
        "control_is": "measured" if controlled else "chance",
    }
    if not judged:
        status = max(sorted(failed), key=failed.count) if failed else Status.NOT_APPLICABLE
        return unmeasured(status, f"{len(verdicts)} trials, none with a verdict", details)
    baseline = wilson(sum(controlled), len(controlled)) if controlled else chance(CHANCE)
    estimate = wilson(sum(judged), len(judged))
    return measured(estimate, baseline, details, success=sum(judged) > len(judged) / 2)


def _split(verdicts: Sequence[Verdict]) -> tuple[list[bool], list[Status]]:
    return [v for v in verdicts if isinstance(v, bool)], [v for v in verdicts if isinstance(v, Status)]
