"""Linear token change: what the blocks above a site make of any direction, at the price of a vocabulary projection.

J is the mean Jacobian of the hidden state after the final norm with respect to a shift of the whole site. W_U · J · w
is, to first order, the change of the mean logits per unit of strength; a final soft-cap is left out. What the blocks do
to a shift as long as steering needs is not known here: `agreement` measures it against exact token change.
Reverse mode, one row of J after the other, in the subject's own dtype: docs/decisions/6-linear-token-change.md.
"""

from collections.abc import Iterator
from statistics import fmean
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from schema.errors import ShapeMismatch
from schema.evidence import Agreement, TokenChange, TokenList
from schema.subjects import Site
from workers.batches import Batch
from workers.methods.interventions import add_everywhere, run_clean, split_rows, tile
from workers.methods.screening import ends
from workers.methods.token_change import (
    Lists,
    Origin,
    Steering,
    check_steering,
    lists_of,
    mean_changes,
    overlap,
    ranked_lists,
    record,
)
from workers.subject import Subject

N_POSITIONS = 256
"""Counted positions that J is at least a mean over, where the contexts have so many."""


def first_positions(contexts: Batch, n: int = N_POSITIONS) -> Batch:
    """Return the first contexts that have n counted positions between them; all of them where they have fewer."""
    before = contexts.counted.sum(1).cumsum(0) - contexts.counted.sum(1)
    n_rows = int((before < n).sum())
    return Batch(contexts.ids[:n_rows], contexts.attention[:n_rows], contexts.counted[:n_rows])


def jacobian_rows(subject: Subject, site: Site, contexts: Batch) -> Iterator[Tensor]:
    """Yield the mean Jacobian (d_model, d) by blocks of rows, float32.

    site:     the write site; the shift is where steering adds, at every position but the sink.
    contexts: token rows, all in one forward; the mean is over their counted positions.
    Keeps the graph of as many tokens as `subject.at_once` says are traced; running out of memory is the caller's.
    Raises:   ShapeMismatch if nothing counts, UnknownSite.
    """
    clean = run_clean(subject, site, contexts)
    n = max(1, subject.at_once.sizes.traced // contexts.ids.numel())
    tiled = tile(clean, n)
    width = subject.unit_directions(site).shape[1]
    # The fused kernel's backward took half the time on a CPU; attention over rows this short needs no fusing.
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        shifts = torch.zeros(n, width, device=subject.device, requires_grad=True)
        hidden = subject.resume_traced(tiled.batch, tiled.residual, tiled.layer, add_everywhere(tiled, shifts))
    for coordinates in torch.split(torch.arange(subject.d_model, device=subject.device), n):
        seeds = _seeds(hidden, coordinates, contexts.counted)
        (gradients,) = torch.autograd.grad(hidden, shifts, seeds, retain_graph=True)
        yield gradients[: len(coordinates)] / clean.n_counted


def _seeds(hidden: Tensor, coordinates: Tensor, counted: Tensor) -> Tensor:
    """Return where to differentiate from: in repetition i coordinate i, at every counted position."""
    seeds = torch.zeros_like(hidden).view(-1, *counted.shape, hidden.shape[-1])
    for repetition, coordinate in zip(seeds, coordinates.tolist(), strict=False):
        repetition[..., coordinate] = counted.to(hidden.dtype)
    return seeds.view_as(hidden)


class Linear(NamedTuple):
    """A mean Jacobian (d_model, d), what it is a mean over, and how far it can be relied on where that is known."""

    jacobian: Tensor
    n_contexts: int
    n_positions: int
    agreement: Agreement | None = None


def linear_token_change(
    subject: Subject, directions: Tensor, strengths_plus: Tensor, strengths_minus: Tensor, linear: Linear, k: int = 10
) -> Iterator[TokenChange]:
    """Yield what `token_change` returns, to first order: one list of largest and one of smallest serves both signs.

    Raises: InvalidInput if k is out of range, ShapeMismatch, NotFinite.
    """
    steering = check_steering(subject, directions, strengths_plus, strengths_minus, k)
    slopes = _slopes(steering.directions, linear)
    origin = Origin(linear.n_contexts, linear.n_positions, "linear", linear.agreement)
    return _records(subject, steering, slopes, origin, k)


def _slopes(vectors: Tensor, linear: Linear) -> Tensor:
    """Return J · v (n, d_model) of vectors (n, d)."""
    jacobian = linear.jacobian.to(vectors.device)
    if jacobian.shape[1] != vectors.shape[1]:
        raise ShapeMismatch(f"directions={vectors.shape[1]}; the Jacobian is of shifts of {jacobian.shape[1]}")
    return vectors @ jacobian.T


def _records(subject: Subject, steering: Steering, slopes: Tensor, origin: Origin, k: int) -> Iterator[TokenChange]:
    per_unit = (lists for found in ends(slopes, subject.unembedding, k) for lists in lists_of(subject, found))
    for i, lists in enumerate(per_unit):
        signed = [_at(lists, float(strengths[i])) for strengths in (steering.plus, steering.minus)]
        yield record(steering, i, signed, origin)


def _at(per_unit: Lists, strength: float) -> Lists:
    """Return lists at a strength: where it is negative, what falls along the direction rises."""
    raised, lowered = per_unit if strength >= 0 else (per_unit.lowered, per_unit.raised)
    return Lists(_times(raised, strength), _times(lowered, strength))


def _times(tokens: TokenList, strength: float) -> TokenList:
    if strength == 0:
        return TokenList(ids=(), tokens=(), values=())
    return TokenList(ids=tokens.ids, tokens=tokens.tokens, values=tuple(value * strength for value in tokens.values))


def agreement(
    subject: Subject, site: Site, steering: Steering, contexts: Batch, linear: Linear, k: int = 10
) -> Agreement:
    """Return how far linear token change finds what the exact one finds of some directions on the contexts."""
    clean = [run_clean(subject, site, part) for part in split_rows(subject, contexts)]
    exact = torch.cat(list(mean_changes(clean, steering.vectors)))
    slopes = _slopes(steering.vectors, linear)
    return _compare(subject, exact, slopes @ subject.unembedding.float().T, k)


def _compare(subject: Subject, exact: Tensor, linear: Tensor, k: int) -> Agreement:
    rows = zip(ranked_lists(subject, exact, k), ranked_lists(subject, linear, k), strict=True)
    shares = [overlap(*pair) for pair in rows]
    cosines = functional.cosine_similarity(exact - exact.mean(1, keepdim=True), linear - linear.mean(1, keepdim=True))
    return Agreement(overlap=fmean(shares), cosine=float(cosines.mean()), n_features=len(exact) // 2)
