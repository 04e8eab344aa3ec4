"""What was found of one feature, as the record that is stored; with the texts of the contexts, it is what people see.

Here what the describer may be shown and what it is scored on are kept apart: score windows about the same eight tokens
as a describe window are dropped.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from schema.contexts import Reference, References, SplitReferences, Texts
from schema.errors import BadSelection
from workers.methods import tally
from workers.methods.contexts import Contexts
from workers.methods.exemplars import ExemplarAccumulator, Lists
from workers.methods.slots import Slots
from workers.methods.windows import DESCRIBE, SCORE

Pieces = Callable[[Sequence[int]], tuple[str, ...]]
"""From token ids to the text of each; the texts joined are the text of the tokens."""


class _Found(NamedTuple):
    """One window as it was kept."""

    key: int
    reference: Reference


def records(seen: ExemplarAccumulator, features: Sequence[int]) -> Iterator[References]:
    """Yield what was found of some features of the dictionary, in their order. Raises BadSelection."""
    first, last = seen.watched.first, seen.watched.first + seen.n_features - 1
    for feature in features:
        if not first <= feature <= last:
            raise BadSelection(f"feature {feature}; these are the exemplars of features {first}..{last}")
        yield _record(seen, feature - first)


def texts(contexts: Contexts, pieces: Pieces, numbers: Sequence[int]) -> Texts:
    """Return the tokens of some contexts as texts. Raises NotFound."""
    return {number: pieces(contexts.tokens_of(number).tolist()) for number in numbers}


def _record(seen: ExemplarAccumulator, row: int) -> References:
    describe = _lists(seen, seen.lists[DESCRIBE], row, frozenset())
    shown = frozenset(window.key for windows in describe for window in windows)
    score = _lists(seen, seen.lists[SCORE], row, shown)
    counts = seen.counts
    histogram = tally.trim(counts.histogram[row].tolist())
    return References(
        n_tokens=seen.n_tokens,
        n_firing=int(counts.n_firing[row]),
        threshold=float(seen.watched.thresholds[row]),
        sum=float(counts.total[row]),
        max=float(counts.largest[row]) if seen.n_tokens else 0.0,
        histogram_edges=histogram.edges,
        histogram=histogram.counts,
        before=seen.options.before,
        after=seen.options.after,
        describe=_split(describe),
        score=_split(score),
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
        yield _Found(key, Reference(context=context, position=position, activations=tuple(values)))


def _split(lists: list[list[_Found]]) -> SplitReferences:
    top, uniform, weighted, silent, hard = (tuple(found.reference for found in part) for part in lists)
    return SplitReferences(top=top, uniform=uniform, weighted=weighted, silent=silent, hard_negatives=hard)
