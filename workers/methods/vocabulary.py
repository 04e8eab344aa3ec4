"""What write directions promote and suppress by themselves: W_U · norm(w), without corpus or forward pass.

Source: arXiv 2501.08319, section 3 (VocabProj). We differ: a norm's bias is dropped, and from CENTRED_FROM features on
the dictionary's mean is subtracted, which takes away tokens that every feature promotes. A final soft-cap is left out:
it changes no order. A direction of length zero promotes nothing: its lists are empty, and it is nobody's neighbour.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from schema.errors import InvalidInput, NotFinite, ShapeMismatch
from schema.evidence import LogitHistogram, TokenList, VocabularyProjection
from workers.methods.ranking import Ranked, largest
from workers.methods.screening import Ends, ends, rows_at_once

CENTRED_FROM = 256
NO_NEIGHBOUR = -1
_BINS = 40
_EVERY = 64  # tokens, of which one is counted in a histogram: all of them would cost as much as the product


@dataclass(frozen=True)
class Readout:
    """How a subject turns directions into tokens.

    norm:          the final norm, (…, d_model) to (…, d_model); its bias is taken out here
    unembedding:   (n_vocab, d_model)
    token_strings: from ids to the text of single tokens
    centre:        (d_model,) `mean_direction` of the whole dictionary, or None
    """

    norm: Callable[[Tensor], Tensor]
    unembedding: Tensor
    token_strings: Callable[[Sequence[int]], tuple[str, ...]]
    centre: Tensor | None = None


class Neighbours(NamedTuple):
    """The nearest features by cosine, nearest first: (n, k) int64 ids and float32 cosines.

    Where a feature has fewer, ids are NO_NEIGHBOUR and cosines 0.
    """

    ids: Tensor
    cosines: Tensor


_NeighbourLists = tuple[tuple[int, ...], tuple[float, ...]]


def project_vocabulary(
    directions: Tensor, readout: Readout, neighbours: Neighbours, *, k: int
) -> Iterator[VocabularyProjection]:
    """Return the k most promoted and k most suppressed tokens of each direction, block by block; ties by lower id.

    directions: (n, d_model) effective write directions; scale does not matter
    neighbours: of the same n features, from `nearest_neighbours`
    Raises:     ShapeMismatch, NotFinite, InvalidInput where k is not 1..n_vocab
    """
    n_vocab, d_model = readout.unembedding.shape
    if directions.dim() != 2 or directions.shape[1] != d_model or len(neighbours.ids) != len(directions):
        raise ShapeMismatch(
            f"directions {tuple(directions.shape)} with neighbours of {len(neighbours.ids)} features; the subject "
            f"needs (n, {d_model}) and neighbours of n"
        )
    if not 1 <= k <= n_vocab:
        raise InvalidInput(f"k={k}; must be 1..{n_vocab}, the size of the vocabulary")
    hidden = normed_directions(directions, readout.norm)
    if readout.centre is not None:
        hidden = hidden - readout.centre
    near = zip(_neighbour_lists(neighbours), _lengths(directions).tolist(), strict=True)
    return _projections(hidden, near, readout, k)


def _projections(
    hidden: Tensor, near: Iterator[tuple[_NeighbourLists, float]], readout: Readout, k: int
) -> Iterator[VocabularyProjection]:
    for known in _ahead(_known(hidden, readout.unembedding, k)):
        lists = (_token_lists(known.ends.largest, readout), _token_lists(known.ends.smallest, readout))
        for up, down, counts in zip(*lists, known.counts.tolist(), strict=True):
            (ids, cosines), length = next(near)
            yield VocabularyProjection(
                promoted=up if length else _NO_TOKENS,
                suppressed=down if length else _NO_TOKENS,
                neighbours=ids,
                cosines=cosines,
                centred=readout.centre is not None,
                histogram=_histogram(down.values[0], up.values[0], counts) if length else None,
            )


class _Known(NamedTuple):
    """What is kept of a block of logits: their ends, and how some of the others lie between: (n, _BINS) counts."""

    ends: Ends
    counts: Tensor


def _known(hidden: Tensor, unembedding: Tensor, k: int) -> Iterator[_Known]:
    """Yield what is kept of the logits, block by block."""
    some = unembedding[::_EVERY].float()
    start = 0
    for found in ends(hidden, unembedding, k):
        low, high = found.smallest.values[:, :1], found.largest.values[:, :1]
        rows = hidden[start : start + len(low)]
        start += len(low)
        yield _Known(found, binned(rows @ some.T, low, high, _BINS))


def binned(x: Tensor, low: Tensor, high: Tensor, n_bins: int) -> Tensor:
    """Return how many values of each row of x (n, m) are in each of n_bins equal steps from low to high (n, 1)."""
    widths = (high - low).clamp(min=torch.finfo(x.dtype).tiny)
    places = ((x - low) * (n_bins / widths)).to(torch.int64).clamp_(0, n_bins - 1)
    places += torch.arange(0, len(x) * n_bins, n_bins, device=x.device)[:, None]
    return torch.bincount(places.flatten(), minlength=len(x) * n_bins).view(len(x), n_bins)


def _histogram(low: float, high: float, counts: Sequence[int]) -> LogitHistogram:
    return LogitHistogram.model_construct(low=low, high=high, counts=tuple(counts), every=_EVERY)


def _ahead(items: Iterator[_Known]) -> Iterator[_Known]:
    """Yield the items, each while the next one is made: records are made by one core, and the others would wait."""
    with ThreadPoolExecutor(1, "vocabulary") as pool:
        upcoming = pool.submit(next, items, None)
        while (item := upcoming.result()) is not None:
            upcoming = pool.submit(next, items, None)
            yield item


def mean_direction(directions: Tensor, norm: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the mean (d_model,) of a dictionary's directions after the final norm, those of length zero left out.

    The product with W_U is linear, so subtracting this is subtracting the mean logit of every token.
    """
    some = directions[_lengths(directions) > 0]
    if len(some) == 0:
        return torch.zeros(directions.shape[1], device=directions.device)
    return normed_directions(some, norm).mean(dim=0)


def normed_directions(directions: Tensor, norm: Callable[[Tensor], Tensor]) -> Tensor:
    """Return directions (n, d_model) after the final norm without its bias, float32. Raises NotFinite.

    They are brought to mean square 1 before, so that the norm's epsilon does not weigh short ones down.
    """
    lengths = _lengths(directions)
    bad = ~lengths.isfinite()
    if bad.any():
        raise NotFinite(f"direction {int(bad.int().argmax())} has no finite length in float32")
    units = directions.float() / lengths.clamp(min=torch.finfo(torch.float32).tiny)[:, None]
    scaled = units * directions.shape[1] ** 0.5
    return (norm(scaled) - norm(torch.zeros_like(scaled[:1]))).float()


def nearest_neighbours(decoder: Tensor, queries: Tensor, k: int = 10) -> Neighbours:
    """Return the k features nearest to each queried one by cosine of their decoder rows, itself left out.

    decoder: (F, width); queries: (n,) feature indices
    """
    lengths = _lengths(decoder)
    units = decoder.float() / lengths.clamp(min=torch.finfo(torch.float32).tiny)[:, None]
    n_kept = min(k, len(decoder) - 1)
    found = Neighbours(
        torch.full((len(queries), k), NO_NEIGHBOUR, device=decoder.device),
        torch.zeros((len(queries), k), device=decoder.device),
    )
    if n_kept == 0:
        return found
    for rows in torch.split(torch.arange(len(queries)), rows_at_once(len(decoder))):
        asked = queries[rows].to(decoder.device)
        cosines = (units[asked] @ units.T).clamp_(-1.0, 1.0)
        cosines.masked_fill_((lengths == 0) | (lengths[asked] == 0)[:, None], -torch.inf)
        cosines.scatter_(1, asked[:, None], -torch.inf)
        values, ids = largest(cosines, n_kept)
        none = values == -torch.inf
        found.ids[rows, :n_kept] = ids.masked_fill(none, NO_NEIGHBOUR)
        found.cosines[rows, :n_kept] = values.masked_fill(none, 0.0)
    return found


def _lengths(directions: Tensor) -> Tensor:
    lengths: Tensor = torch.linalg.vector_norm(directions.float(), dim=1)
    return lengths


_NO_TOKENS = TokenList(ids=(), tokens=(), values=())


def _token_lists(ranked: Ranked, readout: Readout) -> Iterator[TokenList]:
    # Not validated, as they come from us: that would cost a twentieth of the projection, while one core idles.
    for ids, values in zip(ranked.indices.tolist(), ranked.values.tolist(), strict=True):
        yield TokenList.model_construct(ids=tuple(ids), tokens=readout.token_strings(ids), values=tuple(values))


def _neighbour_lists(neighbours: Neighbours) -> Iterator[_NeighbourLists]:
    for ids, cosines in zip(neighbours.ids.tolist(), neighbours.cosines.tolist(), strict=True):
        n = sum(i != NO_NEIGHBOUR for i in ids)
        yield tuple(ids[:n]), tuple(cosines[:n])
