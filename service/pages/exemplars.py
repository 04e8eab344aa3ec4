"""Exemplars as the feature page shows them: by activation band, each token shaded by how strongly it fires.

A window is one paragraph in the direction of its own first letter, and its tokens are parts of that text: in isolation
of their own, the pieces of an Arabic word would stand in the wrong order. Nothing of a window reaches beyond it, and
the characters that could turn it round inside are shown by their numbers.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from markupsafe import Markup, escape

from schema.evidence import About, Exemplars, Firing, Window

Half = Literal["describe", "score"]
LEVELS = 9
"""Shades of activation, from just above the threshold to the feature's maximum."""
FEW = 4
N_STRONGEST = 8
_BANDS = ((0.75, 1.0), (0.5, 0.75), (0.25, 0.5), (0.0, 0.25))
"""Shares of what lies between the feature's threshold and its maximum."""
_SILENT = "it fires nowhere in them"
_HARD = "a feature with a similar direction fires at the underlined token; this one does not"
_JOINERS = "\u200c\u200d"
"""They shape letters and emoji, and turn nothing round."""
_SIGNS = {"\n": "⏎", "\t": "⇥", "\r": "␍"}


class Shown(NamedTuple):
    """A context of a feature: its activation at the peak, which half of the corpus it is of, and its text."""

    maximum: float
    half: Half
    document: int
    text: Markup


class Group(NamedTuple):
    """Contexts that belong together, and how many more are stored.

    share: about how much of all firing lies in this band; None where that means nothing.
    """

    kind: Literal["strongest", "band", "silent", "hard"]
    name: str
    explained: str
    share: float | None
    shown: tuple[Shown, ...]
    n_more: int


class _Found(NamedTuple):
    window: Window
    half: Half


def strongest(exemplars: Exemplars, n: int) -> tuple[Shown, ...]:
    """Return the contexts of the describe half where a feature fires most, short ones: for a first look."""
    windows = exemplars.describe.top[:n] or exemplars.score.top[:n]
    half: Half = "describe" if exemplars.describe.top else "score"
    return _shown([_Found(around(window), half) for window in windows], exemplars)


def groups(exemplars: Exemplars, *, everything: bool) -> tuple[Group, ...]:
    """Return a feature's contexts by activation band, the strongest first; few of each unless all are wanted."""
    top = _different((exemplars.describe.top, exemplars.score.top))
    first = top if everything else top[:N_STRONGEST]
    known = {_key(one) for one in first}
    sampled = _different((_samples(exemplars, "describe"), _samples(exemplars, "score")))
    shown = _shown(first, exemplars)
    found = [Group("strongest", "Strongest", "the top of either half", None, shown, len(top) - len(first))]
    for low, high in _BANDS:
        band = [one for one in sampled if low < _height(one.window, exemplars) <= high and _key(one) not in known]
        name = f"{low:.0%} to {high:.0%} of the maximum"
        some = band if everything else _spread(band, FEW)
        about = f"activation {_value(exemplars, low)} to {_value(exemplars, high)}"
        share = share_between(exemplars, low, high)
        found.append(Group("band", name, about, share, _shown(some, exemplars), len(band) - len(some)))
    return tuple(group for group in found if group.shown)


def quiet_groups(exemplars: Exemplars, *, everything: bool) -> tuple[Group, ...]:
    """Return contexts where a feature does not fire: any, and ones where a feature near to it does."""
    describe, score = exemplars.describe, exemplars.score
    silent = _of_halves(describe.silent, score.silent)
    hard = _of_halves(describe.hard_negatives, score.hard_negatives)
    some, near = (found if everything else found[:FEW] for found in (silent, hard))
    found = (
        Group("silent", "Silent", _SILENT, None, _shown(some, exemplars), len(silent) - len(some)),
        Group("hard", "Hard negatives", _HARD, None, _shown(near, exemplars), len(hard) - len(near)),
    )
    return tuple(group for group in found if group.shown)


def share_between(firing: Firing, low: float, high: float) -> float | None:
    """Return about how much of a feature's firing lies between two shares of its range; None without a histogram."""
    if not sum(firing.histogram) or len(firing.histogram_edges) != len(firing.histogram) + 1:
        return None
    return _share_below(firing, high) - _share_below(firing, low)


def around(window: Window, before: int = 12, after: int = 6) -> Window:
    """Return the part of a window that is next to its peak."""
    start, end = max(0, window.peak - before), window.peak + after + 1
    cut = {"tokens": window.tokens[start:end], "activations": window.activations[start:end]}
    return window.model_copy(update={**cut, "peak": window.peak - start})


def text_of(window: Window, firing: Firing) -> Markup:
    """Return a window's text: tokens that fire in the shade of their activation, with the value as their title."""
    pairs = enumerate(zip(window.tokens, window.activations, strict=True))
    parts = [_token(text, value, level_of(value, firing), i == window.peak) for i, (text, value) in pairs]
    return Markup("").join(parts).lstrip(" ")


def level_of(activation: float, firing: Firing) -> int:
    """Return the shade of an activation: 0 for silence, then 1 to 9 in equal steps up to the feature's maximum."""
    if not activation > firing.threshold:
        return 0
    reach = firing.max - firing.threshold
    share = (activation - firing.threshold) / reach if reach > 0 else 1.0
    return max(1, min(LEVELS, math.ceil(LEVELS * share)))


def visible(text: str, *, blanks: bool) -> Markup:
    """Return text with what can't be seen made visible; single blanks, too, if `blanks`."""
    if text.isprintable() and "  " not in text and not (blanks and " " in text):
        return escape(text)
    seen = [_character(char, blanks or "  " in text) for char in text]
    return Markup("").join(seen)


def _character(char: str, blanks: bool) -> Markup:
    if char == " ":
        return Markup('<i class="sp"> </i>' if blanks else " ")
    if char in _SIGNS:
        return Markup('<i class="ws">{}</i>').format(_SIGNS[char])
    if char.isprintable() or char in _JOINERS:
        return escape(char)
    return Markup('<i class="ws">\\u{{{:x}}}</i>').format(ord(char))


def _token(text: str, activation: float, level: int, is_peak: bool) -> Markup:
    if is_peak and level:
        value = f"{activation:.3g}"
        peak = Markup('<mark class="a{0}" tabindex="0" title="{1}" data-value="{1}">{2}</mark>')
        return peak.format(level, value, visible(text, blanks=True))
    if level:
        return Markup('<span class="a{}" title="{:.3g}">{}</span>').format(
            level, activation, visible(text, blanks=True)
        )
    return Markup("<u>{}</u>").format(visible(text, blanks=True)) if is_peak else visible(text, blanks=False)


def _samples(exemplars: Exemplars, half: Half) -> tuple[Window, ...]:
    split = getattr(exemplars, half)
    return (*split.weighted, *split.uniform)


def _different(halves: tuple[Sequence[Window], Sequence[Window]]) -> list[_Found]:
    """Return windows of both halves, strongest first; those with the same words around the peak count once."""
    found: dict[tuple[Half, About], _Found] = {}
    for one in _of_halves(*halves):
        found.setdefault(_key(one), one)
    return sorted(found.values(), key=lambda one: (-one.window.maximum, one.half, one.window.document))


def _of_halves(described: Iterable[Window], scored: Iterable[Window]) -> list[_Found]:
    return [_Found(window, "describe") for window in described] + [_Found(window, "score") for window in scored]


def _key(found: _Found) -> tuple[Half, About]:
    return found.half, found.window.about


def _share_below(firing: Firing, share: float) -> float:
    """Return how much of the firing lies below a share of the range, taken to be even inside a bin."""
    if share in (0.0, 1.0):
        return share
    limit = firing.threshold + share * (firing.max - firing.threshold)
    bins = zip(firing.histogram_edges, firing.histogram_edges[1:], firing.histogram, strict=False)
    inside = sum(n * min(1.0, max(0.0, (limit - low) / (high - low))) for low, high, n in bins)
    return inside / sum(firing.histogram)


def _height(window: Window, firing: Firing) -> float:
    reach = firing.max - firing.threshold
    return (window.maximum - firing.threshold) / reach if reach > 0 else 1.0


def _value(firing: Firing, share: float) -> str:
    return f"{firing.threshold + share * (firing.max - firing.threshold):.3g}"


def _spread(found: Sequence[_Found], n: int) -> list[_Found]:
    """Return n of a list, evenly from its beginning to its end."""
    if len(found) <= n:
        return list(found)
    return [found[round(i * (len(found) - 1) / (n - 1))] for i in range(n)]


def _shown(found: Iterable[_Found], firing: Firing) -> tuple[Shown, ...]:
    return tuple(Shown(window.maximum, half, window.document, text_of(window, firing)) for window, half in found)
