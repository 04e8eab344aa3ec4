"""What tests say of a label, in words: a verdict a facet, what they come to, and why this description is the label."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from schema.labels import MACHINE, Description, Feature, Label, Score, Sentences, Status

Tone = Literal["good", "bad", "busy", "plain"]
_N_TRIALS = 40
_QUESTIONS: Mapping[str, tuple[str, str]] = {
    "input": ("Input", "Does it fire on what the label says?"),
    "output": ("Output", "Do its steered texts show what the label says?"),
    "output_llm": ("LLM judge", "Does an LLM tell its steered texts by the label?"),
}
_MEASURES: Mapping[str, str] = {
    "input": "AUROC: sentences that were written from it fire more strongly than neutral ones",
    "output": "share of trials in which its embedding is nearest to this feature's texts, among three",
    "output_llm": "share of trials in which the judge picks this feature's texts, among three",
}
_CONTROLS: Mapping[str, str] = {
    "input": "sentences written for other features",
    "output": "labels of other features on the same texts",
    "output_llm": "labels of other features on the same texts",
}
_KINDS: Mapping[str, str] = {
    "detection": "detection",
    "fuzzing": "fuzzing",
    "sensitivity": "sensitivity",
    "embedding_auroc": "embedding AUROC",
    "free_input": "free, input",
    "free_output": "free, output",
}
"""Scores beside the two facets', by the name that a page gives them."""


class Verdict(NamedTuple):
    """What the test of one facet says."""

    facet: str
    name: str
    question: str
    word: str
    tone: Tone
    score: Score | None
    against: str
    measure: str
    control: str

    @property
    def short(self) -> str:
        """Return its name in the middle of a sentence."""
        return self.name if self.name.startswith("LLM") else self.name.lower()


class Summary(NamedTuple):
    """What all tests come to, in one line."""

    text: str
    tone: Tone


class Trial(NamedTuple):
    """One trial of the embedding judge: the two distractors, how right it was, and how right with a wrong label."""

    distractors: tuple[int, ...]
    hit: float
    wrong: int | None
    wrong_hit: float | None


class Written(NamedTuple):
    """A sentence that was written from a description, and how strongly the feature fired on it; None: not known."""

    text: str
    activation: float | None
    fires: bool


class Candidate(NamedTuple):
    """A description with everything that came of it."""

    description: Description
    is_label: bool
    verdicts: tuple[Verdict, ...]
    others: tuple[tuple[str, Score], ...]
    standing: Mapping[str, Any] | None
    activating: tuple[Written, ...]
    neutral: tuple[Written, ...]
    trials: tuple[Trial, ...]
    judged: tuple[str, ...]

    @property
    def was_tried(self) -> bool:
        """Return whether there is more to show of its tests than the scores."""
        return bool(self.activating or self.neutral or self.trials or self.judged or self.others)

    @property
    def origin(self) -> str | None:
        """Return where a description that was imported is from."""
        origin = self.description.parameters.get("origin")
        return None if origin is None else str(origin)


def verdicts_of(scores: Mapping[str, Score]) -> tuple[Verdict, ...]:
    """Return the verdicts of both facets, and of an LLM judge if there was one."""
    facets = [facet for facet in _QUESTIONS if facet != "output_llm" or facet in scores]
    return tuple(_verdict(facet, scores.get(facet)) for facet in facets)


def summary_of(label: Label | None, verdicts: Sequence[Verdict]) -> Summary:
    """Return whether a label is to be believed, as far as its tests tell."""
    if label is None or label.text is None:
        return Summary("No label", "plain")
    tested = [one for one in verdicts if one.score is not None and one.score.success is not None]
    if not tested:
        return Summary("Not tested", "plain")
    passed = [one for one in tested if one.score and one.score.success]
    untested = [one.short for one in verdicts if one not in tested]
    rest = f"; {' and '.join(untested)} not tested" if untested else ""
    if not passed:
        return Summary(f"Fails {_named(tested)}{rest}", "bad")
    names = " and ".join(one.short for one in passed)
    luck = "" if any(_is_clear(one.score) for one in passed) else ", but no more clearly than luck allows"
    if len(passed) < len(tested):
        return Summary(f"Passes {len(passed)} of {len(tested)} tests: {names}{luck}{rest}", "busy")
    return Summary(f"Passes {_named(tested)}{luck}{rest}", "busy" if luck or rest else "good")


def label_scores(feature: Feature) -> dict[str, Score]:
    """Return the scores of the label: those it was published with, else those that its description has by now."""
    label = feature.label
    if label is None:
        return {}
    own = {"input": label.input, "output": label.output, "output_llm": label.output_llm}
    published = {kind: score for kind, score in own.items() if score is not None}
    return published or _by_description(feature.scores).get(label.description_id, {})


def candidates(feature: Feature, sentences: Mapping[int, Sentences]) -> tuple[Candidate, ...]:
    """Return all descriptions: the label's, then as they stood when it was chosen, then those that were not tested."""
    by_description = _by_description(feature.scores)
    standings = _standings(feature.label)
    label_of = feature.label.description_id if feature.label else None
    made = [
        _candidate(one, by_description.get(one.id, {}), standings.get(_name(one)), sentences.get(one.id or 0), label_of)
        for one in feature.descriptions
    ]
    return tuple(sorted(made, key=_place))


def why(label: Label | None) -> str | None:
    """Return why this description is the label and no other; None where nothing was chosen."""
    if label is None:
        return None
    if label.author != MACHINE:
        return "A person wrote it. It stands until it is withdrawn, whatever runs find."
    standings = sorted(_standings(label).values(), key=lambda one: -float(one["low"]))
    if not standings:
        reason = label.choice.get("reason")
        return None if reason is None else str(reason)
    if len(standings) == 1:
        return "It was the only description that could be tested."
    best, next_best = (f"{float(one['low']):.2f}".replace("-", "\N{MINUS SIGN}") for one in standings[:2])
    return (
        f"Of {len(standings)} descriptions that were compared it is the surest: {best}, and the next {next_best} "
        f"({standings[1]['candidate']}). The figure is the 5th percentile of input (AUROC less its control) plus "
        "output (share of trials), on items that were set aside for choosing. The scores here are of other items."
    )


def _named(tested: Sequence[Verdict]) -> str:
    if len(tested) == 1:
        return f"the {tested[0].short} test"
    return "both tests" if len(tested) == 2 else f"all {len(tested)} tests"


def _verdict(facet: str, score: Score | None) -> Verdict:
    name, question = _QUESTIONS[facet]
    word, tone = _word(score)
    measured = score is not None and score.details.get("control_is") != "chance" and score.control is not None
    control = _CONTROLS[facet] if measured or facet == "input" else "chance"
    return Verdict(facet, name, question, word, tone, score, _against(score), _MEASURES[facet], control)


def _word(score: Score | None) -> tuple[str, Tone]:
    if score is None:
        return "not tested", "plain"
    if score.status != Status.OK:
        return str(score.status).replace("_", " "), "plain"
    if score.success is None:
        return "scored", "plain"
    return ("yes", "good") if score.success else ("no", "bad")


def _against(score: Score | None) -> str:
    """Return what the lift says, in words."""
    if score is None or score.lift is None:
        return ""
    low, high = score.lift_low, score.lift_high
    if low is None or high is None:
        return ""
    if low > 0:
        return "better than the control"
    return "worse than the control" if high < 0 else "too few items to tell it from the control"


def _is_clear(score: Score | None) -> bool:
    return score is not None and score.lift_low is not None and score.lift_low > 0


def _by_description(scores: Sequence[Score]) -> dict[int | None, dict[str, Score]]:
    found: dict[int | None, dict[str, Score]] = {}
    for score in scores:
        found.setdefault(score.description_id, {})[score.kind] = score
    return found


def _name(description: Description) -> str:
    """Return what a description is called among the standings of a choice."""
    origin = description.parameters.get("origin")
    return description.method if origin is None else f"{description.method} ({origin})"


def _standings(label: Label | None) -> dict[str, Mapping[str, Any]]:
    found = label.choice.get("standings") if label else None
    return {str(one["candidate"]): one for one in found} if isinstance(found, list) else {}


def _candidate(
    description: Description,
    scores: Mapping[str, Score],
    standing: Mapping[str, Any] | None,
    sentences: Sentences | None,
    label_of: int | None,
) -> Candidate:
    known = ((name, scores.get(kind)) for kind, name in _KINDS.items())
    others = tuple((name, score) for name, score in known if score and score.status != Status.NOT_APPLICABLE)
    written = sentences or Sentences(description_id=0, status=Status.NOT_APPLICABLE, recipe="")
    details = scores["input"].details if "input" in scores else {}
    return Candidate(
        description=description,
        is_label=description.id == label_of,
        verdicts=verdicts_of(scores) if description.status == Status.OK else (),
        others=others,
        standing=standing,
        activating=_written(written.activating, details.get("activating"), details.get("threshold")),
        neutral=_written(written.neutral, details.get("neutral"), details.get("threshold")),
        trials=_trials(scores.get("output")),
        judged=_judged(scores.get("output_llm")),
    )


def _place(candidate: Candidate) -> tuple[bool, float, str]:
    low = float(candidate.standing["low"]) if candidate.standing else -99.0
    worst = 0.0 if candidate.description.status == Status.OK else 100.0
    return not candidate.is_label, worst - low, candidate.description.method


def _written(sentences: Sequence[str], activations: object, threshold: object) -> tuple[Written, ...]:
    """Return sentences with the activations that were measured on them, if there is one of each."""
    least = float(threshold) if isinstance(threshold, int | float) else 0.0
    if not isinstance(activations, list) or len(activations) != len(sentences):
        return tuple(Written(text, None, False) for text in sentences)
    return tuple(Written(text, float(a), float(a) > least) for text, a in zip(sentences, activations, strict=True))


def _trials(score: Score | None) -> tuple[Trial, ...]:
    if score is None:
        return ()
    pairs, hits, wrong, wrong_hits = (_listed(score, key) for key in ("pairs", "hits", "wrong", "wrong_hits"))
    padding = len(pairs) - len(wrong)
    beside = zip([*wrong, *[None] * padding], [*wrong_hits, *[None] * padding], strict=False)
    made = [
        Trial(tuple(pair), float(hit), other, other_hit)
        for pair, hit, (other, other_hit) in zip(pairs, hits, beside, strict=False)
    ]
    return tuple(made[:_N_TRIALS])


def _judged(score: Score | None) -> tuple[str, ...]:
    words = {True: "right", False: "wrong"}
    return tuple(words.get(one, str(one)) for one in _listed(score, "verdicts")) if score else ()


def _listed(score: Score, key: str) -> list[Any]:
    found = score.details.get(key)
    return found if isinstance(found, list) else []
