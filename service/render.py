"""Records as a person reads them in a terminal. Values in, rich renderables out; asks nobody for anything."""

from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from schema.budgets import in_words
from schema.evidence import Calibration, CurvePoint, Exemplars, SteeredText, TokenList, Window
from schema.labels import Description, Feature, FeatureSummary, Score
from schema.records import CallCount, DeadJob, Dictionary, Run, Spending, StageProgress, Usage
from schema.wire import ExpectedCalls, FeaturePrompt, PromptFile, RunEstimate

_BARS = "▁▂▃▄▅▆▇█"
_SHADES = ("on grey23", "on dark_green", "on green4", "on green3")


def printable(text: str) -> str:
    """Return text that can't move the cursor, ring the bell or break a line: it comes from corpora and LLMs."""
    return "".join(char if char.isprintable() else "⏎" if char == "\n" else "·" for char in text)


def dictionary_line(dictionary: Dictionary) -> str:
    """Return a dictionary in one line."""
    spec = dictionary.spec
    return (
        f"{dictionary.id}  {spec.name}  {spec.n_features} features of {spec.subject} at {spec.read_site} "
        f"({spec.encoder.kind}, {dictionary.state})"
    )


def runs_table(runs: Iterable[Run]) -> Table:
    """Return runs as a table."""
    table = Table("run", "dictionary", "state", "features", "created", "note")
    for run in runs:
        created = run.created_at.astimezone().strftime("%Y-%m-%d %H:%M")
        chosen = run.spec.features if run.n_features is None else f"{run.spec.features} ({run.n_features})"
        note = printable(run.note or "")
        table.add_row(str(run.id), str(run.dictionary_id)[:8], run.state, Text(chosen), created, Text(note))
    return table


def usage_table(usage: Usage) -> Table:
    """Return what a run's LLM calls used, by purpose and outcome, and in all."""
    table = Table(title="LLM calls", title_justify="left", show_footer=True)
    heads = ("purpose", "status", "calls", "from\ncache", "prompt\ntokens", "cached", "completion\ntokens", "dollars")
    total = _usage_row(usage)
    for place, head in enumerate(heads):
        footer = ("in all", "", *total)[place]
        table.add_column(head, footer, justify="left" if place < 2 else "right", no_wrap=place > 0)
    for row in usage.by_purpose:
        table.add_row(row.purpose, row.status, *_usage_row(row))
    if usage.spending is not None:
        table.caption, table.caption_justify = spending(usage.spending), "left"
    return table


def spending(known: Spending) -> str | None:
    """Return in words what a run may still spend, None where it has no budget and nothing is left open."""
    parts = [] if known.budget is None else [f"budget {in_words(known.budget.dollars, known.budget.tokens)}"]
    if known.left is not None:
        parts.append(f"{in_words(known.left.dollars, known.left.tokens) or 'nobody knows how much'} left")
    if known.n_open:
        reserved = in_words(known.reserved.dollars, known.reserved.tokens)
        parts.append(f"{reserved} reserved for {known.n_open} requests without an answer so far")
    return ", ".join(parts) or None


def _usage_row(used: Usage | CallCount) -> tuple[str, ...]:
    tokens = (used.prompt_tokens, used.cached_tokens, used.completion_tokens)
    price = "not known" if used.dollars is None else f"{used.dollars:.4f}"
    return (f"{used.calls:,}", f"{used.from_cache:,}", *(f"{n:,}" for n in tokens), price)


def stages_table(stages: Iterable[StageProgress]) -> Table:
    """Return the seconds of each stage as a table."""
    table = Table("stage", "jobs", "units", "seconds", title="seconds by stage", title_justify="left")
    for stage in stages:
        dead = f", {stage.dead} dead" if stage.dead else ""
        table.add_row(stage.stage, f"{stage.jobs_done}{dead}", str(stage.units_done), f"{stage.seconds:.1f}")
    return table


def dead_line(job: DeadJob) -> str:
    """Return what was given up of a run, and why."""
    some = ", ".join(map(str, job.features))
    about = f" of document {job.document}" if job.document is not None else f" of features {some}" if some else ""
    return f"given up: {job.stage}{about}: {printable(job.reason)}"


def features_table(features: Iterable[FeatureSummary]) -> Table:
    """Return a list of features as a table."""
    table = Table("feature", "label", "method\nstatus", "density", "input\nlift", "output\nlift", show_lines=True)
    for column in (*table.columns[:1], *table.columns[2:]):
        column.no_wrap = True  # what is left is the label's
    for item in features:
        table.add_row(
            str(item.index),
            Text(printable(item.label or "")),
            f"{item.method or ''}\n{item.status}",
            _number(item.density, ".2%"),
            f"{success(item.input_success)}\n{_number(item.input_lift, '+.2f')}",
            f"{success(item.output_success)}\n{_number(item.output_lift, '+.2f')}",
        )
    return table


def feature(shown: Feature, *, n_exemplars: int = 8, n_tokens: int = 12) -> Group:
    """Return everything about a feature, most telling first."""
    parts: list[RenderableType] = [_label(shown)]
    if shown.exemplars is not None:
        parts.append(_exemplars(shown.exemplars, n_exemplars))
    if shown.vocabulary is not None:
        lists = {"promoted": shown.vocabulary.promoted, "suppressed": shown.vocabulary.suppressed}
        parts.append(_token_lists("vocabulary projection of the write direction", lists, n_tokens))
    if shown.token_change is not None:
        change = shown.token_change
        lists = {
            "amplified: raised": change.amplified_raised,
            "amplified: lowered": change.amplified_lowered,
            "suppressed: raised": change.suppressed_raised,
            "suppressed: lowered": change.suppressed_lowered,
        }
        parts.append(_token_lists(f"change of next-token logits under intervention ({change.origin})", lists, n_tokens))
    if shown.calibration is not None:
        parts.append(_calibration(shown.calibration))
    if shown.steered_texts is not None:
        parts.append(_steered(shown.steered_texts.describe))
    parts.append(_descriptions(shown.descriptions, shown.scores))
    return Group(*parts)


def success(value: bool | None) -> Text:
    """Return a yes or no, or a dash where there is neither."""
    return Text("–", "dim") if value is None else Text("yes", "green") if value else Text("no", "red")


def lift(score: Score | None) -> str:
    """Return a score's lift with its interval, or why there is none."""
    if score is None:
        return "–"
    if score.lift is None:
        return score.status.value
    if score.lift_low is None or score.lift_high is None:
        return f"{score.lift:+.2f}"
    return f"{score.lift:+.2f} [{score.lift_low:+.2f}, {score.lift_high:+.2f}]"


def estimate(score: Score | None) -> str:
    """Return a score's value, or why there is none."""
    return "–" if score is None else f"{score.estimate.value:.2f}" if score.estimate else score.status.value


def _label(shown: Feature) -> Panel:
    label, summary = shown.label, shown.summary
    if label is None:
        return Panel(Text("no label yet", "dim"), title=f"feature {summary.index}", title_align="left")
    body = Text().append(printable(label.text or label.status.value), "bold")
    body.append(f"\n{label.method or 'no method'} · {label.status.value} · by {label.author}", "dim")
    for name, score in (("input", label.input), ("output", label.output), ("output, LLM judge", label.output_llm)):
        if score is not None:
            verdict = "" if score.success is None else " · success" if score.success else " · no success"
            body.append(f"\n{name}: {estimate(score)}, lift {lift(score)}{verdict}")
    return Panel(body, title=f"feature {summary.index}", title_align="left")


def _exemplars(exemplars: Exemplars, limit: int) -> Panel:
    facts = (
        f"fires on {exemplars.n_firing:,} of {exemplars.n_tokens:,} tokens ({exemplars.density:.3%}), "
        f"above {exemplars.threshold:.3g}, at most {exemplars.max:.3g}"
    )
    lines = [Text(facts, "dim"), *(_window(window, exemplars.threshold) for window in exemplars.describe.top[:limit])]
    return Panel(Group(*lines), title="strongest contexts", title_align="left")


def _window(window: Window, threshold: float) -> Text:
    line = Text(no_wrap=True, overflow="ellipsis").append(f"{window.maximum:8.3g}  ", "dim")
    strongest = max(window.maximum - threshold, 1e-9)
    for token, activation in zip(window.tokens, window.activations, strict=True):
        share = (activation - threshold) / strongest
        shade = _SHADES[min(int(share * len(_SHADES)), len(_SHADES) - 1)] if activation > threshold else ""
        line.append(printable(token), f"bold {shade}" if shade else "")
    return line


def _token_lists(title: str, lists: dict[str, TokenList], limit: int) -> Table:
    table = Table(title=title, title_justify="left", show_header=False, box=None)
    for name, tokens in lists.items():
        pairs = zip(tokens.tokens[:limit], tokens.values[:limit], strict=True)
        table.add_row(name, Text("  ".join(f"{printable(token)!r} {value:+.1f}" for token, value in pairs)))
    return table


def _calibration(calibration: Calibration) -> Table:
    table = Table(title="strength against effect (KL, nats)", title_justify="left", show_header=False, box=None)
    for name, curve in (("amplified", calibration.amplified), ("suppressed", calibration.suppressed)):
        if curve:
            ends = f"r {curve[0].r:.2g}…{curve[-1].r:.2g}, KL {curve[0].kl_nats:.2g}…{curve[-1].kl_nats:.2g}"
            table.add_row(name, _sparkline(curve), ends)
    reached = [
        f"{target.target_kl_nats:+g}: {'α=' + format(target.alpha, '.3g') if target.reached else 'not reached'}"
        for target in calibration.targets
    ]
    table.add_row("targets", "", "  ".join(reached))
    return table


def _sparkline(curve: Sequence[CurvePoint]) -> str:
    top = max(point.kl_nats for point in curve) or 1.0
    return "".join(_BARS[min(int(max(point.kl_nats, 0.0) / top * len(_BARS)), len(_BARS) - 1)] for point in curve)


def _steered(texts: Sequence[SteeredText]) -> Table:
    table = Table(title="texts written under intervention", title_justify="left", show_header=False, box=None)
    for text in sorted(texts, key=lambda item: -item.target_kl_nats):
        said = Text().append(printable(text.prompt), "dim").append(printable(text.text))
        table.add_row(f"{text.target_kl_nats:+.2f}", said)
    return table


def _descriptions(descriptions: Sequence[Description], scores: Sequence[Score]) -> Table:
    by_description: dict[int | None, dict[str, Score]] = {}
    for score in scores:
        by_description.setdefault(score.description_id, {})[score.kind] = score
    table = Table(title="descriptions", title_justify="left")
    for heading in ("method\nstatus", "description", "input\nlift", "output\nlift", "judge"):
        table.add_column(heading, no_wrap=heading != "description")
    for description in descriptions:
        found = by_description.get(description.id, {})
        said = Text(printable(description.text or description.reason or ""))
        if origin := description.parameters.get("origin"):
            said.append(f"\nfrom {printable(str(origin))}", "dim")
        table.add_row(
            f"{description.method}\n{description.status.value}",
            said,
            _stacked(found.get("input")),
            _stacked(found.get("output")),
            estimate(found.get("output_llm")),
        )
    return table


def _stacked(score: Score | None) -> str:
    """Return a score's value, its lift and the interval of that, one a line; once where all are the same status."""
    lines = [estimate(score), *lift(score).replace(" [", "\n[").split("\n")]
    return "\n".join(dict.fromkeys(lines))


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def prompt_files_table(files: Iterable[PromptFile]) -> Table:
    """Return prompt files as a table."""
    table = Table("prompt", "shared characters", "sha256")
    for file in files:
        table.add_row(file.id, str(file.n_shared_characters), file.sha256[:16])
    return table


def feature_prompt(asked: FeaturePrompt) -> RenderableType:
    """Return what would be asked, turn by turn."""
    if not asked.messages:
        return Panel(Text(f"{asked.status}: {asked.reason}", "dim"), title=asked.method, title_align="left")
    turns: list[Text] = []
    for turn in asked.messages:
        turns += [Text(turn.role, "bold"), Text("\n".join(map(printable, turn.content.split("\n")))), Text()]
    price = "price not known" if asked.dollars is None else f"about ${asked.dollars:.2g} with the reply"
    title = f"{asked.method}: {asked.prompt_id}, about {asked.n_tokens} tokens, {price}"
    return Panel(Group(*turns), title=title, title_align="left")


def estimate_table(estimate: RunEstimate) -> Table:
    """Return what a run is expected to ask as a table, its price in the last row, and whether its budget is below."""
    title = f"expected for {estimate.n_features} features and {estimate.n_pool_only} more of the pool"
    table = Table("purpose", "profile", title=title, title_justify="left")
    for name in ("calls", "tokens read", "tokens written", "dollars"):
        table.add_column(name, justify="right")
    for row in estimate.by_purpose:
        table.add_row(row.purpose, row.profile, *_expected(row))
    table.add_section()
    table.add_row("all", "", *_expected(estimate))
    if estimate.warning:
        table.caption, table.caption_justify = f"warning: {estimate.warning}", "left"
    return table


def _expected(row: ExpectedCalls | RunEstimate) -> tuple[str, ...]:
    dollars = "unknown" if row.dollars is None else f"{row.dollars:.2f}"
    return f"{row.calls:,}", f"{row.prompt_tokens:,}", f"{row.completion_tokens:,}", dollars
