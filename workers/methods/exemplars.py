"""Exemplars: one pass over a corpus finds, for all features of a dictionary at once, the contexts that tell most.

What is kept of each feature and half of the corpus (`describe`, `score`):

- the k contexts with the largest peaks, windows of the same eight tokens around the peak counted once;
- two samples of contexts in which it fires, uniform and weighted by the peak, by bottom-n sampling: every context has
  a key drawn from (seed, context, feature), and those with the lowest keys stay;
- a sample of contexts in which it is silent, and one of hard negatives: it is silent and a near neighbour fires;
- counts (`tally`).

All of it is a monoid: batches may come in any order and any division over shards, and the merged result is the same,
bit by bit but for the last digits of the sums. Memory is O(features · k), and the tokens of the contexts that are on a
list, whatever the length of the corpus. The score half keeps half as many windows again, because those whose key also
occurs among what the describer may be shown are dropped at the end; where more than that coincide, the score lists are
shorter.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from schema.errors import NotFinite, ShapeMismatch
from workers.methods import slots
from workers.methods.contexts import Contexts
from workers.methods.slots import Slots
from workers.methods.tally import Tally
from workers.methods.windows import (
    DESCRIBE,
    SCORE,
    BatchView,
    ContextBatch,
    Peaks,
    Span,
    window_activations,
)

# A feature may be said to fire below 0 (an inverted neuron); its weight in the weighted sample is then this.
_LEAST_WEIGHT = 2.0**-20
_FEATURES_AT_ONCE = 4096  # of what looks at all features together, and of a block
_FRESH_TOKENS = 2**20  # of contexts that came in since it was last seen which of them are on a list


@dataclass(frozen=True)
class ExemplarOptions:
    """How much is kept of each feature and half of the corpus."""

    k: int = 20
    n_samples: int = 20
    n_silent: int = 10
    n_hard: int = 10
    before: int = 24
    after: int = 8
    seed: int = 0

    @property
    def span(self) -> Span:
        """Return the reach of a window."""
        return Span(self.before, self.after)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Return the lengths of the final lists, in the order of `Lists`."""
        return (self.k, self.n_samples, self.n_samples, self.n_silent, self.n_hard)


class Lists(NamedTuple):
    """The lists of all features in one half of the corpus."""

    top: Slots
    uniform: Slots
    weighted: Slots
    silent: Slots
    hard_negatives: Slots

    @classmethod
    def empty(cls, n_features: int, options: ExemplarOptions, split: int, device: torch.device) -> "Lists":
        """Return empty lists, with the margin that the score half needs."""
        margin = 0 if split == DESCRIBE else 1
        width = options.span.width
        made = []
        for name, size in zip(cls._fields, options.sizes, strict=True):
            # Activations in contexts without firing say nothing and are not kept.
            kept = 0 if name in ("silent", "hard_negatives") else width
            made.append(Slots.empty(n_features, size + margin * -(-size // 2), kept, device))
        return cls(*made)


class _Chunk(NamedTuple):
    """The features low .. low + n of a batch: activations (B, T, n), -inf where not counted; the rest (B, n)."""

    low: int
    activations: Tensor
    value: Tensor
    position: Tensor
    fires: Tensor


class _Offer(NamedTuple):
    """Contexts of one half of a batch offered to one list of n features from `low` on.

    rows:        (R,) rows of the batch
    cost:        (R, n), infinity for what is not offered
    positions:   from (c,) of the n columns to their peaks, (R, c)
    activations: (B, T, n), or None where none are kept
    """

    low: int
    rows: Tensor
    cost: Tensor
    positions: Callable[[Tensor], Tensor]
    activations: Tensor | None


class Watched(NamedTuple):
    """The features that are looked for: those of a dictionary from `first` on.

    thresholds: (n,) a feature fires where its activation is larger
    neighbours: (n, m) near features of the whole dictionary by falling cosine, -1 for none
    """

    first: int
    thresholds: Tensor
    neighbours: Tensor


class Corpus(NamedTuple):
    """What has been read: how many tokens counted, and the contexts that may be on a list."""

    n_tokens: int
    contexts: Contexts


class ExemplarAccumulator:
    """What has been seen of n features so far."""

    def __init__(
        self, watched: Watched, options: ExemplarOptions, counts: Tally, lists: Sequence[Lists], corpus: Corpus
    ) -> None:
        self.watched = watched
        self.options = options
        self.counts = counts
        self.lists = tuple(lists)
        self.n_tokens = corpus.n_tokens
        self._contexts = corpus.contexts
        self._fresh: list[Contexts] = []

    @classmethod
    def empty(
        cls, thresholds: Tensor, options: ExemplarOptions, neighbours: Tensor | None = None
    ) -> "ExemplarAccumulator":
        """Return an accumulator that has seen nothing; it lives on the device of the thresholds.

        thresholds: (F,) a feature fires where its activation is larger
        neighbours: (F, m) near features by falling cosine, -1 for none; without them there are no hard negatives
        Raises:     ShapeMismatch, NotFinite
        """
        n_features = thresholds.shape[0]
        if neighbours is None:
            neighbours = torch.empty((n_features, 0), dtype=torch.int64)
        if thresholds.dim() != 1 or neighbours.dim() != 2 or neighbours.shape[0] != n_features:
            raise ShapeMismatch(f"thresholds {tuple(thresholds.shape)}, neighbours {tuple(neighbours.shape)}")
        if thresholds.isnan().any():
            raise NotFinite(f"the firing threshold of feature {int(thresholds.isnan().int().argmax())} is NaN")
        device = thresholds.device
        lists = [Lists.empty(n_features, options, split, device) for split in (DESCRIBE, SCORE)]
        watched = Watched(0, thresholds.float(), neighbours.to(device).long())
        return cls(watched, options, Tally.empty(n_features, device), lists, Corpus(0, Contexts.none()))

    @property
    def n_features(self) -> int:
        """Return the number of features."""
        return self.watched.thresholds.shape[0]

    @property
    def device(self) -> torch.device:
        """Return where the lists are."""
        return self.watched.thresholds.device

    @property
    def n_firing(self) -> Tensor:
        """Return on how many tokens each feature fired, (F,) int64; 0 is a dead feature."""
        return self.counts.n_firing

    def add(self, batch: ContextBatch, chunks: Iterable[tuple[int, Tensor]]) -> None:
        """Take in a batch of contexts; every context of a corpus is to be added once.

        chunks: (first feature, activations (B, T, n)) in the order of features, all F of them; each may be made when
                it is asked for, only one is held at a time, and it is overwritten
        Raises: ShapeMismatch, NotFinite (naming the feature); what was added so far is then not to be used
        """
        batch.check()
        seen = BatchView(batch, self.options.seed)
        n_rows = batch.ids.shape[0]
        fires = torch.zeros((n_rows, self.n_features), dtype=torch.bool, device=self.device)
        positions = torch.zeros((n_rows, self.n_features), dtype=torch.int32, device=self.device)
        high = 0
        for low, activations in chunks:
            if low != high or activations.shape[:2] != batch.ids.shape or low + activations.shape[2] > self.n_features:
                raise ShapeMismatch(
                    f"activations {tuple(activations.shape)} of features from {low} on; expected features from {high} "
                    f"of {self.n_features} on, for a batch of shape {tuple(batch.ids.shape)}"
                )
            high = low + activations.shape[2]
            chunk = self._chunk(low, activations, batch)
            fires[:, low:high], positions[:, low:high] = chunk.fires, chunk.position
            self._add_chunk(chunk, seen)
            del chunk, activations  # before the next ones are made
        if high != self.n_features:
            raise ShapeMismatch(f"activations of {high} features; the dictionary has {self.n_features}")
        for low in range(0, self.n_features, _FEATURES_AT_ONCE):
            self._add_hard_negatives(low, fires, positions, seen)
        self.n_tokens += int(batch.counted.sum())
        self._remember(batch)

    def _chunk(self, low: int, activations: Tensor, batch: ContextBatch) -> _Chunk:
        masked = activations.contiguous().masked_fill_(~batch.counted[..., None], -torch.inf)
        value, position = masked.max(dim=1)
        bad = ~value.isfinite() & batch.counted.any(dim=1, keepdim=True)
        if bad.any():
            feature = low + int(bad.any(dim=0).int().argmax())
            raise NotFinite(f"an activation of feature {feature} is NaN or infinite; check its weights and the dtype")
        fires = value > self.watched.thresholds[low : low + value.shape[1]]
        return _Chunk(low, masked, value, position, fires)

    def _add_chunk(self, chunk: _Chunk, seen: BatchView) -> None:
        n_features = chunk.value.shape[1]
        thresholds = self.watched.thresholds[chunk.low : chunk.low + n_features]
        self.counts.add_rows(chunk.low, Tally.of(chunk.activations.flatten(0, 1), thresholds))
        features = torch.arange(chunk.low, chunk.low + n_features, device=thresholds.device)
        for lists, rows in zip(self.lists, seen.rows, strict=True):
            fires, value = chunk.fires[rows], chunk.value[rows].double()
            draw = seen.draw("context", rows, features)
            silent = ~fires & (seen.n_counted[rows] > 0)[:, None]
            weighted = -draw.log() / value.clamp(min=_LEAST_WEIGHT)
            firing = _Offer(chunk.low, rows, draw, _columns_of(chunk.position[rows]), chunk.activations)
            quiet = _Offer(chunk.low, rows, draw, partial(_draw_positions, seen, rows, features), None)
            self._take(lists.top, firing._replace(cost=_only(fires, -value)), seen, distinct=True)
            self._take(lists.uniform, firing._replace(cost=_only(fires, draw)), seen)
            self._take(lists.weighted, firing._replace(cost=_only(fires, weighted)), seen)
            self._take(lists.silent, quiet._replace(cost=_only(silent, draw)), seen)

    def _add_hard_negatives(self, low: int, fires: Tensor, positions: Tensor, seen: BatchView) -> None:
        features = torch.arange(low, min(low + _FEATURES_AT_ONCE, self.n_features), device=fires.device)
        own = fires[:, low : low + len(features)]
        near, where = torch.zeros_like(own), torch.zeros_like(positions[:, low : low + len(features)])
        for neighbour in reversed(
            self.watched.neighbours[features].unbind(dim=1)
        ):  # The nearest comes last, with the last word.
            beside = fires[:, neighbour.clamp(min=0)] & (neighbour >= 0)
            near |= beside
            where = torch.where(beside, positions[:, neighbour.clamp(min=0)], where)
        for lists, rows in zip(self.lists, seen.rows, strict=True):
            cost = _only(near[rows] & ~own[rows], seen.draw("hard negatives", rows, features))
            self._take(lists.hard_negatives, _Offer(low, rows, cost, _columns_of(where[rows]), None), seen)

    def _take(self, kept: Slots, offer: _Offer, seen: BatchView, *, distinct: bool = False) -> None:
        """Update a list with what is offered to it; features whose list it can't enter are not touched."""
        if kept.cost.shape[1] == 0:
            return
        worst = kept.worst[offer.low : offer.low + offer.cost.shape[1]]
        hopeful = (offer.cost <= worst) & (offer.cost < torch.inf)
        n_hopeful = hopeful.sum(dim=0)
        columns = n_hopeful.nonzero().squeeze(1)
        if columns.numel() == 0:
            return
        # The hopeful rows of each feature, and no more columns than the luckiest feature needs.
        cost, row = offer.cost[:, columns].masked_fill(~hopeful[:, columns], torch.inf).T.sort(dim=1)
        m = int(n_hopeful.max())
        cost, row = cost[:, :m], row[:, :m]
        positions = offer.positions(columns).T.gather(1, row).long()
        offered = slots.Candidates(
            cost=cost,
            context=seen.batch.context[offer.rows][row],
            key=seen.keys[offer.rows[row], positions],
            position=positions.int(),
        )

        def cut(feature: Tensor, candidate: Tensor, position: Tensor) -> Tensor:
            assert offer.activations is not None  # lists that keep none do not ask
            peaks = Peaks(offer.rows[row[feature, candidate]], position, columns[feature])
            return window_activations(offer.activations, peaks, self.options.span)

        slots.admit(kept, offer.low + columns, offered, cut, distinct=distinct)

    def _remember(self, batch: ContextBatch) -> None:
        """Keep the batch's tokens; those that came to be on no list, or are no more, are dropped now and then."""
        self._fresh.append(Contexts.of(batch.context, batch.ids, batch.attention))
        n_fresh = sum(len(part.tokens) for part in self._fresh)
        if n_fresh > max(_FRESH_TOKENS, len(self._contexts.tokens)):
            self._contexts, self._fresh = self.contexts(), []

    def contexts(self) -> Contexts:
        """Return the contexts that are on some list."""
        kept = (of_all for lists in self.lists for of_all in lists)
        listed = torch.cat([torch.unique(of_all.context[of_all.cost < torch.inf]) for of_all in kept])
        return Contexts.join([self._contexts, *self._fresh]).only(listed)

    def block(self, low: int, high: int) -> "ExemplarAccumulator":
        """Return what has been seen of the features low .. high, counted from the first here; nothing is copied."""
        rows = slice(low, high)
        first, thresholds, neighbours = self.watched
        return ExemplarAccumulator(
            Watched(first + low, thresholds[rows], neighbours[rows]),
            self.options,
            Tally(*(tensor[rows] for tensor in self.counts)),
            [Lists(*(of_all.rows(rows) for of_all in half)) for half in self.lists],
            Corpus(self.n_tokens, Contexts.join([self._contexts, *self._fresh])),
        )

    def blocks(self) -> Iterator["ExemplarAccumulator"]:
        """Yield blocks of features, in order, that together are this."""
        self._contexts, self._fresh = self.contexts(), []
        for low in range(0, self.n_features, _FEATURES_AT_ONCE):
            yield self.block(low, min(low + _FEATURES_AT_ONCE, self.n_features))


def merge(a: ExemplarAccumulator, b: ExemplarAccumulator) -> ExemplarAccumulator:
    """Return what one accumulator would hold that had been given the contexts of two; neither is changed.

    Raises: ShapeMismatch if they were not made with the same thresholds, neighbours and options
    """
    if a.options != b.options or not _same(a.watched, b.watched):
        raise ShapeMismatch(
            f"exemplars of {a.n_features} features with {a.options} do not merge with {b.n_features} features with "
            f"{b.options}: thresholds, neighbours and options must be the same"
        )
    lists = [
        Lists(
            *(
                slots.merge(mine, theirs, distinct=name == "top")
                for name, mine, theirs in zip(Lists._fields, lists_a, lists_b, strict=True)
            )
        )
        for lists_a, lists_b in zip(a.lists, b.lists, strict=True)
    ]
    corpus = Corpus(a.n_tokens + b.n_tokens, Contexts.join([a.contexts(), b.contexts()]))
    return ExemplarAccumulator(a.watched, a.options, a.counts.plus(b.counts), lists, corpus)


def _same(a: Watched, b: Watched) -> bool:
    tensors = ((a.thresholds, b.thresholds), (a.neighbours, b.neighbours))
    return a.first == b.first and all(torch.equal(*pair) for pair in tensors)


def _only(offered: Tensor, cost: Tensor) -> Tensor:
    return cost.masked_fill(~offered, torch.inf)


def _columns_of(positions: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda columns: positions[:, columns]


def _draw_positions(seen: BatchView, rows: Tensor, features: Tensor, columns: Tensor) -> Tensor:
    return seen.random_positions(rows, features[columns])
