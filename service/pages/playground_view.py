"""What the playground shows of a trial: values in, values out. Knows no request and no store."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from schema.labels import FeatureSummary
from schema.trials import Continuations, FeatureActivation, SteeredContinuation, TextActivations, Trial

MOST_FEATURES = 150
"""Rows of the list of features; a long text has thousands."""
MOST_OF_TOKEN = 10
N_SHADES = 9
_PATIENT_S = 5.0


class ReadToken(NamedTuple):
    """A token, how strongly it is shaded (0..N_SHADES), and what fires on it, strongest first."""

    text: str
    shade: int
    features: tuple[FeatureActivation, ...]


class FiredFeature(NamedTuple):
    """A feature that is among the strongest of some token.

    share:    its peak over the largest activation that a run found in its corpus; None where none did.
    scale:    what is fully shaded: that largest activation, or the peak.
    position: of the token that it peaks on.
    """

    feature: int
    summary: FeatureSummary | None
    peak: float
    share: float | None
    scale: float
    position: int
    token: str
    n_tokens: int


class Reading(NamedTuple):
    """What fires on a text. `features` are the most telling ones of `n_features`."""

    tokens: tuple[ReadToken, ...]
    features: tuple[FiredFeature, ...]
    n_features: int
    n_fired: int
    n_labelled: int


def reading_of(found: TextActivations) -> Reading:
    """Return the tokens of a text with shades, and its features: those nearest to their own maximum first."""
    known = {one.index: one for one in found.features}
    rows = [token.features[:MOST_OF_TOKEN] for token in found.tokens]
    fired = _fired(rows, [token.token for token in found.tokens], known)
    scales = {one.feature: one.scale for one in fired}
    nearest = [max((one.activation / scales[one.index] for one in row), default=0.0) for row in rows]
    named = zip(found.tokens, _shades(nearest), rows, strict=True)
    tokens = tuple(ReadToken(token.token, shade, row) for token, shade, row in named)
    n_labelled = sum(one.summary is not None and one.summary.label is not None for one in fired)
    return Reading(tokens, tuple(fired[:MOST_FEATURES]), len(fired), sum(map(bool, rows)), n_labelled)


def _shades(values: Sequence[float]) -> list[int]:
    """Return how each token is shaded: 1..N_SHADES from the least to the most of those above 0, 0 for others."""
    above = [value for value in values if value > 0]
    low, high = min(above, default=0.0), max(above, default=0.0)
    spread = high - low
    nearness = [1.0 if spread == 0 else (value - low) / spread for value in values]
    return [1 + round((N_SHADES - 1) * near) if value > 0 else 0 for value, near in zip(values, nearness, strict=True)]


def _fired(
    rows: Sequence[Sequence[FeatureActivation]], tokens: Sequence[str], known: Mapping[int, FeatureSummary]
) -> list[FiredFeature]:
    where: dict[int, list[tuple[float, int]]] = {}
    for position, row in enumerate(rows):
        for one in row:
            where.setdefault(one.index, []).append((one.activation, position))
    found = [_fired_feature(index, places, tokens, known.get(index)) for index, places in where.items()]
    return sorted(found, key=lambda one: (one.share is None, -(one.share or 0.0), -one.peak, one.feature))


def _fired_feature(
    index: int, places: Iterable[tuple[float, int]], tokens: Sequence[str], summary: FeatureSummary | None
) -> FiredFeature:
    places = list(places)
    peak, position = max(places, key=lambda place: (place[0], -place[1]))
    most = summary.max_activation if summary is not None else None
    share = peak / most if most else None
    return FiredFeature(index, summary, peak, share, most or peak, position, tokens[position], len(places))


class Passage(NamedTuple):
    """A text under one strength: as far as it is that without the feature, and from there on."""

    of: SteeredContinuation
    same: str
    rest: str


class Passages(NamedTuple):
    """How a prompt goes on without a feature, and with it."""

    unsteered: str
    steered: tuple[Passage, ...]
    feature: FeatureSummary | None


def passages_of(found: Continuations) -> Passages:
    """Return the texts of a trial, each cut where it leaves the unsteered one."""
    return Passages(found.unsteered, tuple(_passage(found.unsteered, one) for one in found.steered), found.feature)


def _passage(unsteered: str, one: SteeredContinuation) -> Passage:
    text = one.text or ""
    pairs = enumerate(zip(text, unsteered, strict=False))
    n_same = next((i for i, (one_of, other) in pairs if one_of != other), min(len(text), len(unsteered)))
    if n_same < len(text) and not text[n_same].isspace():  # a word that is another is another from its start
        n_same = max(text.rfind(white, 0, n_same) for white in " \n\t") + 1
    return Passage(one, text[:n_same], text[n_same:])


def standing_of(trial: Trial, now: datetime, *, is_heard: bool) -> str:
    """Return how a trial that is not done stands, and what to do about it."""
    if trial.state == "waiting":
        return _waiting(max(0.0, (now - trial.created_at).total_seconds()), is_heard)
    if trial.state == "running":
        since_s = (now - (trial.started_at or trial.created_at)).total_seconds()
        return "The subject is at it." + (" It may have to be loaded first." if since_s > _PATIENT_S else "")
    if trial.state == "cancelled":
        return "It was cancelled."
    if trial.state == "expired":
        return f"It took too long: {trial.reason}."
    return f"{_capital(trial.reason or 'it failed, and no reason is known')}."


def _waiting(since_s: float, is_heard: bool) -> str:
    if not is_heard:
        return "No worker that holds subjects is heard of. Start one (glossarium up), or ask glossarium doctor."
    if since_s < _PATIENT_S:
        return "It waits for a worker that holds the subject."
    return (
        "The workers that hold subjects are busy: with others' texts, or with a run. This has its turn between two "
        "batches of that or, if it is about another subject, when its job is over."
    )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".")
