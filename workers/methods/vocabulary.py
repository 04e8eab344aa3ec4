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

CENTRED_FROM = 256
NO_NEIGHBOUR = -1
_BLOCK_BYTES = 192 * 2**20  # of logits held at once
_BINS = 40
_EVERY = 64  # tokens, of which one is counted in a histogram: all of them would cost as much as the product
_GROUP = 16  # columns whose maximum is looked at first; 8 is no faster


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


class Ranked(NamedTuple):
    """The k largest (or smallest) of each row, in that order, ties by lower index: (n, k) values and int64 indices."""

    values: Tensor
    indices: Tensor


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
    for ends in _ahead(_ends(hidden, readout.unembedding.float(), k)):
        lists = (_token_lists(ends.promoted, readout), _token_lists(ends.suppressed, readout))
        for up, down, counts in zip(*lists, ends.counts.tolist(), strict=True):
            (ids, cosines), length = next(near)
            yield VocabularyProjection(
                promoted=up if length else _NO_TOKENS,
                suppressed=down if length else _NO_TOKENS,
                neighbours=ids,
                cosines=cosines,
                centred=readout.centre is not None,
                histogram=_histogram(down.values[0], up.values[0], counts) if length else None,
            )


class _Ends(NamedTuple):
    """Of each row of logits: the k largest, the k smallest, and how the others lie between: (n, _BINS) counts."""

    promoted: Ranked
    suppressed: Ranked
    counts: Tensor


def _ends(hidden: Tensor, unembedding: Tensor, k: int) -> Iterator[_Ends]:
    """Yield what is kept of the logits, block by block."""
    for logits in products(hidden, unembedding):
        promoted, suppressed = largest(logits, k), smallest(logits, k)
        some = logits[:, ::_EVERY]
        yield _Ends(promoted, suppressed, binned(some, suppressed.values[:, :1], promoted.values[:, :1], _BINS))


def binned(x: Tensor, low: Tensor, high: Tensor, n_bins: int) -> Tensor:
    """Return how many values of each row of x (n, m) are in each of n_bins equal steps from low to high (n, 1)."""
    widths = (high - low).clamp(min=torch.finfo(x.dtype).tiny)
    places = ((x - low) * (n_bins / widths)).to(torch.int64).clamp_(0, n_bins - 1)
    places += torch.arange(0, len(x) * n_bins, n_bins, device=x.device)[:, None]
    return torch.bincount(places.flatten(), minlength=len(x) * n_bins).view(len(x), n_bins)


def _histogram(low: float, high: float, counts: Sequence[int]) -> LogitHistogram:
    return LogitHistogram.model_construct(low=low, high=high, counts=tuple(counts), every=_EVERY)


def _ahead(items: Iterator[_Ends]) -> Iterator[_Ends]:
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
    for rows in _blocks(len(queries), len(decoder)):
        asked = queries[rows].to(decoder.device)
        cosines = (units[asked] @ units.T).clamp_(-1.0, 1.0)
        cosines.masked_fill_((lengths == 0) | (lengths[asked] == 0)[:, None], -torch.inf)
        cosines.scatter_(1, asked[:, None], -torch.inf)
        values, ids = largest(cosines, n_kept)
        none = values == -torch.inf
        found.ids[rows, :n_kept] = ids.masked_fill(none, NO_NEIGHBOUR)
        found.cosines[rows, :n_kept] = values.masked_fill(none, 0.0)
    return found


def largest(x: Tensor, k: int) -> Ranked:
    """Return the k largest of each row of x (n, m), exactly, ties by lower index included."""
    return _ranked(x, k, 1)


def smallest(x: Tensor, k: int) -> Ranked:
    """Return the k smallest of each row of x (n, m), likewise."""
    found = _ranked(x, k, -1)
    return found._replace(values=-found.values)


def _ranked(x: Tensor, k: int, sign: int) -> Ranked:
    found = _topmost(x, k, sign)
    ranked = Ranked(found.values, found.indices)
    unordered = (ranked.values[:, 1:] == ranked.values[:, :-1]).any(dim=1)  # equal ones may stand in any order
    if unordered.any():
        _put(ranked, unordered, _by_index(Ranked(ranked.values[unordered], ranked.indices[unordered])))
    tied = (found.searched >= ranked.values[:, -1:]).sum(dim=1) > k  # so it may be the wrong one that is missing
    if tied.any():
        _put(ranked, tied, _sorted(sign * x[tied], k))
    return ranked


def _by_index(ranked: Ranked) -> Ranked:
    """Return the same, largest first, ties by lower index."""
    by_index = ranked.indices.argsort(dim=1)
    order = by_index.gather(1, ranked.values.gather(1, by_index).argsort(dim=1, descending=True, stable=True))
    return Ranked(ranked.values.gather(1, order), ranked.indices.gather(1, order))


def _put(ranked: Ranked, rows: Tensor, instead: Ranked) -> None:
    """Write other lists to some rows, a mask (n,)."""
    ranked.values[rows], ranked.indices[rows] = instead


class _Topmost(NamedTuple):
    """The k largest of each row, equal ones in any order, and the columns that were searched for them, by value."""

    values: Tensor
    indices: Tensor
    searched: Tensor


def _topmost(x: Tensor, k: int, sign: int) -> _Topmost:
    """Return the k largest of each row of sign · x, searched for in the groups of columns with the largest maxima.

    Those are k + 1 groups: one more than can be needed, so that a tie for the last place shows.
    """
    n_groups = x.shape[1] // _GROUP
    if n_groups <= 2 * k:
        searched = x if sign > 0 else -x
        return _Topmost(*searched.topk(k, dim=1), searched)
    n_grouped = n_groups * _GROUP
    head = x[:, :n_grouped].view(len(x), _GROUP, n_groups)  # group g is every n_groups-th column from g on
    groups = _topmost(head.amax(dim=1) if sign > 0 else head.amin(dim=1).neg_(), k + 1, 1).indices
    found = head.gather(2, groups[:, None].expand(-1, _GROUP, -1)).flatten(1)
    searched = torch.cat([found, x[:, n_grouped:]], dim=1) if n_grouped < x.shape[1] else found
    values, places = (searched if sign > 0 else searched.neg_()).topk(k, dim=1)
    step = places.div(k + 1, rounding_mode="floor")
    columns = groups.gather(1, places - step * (k + 1)) + step * n_groups
    in_tail = places - found.shape[1] + n_grouped
    return _Topmost(values, torch.where(step < _GROUP, columns, in_tail), searched)


def _sorted(x: Tensor, k: int) -> Ranked:
    values, indices = x.sort(dim=1, descending=True, stable=True)
    return Ranked(values[:, :k], indices[:, :k])


def _lengths(directions: Tensor) -> Tensor:
    lengths: Tensor = torch.linalg.vector_norm(directions.float(), dim=1)
    return lengths


def products(rows: Tensor, matrix: Tensor) -> Iterator[Tensor]:
    """Yield rows @ matrix.T in blocks of rows, each where the one before was: fresh memory costs time."""
    made = rows.new_empty(0)
    for block in _blocks(len(rows), len(matrix)):
        n = block.stop - block.start
        made = made[:n] if len(made) >= n else rows.new_empty(n, len(matrix))
        yield torch.mm(rows[block], matrix.T, out=made)


def _blocks(n_rows: int, n_columns: int) -> Iterator[slice]:
    size = max(1, _BLOCK_BYTES // (4 * n_columns))
    for start in range(0, n_rows, size):
        yield slice(start, min(start + size, n_rows))


_NO_TOKENS = TokenList(ids=(), tokens=(), values=())


def _token_lists(ranked: Ranked, readout: Readout) -> Iterator[TokenList]:
    # Not validated, as they come from us: that would cost a twentieth of the projection, while one core idles.
    for ids, values in zip(ranked.indices.tolist(), ranked.values.tolist(), strict=True):
        yield TokenList.model_construct(ids=tuple(ids), tokens=readout.token_strings(ids), values=tuple(values))


def _neighbour_lists(neighbours: Neighbours) -> Iterator[_NeighbourLists]:
    for ids, cosines in zip(neighbours.ids.tolist(), neighbours.cosines.tolist(), strict=True):
        n = sum(i != NO_NEIGHBOUR for i in ids)
        yield tuple(ids[:n]), tuple(cosines[:n])
