"""Token change: which next tokens a feature raises and lowers when it is amplified or suppressed in real contexts.

Mean over counted positions of `logits(steered) - logits(clean)`. The clean residuals are computed once for all features
and only the blocks above the write layer run again. Without a final soft-cap the logits are linear in the normed hidden
state, so the mean is taken there and each feature costs one product with the unembedding.
"""

from collections.abc import Iterator, Sequence
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional

from schema.errors import InvalidInput, ShapeMismatch
from schema.records import TokenChange, TokenList
from schema.subjects import Site
from workers.methods.interventions import CleanRun, check_directions, run_clean, run_steered, split_rows
from workers.subject import Batch, Subject

# How much of (positions, n_vocab) under a soft-cap, of (changes, n_vocab), and of the unembedding is held at once.
_POSITIONS_AT_ONCE = 64
_ROWS_AT_ONCE = 32
_VOCABULARY_AT_ONCE = 32768


def token_change(
    subject: Subject,
    directions: Tensor,
    site: Site,
    strengths_plus: Tensor,
    strengths_minus: Tensor,
    contexts: Batch,
    k: int = 10,
) -> list[TokenChange]:
    """Return four ranked lists of k tokens for each direction: amplified and suppressed, raised and lowered.

    directions:      (n, d_model) effective write directions; at the site, α · w is added.
    strengths_plus:  (n,) α of the amplified run; strengths_minus: (n,) α of the suppressed one, negative.
    contexts:        token rows; changes are means over their counted positions.
    Values are raw: a shift that all logits share is in them. Ties by lower id; unchanged tokens are in no list.
    Raises:          InvalidInput if k is out of range, ShapeMismatch, NotFinite, UnknownSite, OutOfMemory.
    Source:          arXiv 2501.08319 section 3; we differ in the strength (theirs is ±10) and in that the lists are
                     signed (theirs rank absolute changes).
    """
    if not 1 <= k <= subject.n_vocab:
        raise InvalidInput(f"k={k}; must be 1..{subject.n_vocab}")
    wide = check_directions(subject, directions)
    plus, minus = (_strengths(subject, s, len(wide)) for s in (strengths_plus, strengths_minus))
    if not len(wide):
        return []
    vectors = torch.stack([plus[:, None] * wide, minus[:, None] * wide], 1).flatten(0, 1)

    def ranked() -> list[tuple[TokenList, TokenList]]:
        clean = [run_clean(subject, site, part) for part in split_rows(subject, contexts)]
        return [lists for change in _changes(clean, vectors) for lists in _rank(subject, change, k)]

    lists = subject.at_once.fit("tokens", contexts.ids.shape[1], ranked)
    return [
        TokenChange(
            amplified_raised=lists[2 * i][0],
            amplified_lowered=lists[2 * i][1],
            suppressed_raised=lists[2 * i + 1][0],
            suppressed_lowered=lists[2 * i + 1][1],
            strength_amplified=float(plus[i]),
            strength_suppressed=float(minus[i]),
            n_contexts=contexts.n_rows,
            n_positions=int(contexts.counted.sum()),
        )
        for i in range(len(wide))
    ]


def _strengths(subject: Subject, strengths: Tensor, n: int) -> Tensor:
    if strengths.shape != (n,):
        raise ShapeMismatch(f"strengths={tuple(strengths.shape)}; must be ({n},), one a direction")
    return strengths.to(subject.device, torch.float32)


def _changes(clean: Sequence[CleanRun], vectors: Tensor) -> Iterator[Tensor]:
    """Yield mean changes of logits (rows, n_vocab), float32, for the vectors (n, d) in order."""
    with_clean = torch.cat([vectors.new_zeros(1, vectors.shape[1]), vectors])
    totals = sum(torch.cat(list(_total_outputs(run, with_clean))) for run in clean)
    means = cast(Tensor, totals) / sum(run.n_counted for run in clean)
    for rows in torch.split(means[1:] - means[:1], _ROWS_AT_ONCE):
        yield rows if clean[0].subject.softcapped else _unembed_differences(clean[0].subject, rows)


def _total_outputs(clean: CleanRun, vectors: Tensor) -> Iterator[Tensor]:
    """Yield summed final hidden states (rows, d_model) of the vectors, or summed logits under a soft-cap."""
    for steered in run_steered(clean, vectors):
        counted = steered.hidden[:, clean.batch.counted]
        if clean.subject.softcapped:
            yield torch.stack([_total_logits(clean.subject, positions) for positions in counted])
        else:
            yield counted.float().sum(1)


def _total_logits(subject: Subject, hidden: Tensor) -> Tensor:
    """Return summed logits (n_vocab,) of hidden states (positions, d_model), never holding all of them."""
    totals = torch.zeros(subject.n_vocab, device=hidden.device)
    for rows in torch.split(hidden, _POSITIONS_AT_ONCE):
        totals += subject.unembed(rows).sum(0)
    return totals


def _unembed_differences(subject: Subject, differences: Tensor) -> Tensor:
    """Return W_U · difference (rows, n_vocab) in float32: rounding to bf16 would drown small changes."""
    # One shape whatever the number of rows, so that a feature's values do not depend on its neighbours.
    padded = functional.pad(differences, (0, 0, 0, _ROWS_AT_ONCE - len(differences)))
    blocks = torch.split(subject.unembedding, _VOCABULARY_AT_ONCE)
    return torch.cat([padded @ block.float().T for block in blocks], 1)[: len(differences)]


def _rank(subject: Subject, changes: Tensor, k: int) -> Iterator[tuple[TokenList, TokenList]]:
    """Yield the raised and the lowered list of each row of changes (rows, n_vocab)."""
    for row in changes:
        yield _strongest(subject, row, k, 1.0), _strongest(subject, row, k, -1.0)


def _strongest(subject: Subject, changes: Tensor, k: int, sign: float) -> TokenList:
    """Return the k tokens that rose (sign 1) or fell (-1) most; ties by lower id."""
    signed = changes * sign
    # All ties at the k-th place are candidates; nonzero() gives them by id, and the sort is stable.
    ids = ((signed >= signed.topk(k).values[-1]) & (changes != 0.0)).nonzero().flatten()
    ids = ids[signed[ids].argsort(descending=True, stable=True)][:k]
    found = ids.tolist()
    return TokenList(ids=tuple(found), tokens=subject.token_strings(found), values=tuple(changes[ids].tolist()))
