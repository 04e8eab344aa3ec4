"""Many interventions on the same contexts: the clean run is cached at the write layer, only the blocks above are run.

Token change, calibration and generation add α · w at every position but the sink, through this one place. All forwards
of a clean run have one shape, padded with interventions that add nothing, because bf16 results shift with the shape of
a batch: so what comes back for a vector does not depend on its neighbours, their number or their order.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from schema.errors import NotFinite, ShapeMismatch
from schema.subjects import Site
from workers.batches import Batch
from workers.subject import Edit, Subject

_INTO_THE_RESIDUAL = frozenset({"mlp_out", "mlp_hidden"})
_AFTER_ATTENTION = frozenset({"attn_out", "attn_heads"})


def write_place(subject: Subject, site: Site) -> Site:
    """Return where an effective direction of a write site is added.

    What the MLP gives is added to the residual as it is, so its sites are steered at `resid_post`: the same sum, one
    block less to run. Every other site is steered at itself.
    """
    subject.width(site)
    return Site("resid_post", site.layer) if site.kind in _INTO_THE_RESIDUAL else site


def norm_place(subject: Subject, site: Site) -> Site:
    """Return the site whose mean norm strengths are relative to: the residual stream, where the site writes to it."""
    if site.kind in _AFTER_ATTENTION:
        return Site("resid_post" if subject.facts.blocks.parallel else "resid_mid", site.layer)
    return write_place(subject, site)


def check_directions(subject: Subject, directions: Tensor) -> Tensor:
    """Return directions (n, d) on the subject's device in float32. Raises ShapeMismatch, NotFinite."""
    if directions.dim() != 2:
        raise ShapeMismatch(f"directions={tuple(directions.shape)}; must be (n, d)")
    wide = directions.to(subject.device, torch.float32)
    broken = (~wide.isfinite().all(1)).nonzero().flatten().tolist()
    if broken:
        raise NotFinite(f"directions of rows {broken[:10]} are not finite; {len(broken)} of {len(wide)} rows")
    return wide


@dataclass(frozen=True)
class CleanRun:
    """Contexts and their residuals (C, T, d_model) where the blocks that an intervention reaches begin."""

    subject: Subject
    site: Site
    batch: Batch
    layer: int
    residual: Tensor

    @property
    def n_counted(self) -> int:
        """Return the number of counted positions."""
        return int(self.batch.counted.sum())

    @property
    def vectors_per_forward(self) -> int:
        """Return how many interventions share one forward."""
        return max(1, tokens_per_forward(self.subject) // self.batch.ids.numel())


class Steered(NamedTuple):
    """Hidden states (n, C, T, d_model) after the final norm, of the vectors from number `start` on."""

    start: int
    hidden: Tensor


def tokens_per_forward(subject: Subject) -> int:
    """Return how many tokens one forward should have, by what this process has found to fit."""
    return subject.at_once.sizes.tokens


def split_rows(subject: Subject, batch: Batch, most: int | None = None) -> list[Batch]:
    """Return the rows of a batch in parts of one forward, or of `most` rows; parts that count nothing are left out."""
    parts = in_forwards(subject, batch, most)
    return [part for part in parts if bool(part.counted.any())] or parts[:1]


def in_forwards(subject: Subject, batch: Batch, most: int | None = None) -> list[Batch]:
    """Return all rows of a batch in parts of one forward, or of `most` rows."""
    size = most or max(1, tokens_per_forward(subject) // batch.ids.shape[1])
    fields = (torch.split(x, size) for x in (batch.ids, batch.attention, batch.counted))
    return [Batch(*part) for part in zip(*fields, strict=True)]


def run_clean(subject: Subject, site: Site, batch: Batch) -> CleanRun:
    """Return the clean run for interventions at a write site. Raises UnknownSite, ShapeMismatch if nothing counts."""
    if not bool(batch.counted.any()):
        raise ShapeMismatch(f"contexts={tuple(batch.ids.shape)}; at least one token must be counted")
    place = write_place(subject, site)
    layer = subject.entry_layer(place)
    return CleanRun(subject, place, batch, layer, subject.residual_in(batch, layer))


def run_steered(clean: CleanRun, vectors: Tensor, most: int | None = None) -> Iterator[Steered]:
    """Yield hidden states under each added vector, in order, one forward at a time.

    vectors: (n, d) what is added: α · w. Zeros give the clean hidden states, computed in the same shape.
    most:    vectors in a forward, where as many as fit would mostly be padding.
    """
    size = min(clean.vectors_per_forward, most or clean.vectors_per_forward)
    tiled = tile(clean, size)
    for start in range(0, len(vectors), size):
        chunk = vectors[start : start + size]
        padded = torch.cat([chunk, chunk.new_zeros(size - len(chunk), chunk.shape[1])])
        hidden = clean.subject.resume(tiled.batch, tiled.residual, tiled.layer, add_everywhere(tiled, padded))
        yield Steered(start, hidden.view(size, *clean.batch.ids.shape, -1)[: len(chunk)])


def tile(clean: CleanRun, n: int) -> CleanRun:
    """Return the contexts n times over, for n interventions in one forward."""
    ids, attention, counted = (x.repeat(n, 1) for x in (clean.batch.ids, clean.batch.attention, clean.batch.counted))
    return replace(clean, batch=Batch(ids, attention, counted), residual=clean.residual.repeat(n, 1, 1))


def add_everywhere(tiled: CleanRun, vectors: Tensor) -> Edit:
    """Return the edit that adds one of the vectors (n, d) in each of the n repetitions of the contexts."""
    n_rows = tiled.batch.n_rows
    ones = torch.ones(n_rows, device=vectors.device)
    return Edit.add(tiled.site, vectors.repeat_interleave(n_rows // len(vectors), 0), ones)


def mean_norm(subject: Subject, site: Site, batch: Batch) -> float:
    """Return the mean norm, over counted positions, of the stream that a write site adds to."""
    values = subject.read(batch, norm_place(subject, site))
    return float(values[batch.counted].float().norm(dim=-1).mean())
