"""The reporter's room: everything that a run's jobs left, as the few figures of its report.

Reads features some at a time, and keeps of each no more than its figures.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import NamedTuple, get_args
from uuid import UUID

from schema.labels import Label, Score, ScoreKind, Status
from schema.records import Method, RunSpec
from schema.reports import (
    DeadFeatures,
    LabelReport,
    LabelStatus,
    MethodReport,
    RankedFeature,
    Ranking,
    RunReport,
    StatusShare,
    Summary,
)
from schema.stages import Stage
from schema.store import calls, jobs, labels, reports, runs, scores
from schema.store.database import Connection
from schema.store.reports import Described
from workers.desk import Block, described_ids, read_block
from workers.engine import Context, Outcome
from workers.methods.summaries import Lows, Tally, extremes
from workers.score_recipe import score_recipe

N_EXTREME = 5
_AT_ONCE = 500  # features: some megabytes of scores

_KINDS: dict[str, ScoreKind] = {
    "input": "input",
    "output": "output",
    "output_llm": "output_llm",
    "free": "embedding_auroc",
    "detection": "detection",
    "fuzzing": "fuzzing",
}
"""What is scored of a label, by the evaluation that asks for it."""

_BY_LLM = frozenset({"output_llm", "detection", "fuzzing"})

Tallies = dict[ScoreKind, Tally]


class Batch(NamedTuple):
    """Some features of a run, with what the run left of them."""

    features: Sequence[int]
    labels: Mapping[int, Label]
    descriptions: Sequence[Described]
    scores: Mapping[int, Sequence[Score]]


class Findings:
    """What is gathered of a run, feature after feature."""

    def __init__(self, spec: RunSpec) -> None:
        self.labels: Tallies = {kind: Tally(kind) for name, kind in _KINDS.items() if name in spec.evaluations}
        self.features: Tallies = {}
        self.methods: dict[Method, Tallies] = {method: {} for method in spec.methods}
        self.statuses: Counter[LabelStatus] = Counter()
        self.winners: Counter[Method] = Counter()
        self.described: dict[Method, Counter[Status]] = defaultdict(Counter)
        self.lows: list[Lows] = []
        self.n_tested_dead = self.n_revived = 0

    def add(self, batch: Batch) -> None:
        """Take in some features."""
        for description in batch.descriptions:
            self.described[description.method][description.status] += 1
        for feature in batch.features:
            found = batch.scores.get(feature, ())
            for score in found:
                tallies = self.features if score.method is None else self.methods[score.method]
                if score.kind not in tallies:
                    tallies[score.kind] = Tally(score.kind)
                tallies[score.kind].add(score)
            self._add_label(feature, batch.labels.get(feature), found)
            self._add_dead(found)

    def _add_label(self, feature: int, label: Label | None, found: Sequence[Score]) -> None:
        self.statuses["unlabelled" if label is None else label.status] += 1
        if label is not None and label.method is not None:
            self.winners[label.method] += 1
        reported = _reported(label, found)
        for kind, tally in self.labels.items():
            if kind in reported:
                tally.add(reported[kind])
            else:
                tally.miss(_why_missing(label, kind))
        self.lows.append(Lows(feature, _low(reported.get("input")), _low(reported.get("output"))))

    def _add_dead(self, found: Sequence[Score]) -> None:
        tested = [score.details["revived"] for score in found if "revived" in score.details]
        self.n_tested_dead += bool(tested)
        self.n_revived += any(tested)


def report_run(context: Context) -> Outcome:
    """Return the report of a run."""
    block = read_block(context)
    recipe = score_recipe(block, context.settings)
    findings = Findings(block.brief.spec)
    for batch in _batches(context, block, recipe):
        findings.add(batch)
        context.progress.advance(len(batch.features))
    with context.transaction() as connection:
        report = _report(connection, block, recipe, findings)
    return Outcome(lambda connection: reports.put(connection, report))


def _batches(context: Context, block: Block, recipe: str) -> Iterator[Batch]:
    entries = [entry for entry in block.features if entry.selected]
    for start in range(0, len(entries), _AT_ONCE):
        part = entries[start : start + _AT_ONCE]
        positions = range(part[0].position, part[-1].position + 1)
        with context.transaction() as connection:
            batch = _read(connection, block, recipe, [entry.feature for entry in part], positions)
        yield batch


def _read(connection: Connection, block: Block, recipe: str, features: Sequence[int], positions: range) -> Batch:
    """Return what a run left of some features; they lie at these positions.

    Scores of descriptions that the run does not have, such as those of an older prompt, are left out.
    """
    run_id, dictionary_id = block.brief.run_id, block.brief.dictionary.id
    numbers = jobs.blocks_of(connection, run_id, Stage.DESCRIBE, positions.start, positions.stop)
    by_feature = described_ids(connection, run_id, numbers, numbers)
    ids = {id_ for feature in features for id_ in by_feature.get(feature, ())}
    found: dict[int, list[Score]] = defaultdict(list)
    for score in scores.outlines(connection, dictionary_id, recipe, features):
        if score.description_id is None or score.description_id in ids:
            found[score.feature].append(score)
    return Batch(
        features=features,
        labels={label.feature: label for label in labels.made_by(connection, run_id, recipe, features)},
        descriptions=reports.described(connection, ids),
        scores=found,
    )


def _reported(label: Label | None, found: Sequence[Score]) -> dict[ScoreKind, Score]:
    """Return the scores of a label, by kind: what it was published with, and others of its description."""
    if label is None or label.description_id is None:
        return {}
    published = [score for score in (label.input, label.output, label.output_llm) if score is not None]
    kept_apart = ("input", "output", "output_llm")
    others = [s for s in found if s.description_id == label.description_id and s.kind not in kept_apart]
    return {score.kind: score for score in chain(published, others)}


def _why_missing(label: Label | None, kind: ScoreKind) -> LabelStatus:
    """Return what to count a feature as whose label has no score of a kind."""
    if label is None:
        return "unlabelled"
    if label.description_id is None:
        return label.status
    return Status.NOT_APPLICABLE if kind in _BY_LLM else Status.FAILED


def _low(score: Score | None) -> float | None:
    return None if score is None else score.lift_low


# ---------------------------------------------------------------------------------------------------------- the report


def _report(connection: Connection, block: Block, recipe: str, findings: Findings) -> RunReport:
    brief, n = block.brief, len(block.selected)
    seed = brief.spec.seed
    tallies = chain(findings.labels.values(), findings.features.values())
    return RunReport(
        run_id=brief.run_id,
        dictionary_id=brief.dictionary.id,
        n_features=n,
        labels=LabelReport(
            statuses=tuple(StatusShare(status=s, n=k, share=k / n) for s, k in findings.statuses.most_common()),
            methods=dict(findings.winners.most_common()),
            scores=_summaries(findings.labels, seed),
        ),
        methods=tuple(_of_method(findings, method, n, seed) for method in brief.spec.methods),
        features=_summaries(findings.features, seed),
        controls=tuple(control for tally in tallies if (control := tally.control(seed)) is not None),
        ranking=_ranking(connection, brief.run_id, recipe, findings.lows),
        dead=DeadFeatures(
            n=reports.n_dead(connection, brief.run_id), n_tested=findings.n_tested_dead, n_revived=findings.n_revived
        ),
        usage=calls.usage(connection, brief.run_id),
        stages=tuple(stage for stage in runs.progress(connection, brief.run_id) if stage.stage != Stage.REPORT),
    )


def _summaries(tallies: Mapping[ScoreKind, Tally], seed: int) -> tuple[Summary, ...]:
    return tuple(tallies[kind].summary(seed) for kind in get_args(ScoreKind) if kind in tallies)


def _of_method(findings: Findings, method: Method, n: int, seed: int) -> MethodReport:
    """Return what is reported of a method. No revision is missing of what can't be improved, and no imported label."""
    counts = Counter(findings.described[method])
    if method not in ("refined", "imported") and counts.total() < n:
        counts[Status.FAILED] += n - counts.total()
    return MethodReport(
        method=method, descriptions=dict(counts.most_common()), scores=_summaries(findings.methods[method], seed)
    )


def _ranking(connection: Connection, run_id: UUID, recipe: str, lows: Sequence[Lows]) -> Ranking:
    found = extremes(lows, N_EXTREME)
    shown = [low.feature for low in (*found.best, *found.worst)]
    made = labels.made_by(connection, run_id, recipe, shown)
    by_feature = {label.feature: label for label in made}

    def described(some: Iterable[Lows]) -> tuple[RankedFeature, ...]:
        return tuple(_ranked(low, by_feature[low.feature]) for low in some)

    return Ranking(n_ranked=found.n_ranked, best=described(found.best), worst=described(found.worst))


def _ranked(low: Lows, label: Label) -> RankedFeature:
    return RankedFeature(
        feature=low.feature,
        text=label.text,
        method=label.method,
        lift_low=low.total,
        input_lift_low=low.input,
        output_lift_low=low.output,
    )
