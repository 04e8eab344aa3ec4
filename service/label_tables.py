"""Labels, what is like them and what they cost, as a person reads them in a terminal. Values in, renderables out."""

from collections.abc import Iterable, Sequence

from rich.table import Table
from rich.text import Text

from schema.labels import Label
from schema.lookups import BriefLabel, SimilarFeature
from schema.usage import CallTotals, UsageRow
from service.render import printable


def labels_table(features: Iterable[int], labels: Iterable[BriefLabel | None]) -> Table:
    """Return the current labels of features as a table."""
    table = Table("feature", "label", "id", "status", "by", "input\nlift", "output\nlift")
    for feature, label in zip(features, labels, strict=True):
        if label is None:
            table.add_row(str(feature), Text("–", "dim"))
            continue
        lifts = (_signed(label.input_lift), _signed(label.output_lift))
        said = Text(printable(label.text or ""))
        table.add_row(str(feature), said, str(label.id), label.status, Text(printable(label.author)), *lifts)
    return table


def history_table(labels: Iterable[Label]) -> Table:
    """Return every label that a feature ever had as a table."""
    table = Table("id", "label", "status", "by", "written", "note")
    for label in labels:
        written = "" if label.created_at is None else label.created_at.astimezone().strftime("%Y-%m-%d %H:%M")
        said, author, note = (Text(printable(text or "")) for text in (label.text, label.author, label.note))
        table.add_row(str(label.id), said, label.status.value, author, written, note)
    return table


def similar_table(items: Iterable[SimilarFeature]) -> Table:
    """Return similar features as a table."""
    table = Table("feature", "cosine", "label", "status")
    for item in items:
        found = item.feature
        table.add_row(str(found.index), f"{item.cosine:.3f}", Text(printable(found.label or "")), found.status)
    return table


def usage_table(rows: Sequence[UsageRow], total: CallTotals) -> Table:
    """Return usage as a table, and all of it together in its last line."""
    table = Table(show_footer=True)
    heads = (
        "day",
        "purpose",
        "model",
        "calls",
        "from\ncache",
        "prompt\ntokens",
        "cached",
        "completion\ntokens",
        "dollars",
    )
    footers = ("in all", "", "", *_figures(total))
    for place, (head, footer) in enumerate(zip(heads, footers, strict=True)):
        table.add_column(head, footer, justify="left" if place < 3 else "right")
    for row in rows:
        table.add_row(str(row.day), Text(printable(row.purpose)), Text(printable(row.model)), *_figures(row))
    return table


def _figures(used: CallTotals) -> tuple[str, ...]:
    counts = (used.calls, used.from_cache, used.prompt_tokens, used.cached_tokens, used.completion_tokens)
    return (*(f"{n:,}" for n in counts), "not known" if used.dollars is None else f"{used.dollars:.4f}")


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.2f}"
