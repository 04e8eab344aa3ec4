"""Exemplars: one pass over a corpus finds, for all features of a dictionary at once, the contexts that tell most.

What is kept of each feature and half of the corpus (`describe`, `score`):

- the k contexts with the largest peaks, windows of the same eight tokens around the peak counted once;
- two samples of contexts in which it fires, uniform and weighted by the peak, by bottom-n sampling: every context has
  a key drawn from (seed, context, feature), and those with the lowest keys stay;
- a sample of contexts in which it is silent, and one of hard negatives: it is silent and a near neighbour fires;
- counts (`tally`).

All of it is a monoid: batches may come in any order and any division over shards, and the merged result is the same,
bit by bit but for the last digits of the sums. Memory is O(features · k), whatever the length of the corpus. The score
half keeps half as many windows again, because those whose key also occurs among what the describer may be shown are
dropped at the end; where more than that coincide, the score lists are shorter.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from typing import NamedTuple

import safetensors.torch
import torch
import zstandard
from torch import Tensor

from schema.errors import BadSelection, GlossariumError, NotFinite, ShapeMismatch
from schema.records import Exemplars, SplitExemplars, Window
from workers.methods import slots, tally
from workers.methods.slots import NO_TOKEN, Slots
from workers.methods.tally import Tally
from workers.methods.windows import (
    DESCRIBE,
    SCORE,
    BatchView,
    ContextBatch,
    Peaks,
    Span,
    document_of,
    window_activations,
    window_ids,
)

# A feature may be said to fire below 0 (an inverted neuron); its weight in the weighted sample is then this.
_LEAST_WEIGHT = 2.0**-20
_FORMAT = 1
_MASK_32 = (1 << 32) - 1

Pieces = Callable[[Sequence[int]], tuple[str, ...]]


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
            widths = (width, 0 if name in ("silent", "hard_negatives") else width)
            made.append(Slots.empty(n_features, size + margin * -(-size // 2), widths, device))
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


class _Found(NamedTuple):
    """One window of one feature as it was kept; `peak` is its index in `ids`."""

    context: int
    key: int
    position: int
    peak: int
    ids: list[int]
    activations: list[float]


class ExemplarAccumulator:
    """What has been seen of n features so far."""

    def __init__(
        self, thresholds: Tensor, options: ExemplarOptions, neighbours: Tensor, counts: Tally, lists: Sequence[Lists]
    ) -> None:
        self.thresholds = thresholds
        self.options = options
        self.neighbours = neighbours
        self.counts = counts
        self.lists = tuple(lists)
        self.n_tokens = 0

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
        counts = Tally.empty(n_features, device)
        return cls(thresholds.float(), options, neighbours.to(device).long(), counts, lists)

    @property
    def n_features(self) -> int:
        """Return the number of features."""
        return self.thresholds.shape[0]

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
        fires = torch.zeros((n_rows, self.n_features), dtype=torch.bool, device=self.thresholds.device)
        positions = torch.zeros((n_rows, self.n_features), dtype=torch.int32, device=self.thresholds.device)
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
        if high != self.n_features:
            raise ShapeMismatch(f"activations of {high} features; the dictionary has {self.n_features}")
        self._add_hard_negatives(fires, positions, seen)
        self.n_tokens += int(batch.counted.sum())

    def _chunk(self, low: int, activations: Tensor, batch: ContextBatch) -> _Chunk:
        masked = activations.contiguous().masked_fill_(~batch.counted[..., None], -torch.inf)
        value, position = masked.max(dim=1)
        bad = ~value.isfinite() & batch.counted.any(dim=1, keepdim=True)
        if bad.any():
            feature = low + int(bad.any(dim=0).int().argmax())
            raise NotFinite(f"an activation of feature {feature} is NaN or infinite; check its weights and the dtype")
        fires = value > self.thresholds[low : low + value.shape[1]]
        return _Chunk(low, masked, value, position, fires)

    def _add_chunk(self, chunk: _Chunk, seen: BatchView) -> None:
        n_features = chunk.value.shape[1]
        thresholds = self.thresholds[chunk.low : chunk.low + n_features]
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

    def _add_hard_negatives(self, fires: Tensor, positions: Tensor, seen: BatchView) -> None:
        near = torch.zeros_like(fires)
        where = torch.zeros_like(positions)
        for neighbour in reversed(self.neighbours.unbind(dim=1)):  # The nearest comes last and has the last word.
            beside = fires[:, neighbour.clamp(min=0)] & (neighbour >= 0)
            near |= beside
            where = torch.where(beside, positions[:, neighbour.clamp(min=0)], where)
        features = torch.arange(self.n_features, device=fires.device)
        for lists, rows in zip(self.lists, seen.rows, strict=True):
            cost = _only(near[rows] & ~fires[rows], seen.draw("hard negatives", rows, features))
            self._take(lists.hard_negatives, _Offer(0, rows, cost, _columns_of(where[rows]), None), seen)

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

        def cut(feature: Tensor, candidate: Tensor, position: Tensor) -> slots.Cut:
            peaks = Peaks(offer.rows[row[feature, candidate]], position, columns[feature])
            ids = window_ids(seen.batch, peaks, self.options.span)
            if offer.activations is None:
                return slots.Cut(ids, torch.empty((ids.shape[0], 0), dtype=torch.float16, device=ids.device))
            return slots.Cut(ids, window_activations(offer.activations, peaks, self.options.span))

        slots.admit(kept, offer.low + columns, offered, cut, distinct=distinct)

    def record(self, feature: int, pieces: Pieces) -> Exemplars:
        """Return what was found of a feature.

        pieces: from token ids to the text of each; the texts joined are the text of the tokens
        Raises: BadSelection
        """
        if not 0 <= feature < self.n_features:
            raise BadSelection(f"feature {feature}; the dictionary has features 0..{self.n_features - 1}")
        describe = self._windows(self.lists[DESCRIBE], feature, frozenset())
        shown = frozenset(window.key for windows in describe for window in windows)
        score = self._windows(self.lists[SCORE], feature, shown)
        histogram = tally.trim(self.counts.histogram[feature].tolist())
        largest = float(self.counts.largest[feature])
        return Exemplars(
            n_tokens=self.n_tokens,
            n_firing=int(self.counts.n_firing[feature]),
            threshold=float(self.thresholds[feature]),
            sum=float(self.counts.total[feature]),
            max=largest if self.n_tokens else 0.0,
            histogram_edges=histogram.edges,
            histogram=histogram.counts,
            describe=_split(describe, pieces),
            score=_split(score, pieces),
        )

    def _windows(self, lists: Lists, feature: int, dropped: frozenset[int]) -> list[list[_Found]]:
        found = []
        for of_all, size in zip(lists, self.options.sizes, strict=True):
            windows = (window for window in _read(of_all, feature, self.options.before) if window.key not in dropped)
            found.append(list(islice(windows, size)))
        return found

    def to_bytes(self) -> bytes:
        """Return the whole state, compressed; equal states are equal bytes."""
        tensors = {name: tensor.cpu().contiguous() for name, tensor in self._tensors().items()}
        header = {"format": _FORMAT, "n_tokens": self.n_tokens, "options": asdict(self.options)}
        packed = safetensors.torch.save(tensors, {"exemplars": json.dumps(header, sort_keys=True)})
        # Many features share a window, far apart: long-distance matching finds them.
        parameters = zstandard.ZstdCompressionParameters.from_level(3, source_size=len(packed), enable_ldm=True)
        return zstandard.ZstdCompressor(compression_params=parameters).compress(packed)

    @classmethod
    def from_bytes(cls, data: bytes, device: torch.device | str = "cpu") -> "ExemplarAccumulator":
        """Return the accumulator that `to_bytes` was called on. Raises GlossariumError on anything else."""
        try:
            packed = zstandard.ZstdDecompressor(max_window_size=2**27).decompress(data)
            header = json.loads(_metadata(packed)["exemplars"])
            tensors = {name: tensor.to(device) for name, tensor in safetensors.torch.load(packed).items()}
        except (zstandard.ZstdError, safetensors.SafetensorError, ValueError, KeyError) as exc:
            raise GlossariumError(f"{len(data)} bytes that are no stored exemplars: {exc}") from exc
        if header["format"] != _FORMAT:
            raise GlossariumError(f"stored exemplars of format {header['format']}; this version reads {_FORMAT}")
        lists = [
            Lists(*(Slots(*(tensors[f"{split}.{name}.{field}"] for field in Slots._fields)) for name in Lists._fields))
            for split in (DESCRIBE, SCORE)
        ]
        counts = Tally(*(tensors[f"counts.{field}"] for field in Tally._fields))
        options = ExemplarOptions(**header["options"])
        made = cls(tensors["thresholds"], options, tensors["neighbours"], counts, lists)
        made.n_tokens = header["n_tokens"]
        return made

    def _tensors(self) -> dict[str, Tensor]:
        tensors = {"thresholds": self.thresholds, "neighbours": self.neighbours}
        tensors |= {f"counts.{field}": getattr(self.counts, field) for field in Tally._fields}
        for split, lists in enumerate(self.lists):
            for name, kept in zip(Lists._fields, lists, strict=True):
                tensors |= {f"{split}.{name}.{field}": tensor for field, tensor in kept.ordered()._asdict().items()}
        return tensors


def merge(a: ExemplarAccumulator, b: ExemplarAccumulator) -> ExemplarAccumulator:
    """Return what one accumulator would hold that had been given the contexts of two; neither is changed.

    Raises: ShapeMismatch if they were not made with the same thresholds, neighbours and options
    """
    if (
        a.options != b.options
        or not torch.equal(a.thresholds, b.thresholds)
        or not torch.equal(a.neighbours, b.neighbours)
    ):
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
    merged = ExemplarAccumulator(a.thresholds, a.options, a.neighbours, a.counts.plus(b.counts), lists)
    merged.n_tokens = a.n_tokens + b.n_tokens
    return merged


def _only(offered: Tensor, cost: Tensor) -> Tensor:
    return cost.masked_fill(~offered, torch.inf)


def _columns_of(positions: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda columns: positions[:, columns]


def _draw_positions(seen: BatchView, rows: Tensor, features: Tensor, columns: Tensor) -> Tensor:
    return seen.random_positions(rows, features[columns])


def _metadata(packed: bytes) -> dict[str, str]:
    length = int.from_bytes(packed[:8], "little")
    metadata: dict[str, str] = json.loads(packed[8 : 8 + length])["__metadata__"]
    return metadata


def _read(of_all: Slots, feature: int, before: int) -> Iterator[_Found]:
    """Yield the windows of a feature, best first, without the empty slots and what lies outside the contexts."""
    ordered = of_all.rows(slice(feature, feature + 1)).ordered()
    n_kept = int((ordered.cost < torch.inf).sum())
    rows = [tensor[0, :n_kept].tolist() for tensor in ordered[1:]]
    for context, key, position, ids, activations in zip(*rows, strict=True):
        inside = [i for i, token in enumerate(ids) if token != NO_TOKEN]
        low, high = inside[0], inside[-1] + 1
        values = activations[low:high] or [0.0] * (high - low)
        yield _Found(context, key, position, before - low, ids[low:high], values)


def _split(lists: list[list[_Found]], pieces: Pieces) -> SplitExemplars:
    top, uniform_sample, weighted, silent, hard = (tuple(_window(found, pieces) for found in part) for part in lists)
    return SplitExemplars(top=top, uniform=uniform_sample, weighted=weighted, silent=silent, hard_negatives=hard)


def _window(found: _Found, pieces: Pieces) -> Window:
    return Window(
        document=document_of(found.context),
        position=found.position,
        peak=found.peak,
        key=found.key & _MASK_32,
        tokens=pieces(found.ids),
        activations=tuple(found.activations),
    )
