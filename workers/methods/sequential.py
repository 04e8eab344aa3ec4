"""Sequential token change: contexts are added in parts until a feature's lists are stable.

A feature is finished when at least LEAST_SHARE of the entries of its four lists were there a part earlier too, N_CALM
parts in a row, or when there are no more contexts. What more contexts would have changed is not known; `make bench`
measures the overlap with the lists of all contexts.
"""

from statistics import fmean
from typing import NamedTuple

import torch
from torch import Tensor

from schema.evidence import TokenChange
from schema.subjects import Site
from workers.batches import Batch
from workers.methods.interventions import CleanRun, in_forwards, run_clean, split_rows
from workers.methods.token_change import (
    Lists,
    Origin,
    check_steering,
    logit_changes,
    overlap,
    ranked_lists,
    record,
    total_differences,
)
from workers.subject import Subject

N_CONTEXTS = 4
"""Of a part. Eight runs then share a forward on a CPU, and few places are idle when most features are finished."""
LEAST_SHARE = 0.85
N_CALM = 2
"""Chosen on 24 features of a real dictionary at 0.5 nats: 19 of 32 contexts, 89 % of the exact lists' entries. With
other features and other texts they took 22 contexts for 88 %."""


class _Track(NamedTuple):
    """What is known of one direction.

    totals: (2, n) what its amplified and its suppressed run changed, summed over positions
    lists:  of the two runs; none before the first part
    n_calm: parts in a row that left the lists stable
    """

    totals: Tensor
    lists: tuple[Lists, ...] = ()
    n_calm: int = 0


def sequential_token_change(
    subject: Subject,
    directions: Tensor,
    site: Site,
    strengths_plus: Tensor,
    strengths_minus: Tensor,
    contexts: Batch,
    k: int = 10,
) -> list[TokenChange]:
    """Return what `token_change` returns, of as many contexts as each direction's lists need to be stable.

    What comes back for a direction does not depend on the others. Raises as `token_change` does.
    """
    steering = check_steering(subject, directions, strengths_plus, strengths_minus, k)
    pairs = steering.vectors.view(-1, 2, steering.directions.shape[1])
    made: dict[int, TokenChange] = {}
    tracks = {i: _Track(torch.zeros(())) for i in range(len(pairs))}
    n_contexts = n_positions = 0
    for part in split_rows(subject, contexts, N_CONTEXTS):
        if not tracks:
            break
        n_contexts, n_positions = n_contexts + part.n_rows, n_positions + int(part.counted.sum())
        tracks = _extended(tracks, _Part(subject, site, part, n_positions), pairs, k)
        origin = Origin(n_contexts, n_positions, "sequential")
        made |= {i: record(steering, i, track.lists, origin) for i, track in tracks.items()}
        tracks = {i: track for i, track in tracks.items() if track.n_calm < N_CALM}
    return [made[i] for i in range(len(pairs))]


def representative_first(subject: Subject, contexts: Batch) -> Batch:
    """Return the contexts in the order in which the mean of the first ones stays nearest to the mean of all.

    The mean is that of clean final hidden states: where those are alike, steering does alike.
    Source: kernel herding (arXiv 1203.3472) with a linear kernel.
    """
    order = _herd(_mean_hidden(subject, contexts))
    return Batch(contexts.ids[order], contexts.attention[order], contexts.counted[order])


def _mean_hidden(subject: Subject, contexts: Batch) -> Tensor:
    """Return the mean clean hidden state (C, d_model) of each context's counted positions, float32."""
    means = []
    for part in in_forwards(subject, contexts):
        hidden, counted = subject.hidden(part).float(), part.counted[..., None]
        means.append((hidden * counted).sum(1) / counted.sum(1).clamp(min=1))
    return torch.cat(means)


def _herd(points: Tensor) -> list[int]:
    """Return an order of points (C, d): each is the one that brings the mean so far nearest to the mean of all."""
    away = points - points.mean(0)
    left, order, total = list(range(len(away))), [], torch.zeros_like(away[0])
    while left:
        nearest = left.pop(int((total + away[left]).norm(dim=1).argmin()))
        order.append(nearest)
        total = total + away[nearest]
    return order


class _Part(NamedTuple):
    """A part of the contexts, and how many positions counted up to its end."""

    subject: Subject
    site: Site
    contexts: Batch
    n_positions: int


def _extended(tracks: dict[int, _Track], part: _Part, pairs: Tensor, k: int) -> dict[int, _Track]:
    """Return the tracks with another part of the contexts in them."""

    def extend() -> dict[int, _Track]:
        clean = run_clean(part.subject, part.site, part.contexts)
        return _extend(tracks, clean, pairs, part.n_positions, k)

    return part.subject.at_once.fit("tokens", part.contexts.ids.numel(), extend)


def _extend(tracks: dict[int, _Track], clean: CleanRun, pairs: Tensor, n_positions: int, k: int) -> dict[int, _Track]:
    differences = total_differences(clean, pairs[list(tracks)].flatten(0, 1)).view(len(tracks), 2, -1)
    totals = torch.stack([track.totals + more for track, more in zip(tracks.values(), differences, strict=True)])
    changes = logit_changes(clean.subject, totals.flatten(0, 1) / n_positions)
    lists = (lists for rows in changes for lists in ranked_lists(clean.subject, rows, k))
    by_direction = zip(tracks.items(), totals, zip(lists, lists, strict=True), strict=True)
    return {i: _Track(total, now, _n_calm(track, now)) for (i, track), total, now in by_direction}


def _n_calm(before: _Track, now: tuple[Lists, ...]) -> int:
    """Return how many parts in a row, the last one included, left the lists as good as they were."""
    if not before.lists:
        return 0
    share = fmean(overlap(*pair) for pair in zip(before.lists, now, strict=True))
    return before.n_calm + 1 if share >= LEAST_SHARE else 0
