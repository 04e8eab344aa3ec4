"""Corpus evaluations: does a description tell contexts where the feature fires, and the tokens on which it does?

Detection asks of held-out contexts whether the feature fires in them; fuzzing, whether the marked tokens are the right
ones. Both show as many positives as negatives, so that a judge that always says yes (or no) has a balanced accuracy of
one half. The room does not know who answers.

Source: Paulo et al. 2024, arXiv 2410.13928; we differ: positives are spread over the activations, half of the negatives
are hard (contexts in which a feature of a similar direction fires), and what is marked wrongly lies in other contexts
than what is marked rightly.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from schema.evidence import Exemplars, SplitExemplars, Window
from schema.labels import Status
from workers.methods.statistics import (
    Measurement,
    balanced_accuracy,
    bootstrap_mean,
    chance,
    measured,
    stream,
    unmeasured,
    wilson,
)

FEWEST = 2
"""Positives, and negatives: with fewer the interval says nothing."""


class Item(NamedTuple):
    """A text that a judge is asked about, and the right answer."""

    text: str
    positive: bool


def detection_items(exemplars: Exemplars, n: int, *, seed: int, feature: int) -> tuple[Item, ...] | Measurement:
    """Return n contexts of the held-out half in random order, half of which the feature fires in.

    Fewer where there are fewer, as many of either side. Status: `dead`, or `too_rare` with less than two of each.
    """
    firing = _spread(_firing(exemplars.score), n // 2)
    others = _negatives(exemplars.score, n - n // 2)
    texts = [window.text for window in firing], [window.text for window in others]
    return _shuffled(exemplars, texts, seed, "detection", feature)


def fuzzing_items(exemplars: Exemplars, n: int, *, seed: int, feature: int) -> tuple[Item, ...] | Measurement:
    """Return n contexts of the held-out half with marked tokens, half of which are marked where the feature fires.

    Of the others, half are contexts where it fires, marked at as many tokens on which it does not, and half hard
    negatives, marked at random. Status: as in `detection_items`.
    """
    firing = _spread(_firing(exemplars.score), n)
    right, rest = firing[::2][: n // 2], firing[1::2]
    places = {id(window): _fired(window, exemplars.threshold) for window in firing}
    n_marks = [len(places[id(window)]) for window in right] or [1]
    generator = stream(seed, "fuzzing_marks", feature)
    n_wrong = n - n // 2
    hard = exemplars.score.hard_negatives[: n_wrong // 2]
    wrong = [_mark_others(window, (), n_marks[i % len(n_marks)], generator) for i, window in enumerate(hard)]
    wrong += [_mark_others(window, places[id(window)], len(places[id(window)]), generator) for window in rest]
    marked = [mark(window, places[id(window)]) for window in right]
    return _shuffled(exemplars, (marked, [text for text in wrong if text][:n_wrong]), seed, "fuzzing", feature)


def _mark_others(window: Window, fired: Sequence[int], n: int, generator: np.random.Generator) -> str | None:
    """Return the window with n random tokens marked, none of those that fired; None if nothing else is left."""
    others = [place for place in range(len(window.tokens)) if place not in fired]
    chosen = generator.permutation(others)[:n].tolist()
    return mark(window, chosen) if chosen else None


def mark(window: Window, places: Iterable[int]) -> str:
    """Return a window's text with the tokens at some places `<<marked>>`, neighbours together, blanks outside."""
    wanted, pieces = frozenset(places), list(window.tokens)
    for place in sorted(wanted):
        text = pieces[place]
        core = text.lstrip(" ") or text
        opening = "" if place - 1 in wanted else "<<"
        closing = "" if place + 1 in wanted else ">>"
        blank = text[: len(text) - len(core)]
        pieces[place] = f"{blank}{opening}{core}{closing}"
    return "".join(pieces)


def evaluate_answers(items: Sequence[Item], answers: Sequence[bool | Status]) -> Measurement:
    """Return the balanced accuracy of a judge's answers, chance being one half.

    answers: one an item; those that are a status take no part and are counted in the details.
    Status:  of the commonest failure where one side has no answer.
    """
    asked = list(zip(items, answers, strict=True))
    failed = [answer for answer in answers if isinstance(answer, Status)]
    positive = [answer for item, answer in asked if item.positive and isinstance(answer, bool)]
    negative = [not answer for item, answer in asked if not item.positive and isinstance(answer, bool)]
    details: dict[str, object] = {
        "n_positive": len(positive),
        "n_negative": len(negative),
        "right_positive": sum(positive),
        "right_negative": sum(negative),
        "n_failed": len(failed),
    }
    if not positive or not negative:
        status = max(sorted(failed), key=failed.count) if failed else Status.NOT_APPLICABLE
        return unmeasured(status, f"{len(items)} contexts, not answered on both sides", details)
    estimate = balanced_accuracy(wilson(sum(positive), len(positive)), wilson(sum(negative), len(negative)))
    return measured(estimate, chance(0.5), details)


def evaluate_sensitivity(
    own: Sequence[float], others: Sequence[Sequence[float]], *, threshold: float, seed: int
) -> Measurement:
    """Return the share of texts written to resemble the feature's exemplars on which it fires.

    own:     its largest activation in each of them.
    others:  the same in texts that resemble other features' exemplars; the control is the mean share over these.
    Source:  Tian et al. 2025, arXiv 2509.23717; we add the control.
    """
    if not own:
        return unmeasured(Status.NOT_APPLICABLE, "no texts were written")
    shares = [_share_above(values, threshold) for values in others if values]
    control = bootstrap_mean(shares, seed=seed, bounds=(0.0, 1.0)) if shares else None
    fired = sum(value > threshold for value in own)
    return measured(wilson(fired, len(own)), control, {"activations": list(own), "n_controls": len(shares)})


def _share_above(values: Sequence[float], threshold: float) -> float:
    return sum(value > threshold for value in values) / len(values)


# ------------------------------------------------------------------------------------------------------------ drawing


def _firing(split: SplitExemplars) -> list[Window]:
    """Return the different firing windows of a split, strongest first."""
    found = dict.fromkeys((*split.top, *split.weighted, *split.uniform))
    return sorted(found, key=lambda window: (-window.maximum, window.document, window.position))


def _spread(windows: Sequence[Window], n: int) -> list[Window]:
    """Return n of the windows at equal steps of rank, both ends included; all where there are no more."""
    if len(windows) <= n:
        return list(windows)
    if n < 2:
        return list(windows[:n])
    return [windows[round(i * (len(windows) - 1) / (n - 1))] for i in range(n)]


def _negatives(split: SplitExemplars, n: int) -> list[Window]:
    """Return n contexts where the feature is silent, half of them hard ones as far as there are any."""
    hard = list(split.hard_negatives)[: n // 2]
    easy = [window for window in split.silent if window not in hard]
    return [*hard, *easy][:n]


def _fired(window: Window, threshold: float) -> list[int]:
    """Return the places of the tokens on which the feature fires; the peak at least."""
    return [i for i, value in enumerate(window.activations) if value > threshold] or [window.peak]


def _shuffled(
    exemplars: Exemplars, sides: tuple[Sequence[str], Sequence[str]], seed: int, purpose: str, feature: int
) -> tuple[Item, ...] | Measurement:
    """Return both sides in one random order, cut to the same length."""
    if not exemplars.n_firing:
        return unmeasured(Status.DEAD, f"never fired in {exemplars.n_tokens} tokens")
    n = min(map(len, sides))
    if n < FEWEST:
        positive, negative = map(len, sides)
        return unmeasured(
            Status.TOO_RARE, f"{positive} contexts where it fires and {negative} others; needs {FEWEST} of each"
        )
    items = [Item(text, side == 0) for side in (0, 1) for text in _even(sides[side], n)]
    order = stream(seed, purpose, feature).permutation(len(items))
    return tuple(items[i] for i in order.tolist())


def _even(texts: Sequence[str], n: int) -> list[str]:
    """Return n of the texts at equal steps, so that what is dropped comes from everywhere."""
    return [texts[math.floor(i * len(texts) / n)] for i in range(n)]
