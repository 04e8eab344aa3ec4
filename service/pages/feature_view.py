"""What the feature page shows, from what is known of a feature: pure, and in the order of the page."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple
from uuid import UUID

from markupsafe import Markup

from schema.evidence import Calibration, Exemplars, SteeredText, TokenList, VocabularyProjection
from schema.labels import Feature, FeatureSummary, Label, Sentences
from service.pages.diffing import word_diff
from service.pages.exemplars import Group, Shown, groups, quiet_groups, strongest
from service.pages.statuses import explained, reasons
from service.pages.verdicts import (
    Candidate,
    Summary,
    Verdict,
    candidates,
    label_scores,
    summary_of,
    verdicts_of,
    why,
)

N_FIRST_LOOK = 5
N_TOKENS = 22
N_HISTORY = 20
MOST_CHARACTERS = 400
"""Of a text that others wrote and that stands beside other things."""


class Bar(NamedTuple):
    """A token of a list: its value, that as a share of the list's largest, and whether the other list has it too."""

    token: str
    value: float
    share: float
    is_in_both: bool


class Bars(NamedTuple):
    """A list of tokens as bars, and the rest of it."""

    name: str
    side: str
    bars: tuple[Bar, ...]
    rest: tuple[Bar, ...]


class Bin(NamedTuple):
    """A bar of a histogram: its middle, where it begins and ends, and the tokens in it."""

    middle: float
    low: float
    high: float
    n: int


class CurveRow(NamedTuple):
    """What a strength does to the output in nats, for either sign; None where that sign was not tried."""

    r: float
    amplified: float | None
    suppressed: float | None


class Target(NamedTuple):
    """A column of texts: what was aimed at, and what that took; 0 is unsteered. None: no calibration is stored."""

    kl_nats: float
    alpha: float | None
    achieved: float | None
    reached: bool


class Steered(NamedTuple):
    """Texts of the same prompts side by side: from suppressed over unsteered to amplified. None: not stored."""

    targets: tuple[Target, ...]
    rows: tuple[tuple[str, tuple[str | None, ...]], ...]


class Past(NamedTuple):
    """A label that a feature has or had, and how it differs from the one before."""

    label: Label
    diff: Markup
    is_first: bool


class Near(NamedTuple):
    """A feature with a similar write direction."""

    feature: int
    cosine: float
    summary: FeatureSummary | None


class View(NamedTuple):
    """All that the page shows."""

    summary: Summary
    verdicts: tuple[Verdict, ...]
    why: str | None
    explained: str | None
    reasons: tuple[tuple[str, str], ...]
    candidates: tuple[Candidate, ...]
    first_look: tuple[Shown, ...]
    effects: tuple[Bars, ...]
    groups: tuple[Group, ...]
    quiet_groups: tuple[Group, ...]
    n_hidden: int
    projection: tuple[Bars, ...]
    change: tuple[Bars, ...]
    overlap: int | None
    bins: tuple[Bin, ...]
    logits: tuple[Bin, ...]
    scale: str
    curve: tuple[CurveRow, ...]
    steered: Steered | None
    steered_all: tuple[tuple[str, Steered], ...]
    near: tuple[Near, ...]
    history: tuple[Past, ...]
    n_older: int
    runs: tuple[UUID, ...]


class Known(NamedTuple):
    """What was read of a feature."""

    feature: Feature
    history: Sequence[Label]
    neighbours: Mapping[int, FeatureSummary]
    sentences: Mapping[int, Sentences]


def view(known: Known, *, everything: bool) -> View:
    """Return what the page shows; all exemplars, or few of each band."""
    feature = known.feature
    scores = label_scores(feature)
    verdicts = verdicts_of(scores)
    shown = groups(feature.exemplars, everything=everything) if feature.exemplars else ()
    quiet = quiet_groups(feature.exemplars, everything=everything) if feature.exemplars else ()
    bins = _bins(feature.exemplars)
    texts = feature.steered_texts
    return View(
        summary=summary_of(feature.label, verdicts),
        verdicts=verdicts,
        why=why(feature.label),
        explained=explained(feature),
        reasons=reasons(feature),
        candidates=candidates(feature, known.sentences),
        first_look=strongest(feature.exemplars, N_FIRST_LOOK) if feature.exemplars else (),
        effects=_effects(feature),
        groups=shown,
        quiet_groups=quiet,
        n_hidden=sum(group.n_more for group in (*shown, *quiet)),
        projection=_projection(feature),
        change=_change(feature),
        overlap=_overlap(feature),
        bins=bins,
        logits=_logits(feature.vocabulary),
        scale="log" if _is_geometric(bins) else "linear",
        curve=_curve(feature.calibration),
        steered=_steered(texts.describe, feature.calibration, strongest_only=True) if texts else None,
        steered_all=_all_steered(feature),
        near=_near(feature, known.neighbours),
        history=_history(known.history),
        n_older=max(0, len(known.history) - N_HISTORY),
        runs=tuple(dict.fromkeys(label.run_id for label in known.history if label.run_id is not None))[:2],
    )


# ---------------------------------------------------------------------------------------------------------- token lists


def _effects(feature: Feature) -> tuple[Bars, ...]:
    """Return what the feature promotes and suppresses, for a first look: what steering did, if that is known."""
    change = feature.token_change
    if change is not None and change.telling:
        lists = (change.amplified_raised, change.amplified_lowered)
    elif feature.vocabulary is not None:
        lists = (feature.vocabulary.promoted, feature.vocabulary.suppressed)
    else:
        return ()
    return _bars("Raises", "promote", lists[0], ()), _bars("Lowers", "suppress", lists[1], ())


def _projection(feature: Feature) -> tuple[Bars, ...]:
    found, change = feature.vocabulary, feature.token_change
    if found is None:
        return ()
    raised = change.amplified_raised.ids if change else ()
    lowered = change.amplified_lowered.ids if change else ()
    return _bars("Promoted", "promote", found.promoted, raised), _bars(
        "Suppressed", "suppress", found.suppressed, lowered
    )


def _change(feature: Feature) -> tuple[Bars, ...]:
    change, found = feature.token_change, feature.vocabulary
    if change is None:
        return ()
    promoted = found.promoted.ids if found else ()
    suppressed = found.suppressed.ids if found else ()
    return (
        _bars("Amplified: raised", "promote", change.amplified_raised, promoted),
        _bars("Amplified: lowered", "suppress", change.amplified_lowered, suppressed),
        _bars("Suppressed: raised", "promote", change.suppressed_raised, ()),
        _bars("Suppressed: lowered", "suppress", change.suppressed_lowered, ()),
    )


def _overlap(feature: Feature) -> int | None:
    """Return how many tokens that amplifying raises are among the promoted ones of the projection."""
    if feature.token_change is None or feature.vocabulary is None:
        return None
    return len(set(feature.token_change.amplified_raised.ids) & set(feature.vocabulary.promoted.ids))


def _bars(name: str, side: str, tokens: TokenList, others: Sequence[int]) -> Bars:
    most = max((abs(value) for value in tokens.values), default=0.0) or 1.0
    known = set(others)
    bars = tuple(
        Bar(token, value, abs(value) / most, id_ in known)
        for id_, token, value in zip(tokens.ids, tokens.tokens, tokens.values, strict=True)
    )
    return Bars(name, side, bars[:N_TOKENS], bars[N_TOKENS:])


# ------------------------------------------------------------------------------------------------ firing and its effect


def _bins(exemplars: Exemplars | None) -> tuple[Bin, ...]:
    if exemplars is None or len(exemplars.histogram_edges) != len(exemplars.histogram) + 1:
        return ()
    edges = exemplars.histogram_edges
    return tuple(
        Bin(math.sqrt(low * high) if low > 0 else (low + high) / 2, low, high, n)
        for low, high, n in zip(edges, edges[1:], exemplars.histogram, strict=False)
    )


def _logits(projection: VocabularyProjection | None) -> tuple[Bin, ...]:
    known = projection.histogram if projection else None
    if known is None:
        return ()
    steps = zip(pairwise(known.edges), known.counts, strict=True)
    return tuple(Bin((low + high) / 2, low, high, n) for (low, high), n in steps)


def _is_geometric(bins: Sequence[Bin]) -> bool:
    return bool(bins) and bins[0].low > 0 and bins[-1].high / bins[0].low > 4


def _curve(calibration: Calibration | None) -> tuple[CurveRow, ...]:
    if calibration is None:
        return ()
    amplified = {point.r: point.kl_nats for point in calibration.amplified}
    suppressed = {point.r: point.kl_nats for point in calibration.suppressed}
    return tuple(CurveRow(r, amplified.get(r), suppressed.get(r)) for r in sorted({*amplified, *suppressed}))


def _steered(texts: Sequence[SteeredText], calibration: Calibration | None, *, strongest_only: bool) -> Steered | None:
    """Return texts by prompt and target: of all targets, or of the strongest of either sign."""
    said = {(text.prompt, text.target_kl_nats): text.text for text in texts}
    aims = sorted({target for _, target in said})
    if not aims:
        return None
    shown = sorted({min(aims), 0.0, max(aims)} & set(aims)) if strongest_only else aims
    prompts = dict.fromkeys(text.prompt for text in texts)
    rows = tuple((prompt, tuple(said.get((prompt, aim)) for aim in shown)) for prompt in prompts)
    return Steered(tuple(_target(aim, calibration) for aim in shown), rows)


def _all_steered(feature: Feature) -> tuple[tuple[str, Steered], ...]:
    """Return all texts that were kept: those that describers see, if there are more targets, and those for judges."""
    texts, known = feature.steered_texts, feature.calibration
    if texts is None:
        return ()
    described = _steered(texts.describe, known, strongest_only=False)
    judged = _steered(texts.score, known, strongest_only=False)
    more = [("All targets", described)] if described and len(described.targets) > 3 else []
    return (*more, ("Texts that only judges see", judged)) if judged else tuple(more)


def _target(aim: float, calibration: Calibration | None) -> Target:
    for target in calibration.targets if calibration else ():
        if target.target_kl_nats == aim:
            return Target(aim, target.alpha, target.achieved_kl_nats, target.reached)
    return Target(aim, None, None, True)


# ------------------------------------------------------------------------------------------------- beside and before it


def _near(feature: Feature, summaries: Mapping[int, FeatureSummary]) -> tuple[Near, ...]:
    found = feature.vocabulary
    if found is None:
        return ()
    return tuple(
        Near(index, cosine, summaries.get(index)) for index, cosine in zip(found.neighbours, found.cosines, strict=True)
    )


def _history(labels: Sequence[Label]) -> tuple[Past, ...]:
    before = [*labels[1:], None]
    return tuple(
        Past(label, word_diff(cut(old.text if old else ""), cut(label.text)), old is None)
        for label, old in list(zip(labels, before, strict=False))[:N_HISTORY]
    )


def cut(text: str | None) -> str:
    """Return the beginning of a text, with a sign where it goes on."""
    said = text or ""
    return said if len(said) <= MOST_CHARACTERS else f"{said[:MOST_CHARACTERS]}…"
