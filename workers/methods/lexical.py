"""Descriptions without an LLM, composed from the most telling tokens on both sides of a feature.

Knows tokens, not meanings: it can't name a topic. It is free, can't be talked into anything, and is a yardstick: a
describer that loses to it has read nothing out of the evidence.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from prompts.composing import Composition, NotApplicable
from schema.evidence import Exemplars, TokenChange, TokenList, VocabularyProjection, Window
from schema.labels import Status

# Natural logarithm of the odds ratio from which a token tells: four times the odds that it has where the feature is
# silent. Odds alone would let in what is in nearly all texts of both kinds, so its share must be thrice as large too.
TELLING_LOG_ODDS = math.log(4)
TELLING_RATIO = 3.0
# Less than this share of the firing windows, and a token tells of a few of them only.
PEAK_SHARE = 0.1
CONTEXT_SHARE = 0.3
N_TRIGGERS = 5
N_BEFORE = 2
N_NEARBY = 4
N_PROMOTED = 10
N_SUPPRESSED = 3
# A token that moves less than a quarter as far as the strongest one is in the tail of its list. On 72 features of a
# real autoencoder the embedding judge was right in 0.67 of trials with ten tokens that far, in 0.64 with five half as
# far.
TELLING_PART = 0.25
_BLANKS = {"\n": "newline", "\t": "tab"}


class Telling(NamedTuple):
    """A token that is over-represented, with its share of the weight and its log-odds against the background."""

    key: str
    share: float
    log_odds: float


def lexical_description(
    exemplars: Exemplars | None, vocabulary: VocabularyProjection | None, token_change: TokenChange | None
) -> Composition | NotApplicable:
    """Return such as `fires on "Paris", "London" (after "in"); then promotes "France", "city"`.

    The trigger comes from the describe half's peaks against its silent windows, the effect from token change, else from
    the vocabulary projection. A dead feature has the output side only. `no_pattern` where no token tells.
    """
    trigger = _trigger(exemplars) if exemplars else ""
    promoted, suppressed = _output(vocabulary, token_change)
    effect = "; ".join(
        f"{verb} {_listed(tokens)}" for verb, tokens in (("promotes", promoted), ("suppresses", suppressed)) if tokens
    )
    if not trigger and not effect:
        return NotApplicable(Status.NO_PATTERN, "no token tells more of the feature than of other text")
    fires = "fires " + (trigger if trigger.startswith(("after", "near")) else f"on {trigger}") if trigger else ""
    then = f"promotes {_listed(promoted)}" if promoted else effect
    text = f"{fires}; then {then}" if fires and then else fires or then
    return Composition(text, trigger, effect)


# ------------------------------------------------------------------------------------------------- input side


def _trigger(exemplars: Exemplars) -> str:
    """Return what the peaks share, "" where nothing does."""
    windows = _distinct(exemplars.describe.top + exemplars.describe.weighted + exemplars.describe.uniform)
    silent = exemplars.describe.silent
    peaks = telling_tokens(windows, silent, lambda w: [w.tokens[w.peak]], least_share=PEAK_SHARE)[:N_TRIGGERS]
    before = telling_tokens(windows, silent, _previous, least_share=CONTEXT_SHARE)[:N_BEFORE]
    on = _listed(_surface(windows, token.key) for token in peaks)
    after = f"after {_listed(token.key for token in before)}" if before else ""
    if on:
        return f"{on} ({after})" if after else on
    if after:
        return after
    nearby = telling_words(windows, silent)[:N_NEARBY]
    return f"near {_listed(token.key for token in nearby)}" if nearby else ""


def telling_tokens(
    windows: Sequence[Window],
    silent: Sequence[Window],
    tokens_of: Callable[[Window], Sequence[str]],
    *,
    least_share: float,
) -> list[Telling]:
    """Return the tokens at a place of the firing windows that are rare in silent text, largest share first.

    tokens_of:  the tokens of a firing window that count; each window weighs as much as its activation, and all weights
                together as much as there are windows.
    The background is every token of the silent windows.
    """
    weights = _weights(windows)
    firing = Counter[str]()
    for window, weight in zip(windows, weights, strict=True):
        for key in {_key(token) for token in tokens_of(window)}:
            firing[key] += weight  # type: ignore[assignment]
    background = Counter(_key(token) for window in silent for token in window.tokens)
    return _telling(firing, len(windows), background, background.total(), least_share)


def telling_words(windows: Sequence[Window], silent: Sequence[Window]) -> list[Telling]:
    """Return the words that firing windows hold around the peak more often than silent ones do, largest share first."""
    firing = Counter[str]()
    for window, weight in zip(windows, _weights(windows), strict=True):
        around = window.tokens[: window.peak] + window.tokens[window.peak + 1 :]
        for word in _words(around):
            firing[word] += weight  # type: ignore[assignment]
    background = Counter(word for window in silent for word in _words(window.tokens))
    return _telling(firing, len(windows), background, len(silent), CONTEXT_SHARE)


def log_odds(weight: float, total: float, background: float, background_total: float) -> float:
    """Return the log of the odds ratio, with half an observation added to each cell (Haldane and Anscombe's)."""
    odds = (weight + 0.5) / (total - weight + 0.5)
    return math.log(odds) - math.log((background + 0.5) / (background_total - background + 0.5))


def _telling(
    firing: Counter[str], total: int, background: Counter[str], background_total: int, least_share: float
) -> list[Telling]:
    found = [
        Telling(key, weight / total, log_odds(weight, total, background[key], background_total))
        for key, weight in firing.items()
        if weight >= total * max(least_share, TELLING_RATIO * background[key] / max(background_total, 1))
    ]
    return sorted((t for t in found if t.log_odds >= TELLING_LOG_ODDS), key=lambda t: (-t.share, -t.log_odds, t.key))


def _weights(windows: Sequence[Window]) -> list[float]:
    """Return weights in proportion to activation that sum to the number of windows."""
    activations = [max(window.maximum, 0.0) for window in windows]
    total = sum(activations)
    return [a * len(windows) / total for a in activations] if total > 0 else [1.0] * len(windows)


def _distinct(windows: Iterable[Window]) -> list[Window]:
    return list(dict.fromkeys(windows))


def _previous(window: Window) -> Sequence[str]:
    return window.tokens[window.peak - 1 : window.peak] if window.peak else ()


def _words(tokens: Sequence[str]) -> set[str]:
    """Return the words of at least three letters, without case."""
    words = (word.strip(".,;:!?\"'()[]{}") for word in "".join(tokens).casefold().split())
    return {word for word in words if len(word) >= 3 and word.isalpha()}


def _key(token: str) -> str:
    """Return what makes tokens the same: without outer blanks and case; blank ones by whether they break a line."""
    return token.strip().casefold() or ("\n" if "\n" in token else token[:1])


def _surface(windows: Sequence[Window], key: str) -> str:
    """Return how a peak token is best shown: as the word that holds most of its weight, else as it is written most."""
    pieces, words = Counter[str](), Counter[str]()
    for window in windows:
        token = window.tokens[window.peak]
        if _key(token) == key:
            pieces[token.strip() or token] += window.maximum  # type: ignore[assignment]
            words[_word_at(window)] += window.maximum  # type: ignore[assignment]
    word, weight = words.most_common(1)[0]
    return word if word.strip() and weight >= words.total() / 2 else pieces.most_common(1)[0][0]


def _word_at(window: Window) -> str:
    """Return the word that the peak token is a piece of: the pieces joined to it without a blank, 3 a side at most."""
    start = end = window.peak
    tokens = window.tokens
    while start > max(0, window.peak - 3) and _joined(tokens[start - 1], tokens[start]):
        start -= 1
    while end < min(len(tokens) - 1, window.peak + 3) and _joined(tokens[end], tokens[end + 1]):
        end += 1
    return "".join(tokens[start : end + 1]).strip()


def _joined(left: str, right: str) -> bool:
    return left[-1:].isalpha() and right[:1].isalpha()


# ------------------------------------------------------------------------------------------------- output side


def _output(vocabulary: VocabularyProjection | None, token_change: TokenChange | None) -> tuple[list[str], list[str]]:
    """Return the promoted and the suppressed tokens that tell."""
    if token_change is not None and token_change.telling:
        raised, lowered = token_change.amplified_raised, token_change.amplified_lowered
    elif vocabulary is not None:
        raised, lowered = vocabulary.promoted, vocabulary.suppressed
    else:
        return [], []
    return _strong(raised, 1.0)[:N_PROMOTED], _strong(lowered, -1.0)[:N_SUPPRESSED]


def _strong(tokens: TokenList, sign: float) -> list[str]:
    """Return the readable tokens that move in the right direction, at least a quarter as far as the first."""
    strongest = max((sign * value for value in tokens.values), default=0.0)
    chosen: dict[str, str] = {}
    for token, value in zip(tokens.tokens, tokens.values, strict=True):
        if sign * value > 0 and sign * value >= TELLING_PART * strongest and "\ufffd" not in token:
            chosen.setdefault(_key(token), token.strip() or token)
    return list(chosen.values())


def _listed(tokens: Iterable[str]) -> str:
    return ", ".join(_shown(token) for token in tokens)


def _shown(token: str) -> str:
    """Return a token in quotes, or the name of a blank one."""
    return f'"{token.strip()}"' if token.strip() else _BLANKS.get(_key(token), "blank")
