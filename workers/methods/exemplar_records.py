"""What was found of one feature, as the record that describers, judges and people see.

Here what the describer may be shown and what it is scored on are kept apart: score windows about the same eight tokens
as a describe window are dropped.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from schema.errors import BadSelection
from schema.records import Exemplars, SplitExemplars, Window
from workers.methods import tally
from workers.methods.contexts import Contexts
from workers.methods.exemplars import ExemplarAccumulator, Lists
from workers.methods.slots import Slots
from workers.methods.windows import DESCRIBE, SCORE, Span, document_of

_MASK_32 = (1 << 32) - 1

Pieces = Callable[[Sequence[int]], tuple[str, ...]]


class _Found(NamedTuple):
    """One window as it was kept; the activations, if any, are those around the position."""

    context: int
    key: int
    position: int
    activations: list[float]


class Cutter(NamedTuple):
    """How found windows become texts: the contexts they lie in, how far they reach, and the tokens' texts."""

    contexts: Contexts
    span: Span
    pieces: Pieces

    def window(self, found: _Found) -> Window:
        """Return a window with its texts, cut at the ends of its context."""
        ids = self.contexts.tokens_of(found.context)
        start = found.position - self.span.before
        low, high = max(0, start), min(len(ids), found.position + self.span.after + 1)
        return Window(
            document=document_of(found.context),
            position=found.position,
            peak=found.position - low,
            key=found.key & _MASK_32,
            tokens=self.pieces(ids[low:high].tolist()),
            activations=tuple(found.activations[low - start : high - start] or [0.0] * (high - low)),
        )


def records(seen: ExemplarAccumulator, features: Sequence[int], pieces: Pieces) -> Iterator[Exemplars]:
    """Yield what was found of some features of the dictionary, in their order.

    pieces: from token ids to the text of each; the texts joined are the text of the tokens
    Raises: BadSelection
    """
    cutter = Cutter(seen.contexts(), seen.options.span, pieces)
    first, last = seen.watched.first, seen.watched.first + seen.n_features - 1
    for feature in features:
        if not first <= feature <= last:
            raise BadSelection(f"feature {feature}; these are the exemplars of features {first}..{last}")
        yield _record(seen, feature - first, cutter)


def _record(seen: ExemplarAccumulator, row: int, cutter: Cutter) -> Exemplars:
    describe = _lists(seen, seen.lists[DESCRIBE], row, frozenset())
    shown = frozenset(window.key for windows in describe for window in windows)
    score = _lists(seen, seen.lists[SCORE], row, shown)
    counts = seen.counts
    histogram = tally.trim(counts.histogram[row].tolist())
    return Exemplars(
        n_tokens=seen.n_tokens,
        n_firing=int(counts.n_firing[row]),
        threshold=float(seen.watched.thresholds[row]),
        sum=float(counts.total[row]),
        max=float(counts.largest[row]) if seen.n_tokens else 0.0,
        histogram_edges=histogram.edges,
        histogram=histogram.counts,
        describe=_split(describe, cutter),
        score=_split(score, cutter),
    )


def _lists(seen: ExemplarAccumulator, lists: Lists, row: int, dropped: frozenset[int]) -> list[list[_Found]]:
    found = []
    for of_all, size in zip(lists, seen.options.sizes, strict=True):
        windows = (window for window in _read(of_all, row) if window.key not in dropped)
        found.append(list(islice(windows, size)))
    return found


def _read(of_all: Slots, row: int) -> Iterator[_Found]:
    """Yield the windows of a feature, best first, without the empty slots."""
    ordered = of_all.rows(slice(row, row + 1)).ordered()
    n_kept = int((ordered.cost < float("inf")).sum())
    for context, key, position, values in zip(*(tensor[0, :n_kept].tolist() for tensor in ordered[1:]), strict=True):
        yield _Found(context, key, position, values)


def _split(lists: list[list[_Found]], cutter: Cutter) -> SplitExemplars:
    top, uniform, weighted, silent, hard = (tuple(cutter.window(found) for found in part) for part in lists)
    return SplitExemplars(top=top, uniform=uniform, weighted=weighted, silent=silent, hard_negatives=hard)
