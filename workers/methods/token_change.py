"""Token change: which next tokens a feature raises and lowers when it is amplified or suppressed in real contexts.

Mean over counted positions of `logits(steered) - logits(clean)`. The clean residuals are computed once for all features
and only the blocks above the write layer run again. Without a final soft-cap the logits are linear in the normed hidden
state, so the mean is taken there and each feature costs one product with the unembedding.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor
from torch.nn import functional

from schema.errors import InvalidInput, ShapeMismatch
from schema.evidence import Agreement, TokenChange, TokenList
from schema.records import TokenChangeMethod
from schema.subjects import Site
from workers.batches import Batch
from workers.methods.interventions import CleanRun, check_directions, run_clean, run_steered, split_rows
from workers.methods.ranking import Ranked, largest, smallest
from workers.methods.screening import Ends
from workers.subject import Subject

# How much of (positions, n_vocab) under a soft-cap, of (changes, n_vocab), and of the unembedding is held at once.
_POSITIONS_AT_ONCE = 64
_ROWS_AT_ONCE = 32
_VOCABULARY_AT_ONCE = 32768


class Steering(NamedTuple):
    """Directions (n, d) and the strengths (n,) of their amplified and of their suppressed run, float32."""

    directions: Tensor
    plus: Tensor
    minus: Tensor

    @property
    def vectors(self) -> Tensor:
        """Return what is added (2n, d): amplified and suppressed by turns."""
        signed = (strengths[:, None] * self.directions for strengths in (self.plus, self.minus))
        return torch.stack(list(signed), 1).flatten(0, 1)


class Lists(NamedTuple):
    """The tokens that one run raised most and lowered most."""

    raised: TokenList
    lowered: TokenList


def overlap(one: Lists, other: Lists) -> float:
    """Return the share of the entries of two lists that the lists of another run have too; 1 where there is none."""
    pairs = list(zip(one, other, strict=True))
    n_entries = sum(max(len(a.ids), len(b.ids)) for a, b in pairs)
    return sum(len(set(a.ids) & set(b.ids)) for a, b in pairs) / n_entries if n_entries else 1.0


class Origin(NamedTuple):
    """Positions that a change is a mean over, and how it was found."""

    n_contexts: int
    n_positions: int
    method: TokenChangeMethod
    agreement: Agreement | None = None


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
    steering = check_steering(subject, directions, strengths_plus, strengths_minus, k)
    if not len(steering.directions):
        return []

    def ranked() -> list[Lists]:
        clean = [run_clean(subject, site, part) for part in split_rows(subject, contexts)]
        return [lists for rows in mean_changes(clean, steering.vectors) for lists in ranked_lists(subject, rows, k)]

    lists = subject.at_once.fit("tokens", contexts.ids.shape[1], ranked)
    origin = Origin(contexts.n_rows, int(contexts.counted.sum()), "exact")
    return [record(steering, i, lists[2 * i : 2 * i + 2], origin) for i in range(len(steering.directions))]


def check_steering(subject: Subject, directions: Tensor, plus: Tensor, minus: Tensor, k: int) -> Steering:
    """Return what is to be added, on the subject's device. Raises InvalidInput, ShapeMismatch, NotFinite."""
    if not 1 <= k <= subject.n_vocab:
        raise InvalidInput(f"k={k}; must be 1..{subject.n_vocab}")
    wide = check_directions(subject, directions)
    return Steering(wide, *(_strengths(subject, strengths, len(wide)) for strengths in (plus, minus)))


def record(steering: Steering, i: int, lists: Sequence[Lists], origin: Origin) -> TokenChange:
    """Return the record of direction i, from the lists of its amplified and of its suppressed run."""
    amplified, suppressed = lists
    return TokenChange(
        amplified_raised=amplified.raised,
        amplified_lowered=amplified.lowered,
        suppressed_raised=suppressed.raised,
        suppressed_lowered=suppressed.lowered,
        strength_amplified=float(steering.plus[i]),
        strength_suppressed=float(steering.minus[i]),
        **origin._asdict(),
    )


def _strengths(subject: Subject, strengths: Tensor, n: int) -> Tensor:
    if strengths.shape != (n,):
        raise ShapeMismatch(f"strengths={tuple(strengths.shape)}; must be ({n},), one a direction")
    return strengths.to(subject.device, torch.float32)


def mean_changes(clean: Sequence[CleanRun], vectors: Tensor) -> Iterator[Tensor]:
    """Yield mean changes of logits (rows, n_vocab), float32, for the vectors (n, d) in order."""
    totals = cast(Tensor, sum(total_differences(run, vectors) for run in clean))
    yield from logit_changes(clean[0].subject, totals / sum(run.n_counted for run in clean))


def total_differences(clean: CleanRun, vectors: Tensor) -> Tensor:
    """Return what each vector (n, d) changes, summed over counted positions, float32.

    Changes of final hidden states (n, d_model), or of logits (n, n_vocab) under a soft-cap.
    """
    with_clean = torch.cat([vectors.new_zeros(1, vectors.shape[1]), vectors])
    totals = torch.cat(list(_total_outputs(clean, with_clean)))
    return totals[1:] - totals[:1]


def logit_changes(subject: Subject, differences: Tensor) -> Iterator[Tensor]:
    """Yield changes of logits (rows, n_vocab) for differences as `total_differences` has them."""
    for rows in torch.split(differences, _ROWS_AT_ONCE):
        yield rows if subject.softcapped else _unembed_differences(subject, rows)


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


def ranked_lists(subject: Subject, changes: Tensor, k: int) -> Iterator[Lists]:
    """Yield the k tokens that rose and that fell most in each row of changes (n, n_vocab); ties by lower id."""
    return lists_of(subject, Ends(largest(changes, k), smallest(changes, k)))


def lists_of(subject: Subject, changed: Ends) -> Iterator[Lists]:
    """Yield the tokens of each row's largest and smallest changes."""
    sides = zip(token_lists(subject, changed.largest), token_lists(subject, changed.smallest), strict=True)
    return (Lists(raised, lowered) for raised, lowered in sides)


def token_lists(subject: Subject, ranked: Ranked) -> Iterator[TokenList]:
    """Yield the lists of ranked changes (n, k), without tokens that did not change."""
    for ids, values in zip(ranked.indices.tolist(), ranked.values.tolist(), strict=True):
        changed = [(token, value) for token, value in zip(ids, values, strict=True) if value]
        found = tuple(token for token, _ in changed)
        yield TokenList(ids=found, tokens=subject.token_strings(found), values=tuple(value for _, value in changed))
