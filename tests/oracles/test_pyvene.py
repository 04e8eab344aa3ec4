"""Our interventions against pyvene's, which finds modules, positions and subspaces by code of its own: `make oracles`.

pyvene is given one row at a time, unpadded; ours runs all rows as one padded batch. What corresponds:

- collect: `Subject.read`.
- add: `Edit.add` at every position but the sink. A neuron's is pyvene's addition before the down projection.
- interchange of a direction, in a rotated basis: `Edit.set` of a plain direction to the source's component.
- interchange of a whole value: `Edit.add` of the source's value less the base's. `Edit.set` moves one direction only.

Gemma's neurons are not edited here: a norm follows their projection, and our effective direction is that norm's gain
alone, while pyvene's edit changes what the norm divides by.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest
import pyvene
import torch
from torch import Tensor

from schema.subjects import Site
from tests.tiny import build_subject
from workers.subject import Edit, Subject

LAYER = 1
TOLERANCE = 1e-5

# pyvene's own names where it has them, else module paths, which it knows for every architecture.
_LLAMA = {
    "resid_post": "block_output",
    "mlp_out": "mlp_output",
    "attn_out": "attention_output",
    "mlp_hidden": "model.layers[1].mlp.down_proj.input",
}
COMPONENTS = {
    "llama": _LLAMA,
    "gpt2": _LLAMA | {"mlp_hidden": "mlp_activation"},
    "gpt_neox": _LLAMA | {"mlp_hidden": "mlp_activation"},
    "gemma2": _LLAMA
    | {
        "mlp_out": "model.layers[1].post_feedforward_layernorm.output",
        "attn_out": "model.layers[1].post_attention_layernorm.output",
    },
    "qwen3": _LLAMA
    | {
        "resid_post": "model.layers[1].output",
        "mlp_out": "model.layers[1].mlp.output",
        "attn_out": "model.layers[1].self_attn.output",
    },
}
READ = [(arch, kind) for arch, kinds in COMPONENTS.items() for kind in kinds]
EDITED = [(arch, kind) for arch, kind in READ if (arch, kind) != ("gemma2", "mlp_hidden")]

BASES = ("The river saw the old wolf under a bridge.", "A nurse", "it was the miner, at the small oven")
SOURCES = ("Every pilot found a big toy", "the queen and", "Before the horse a king was on the garden")


class Spot(NamedTuple):
    """Positions in a row."""

    row: list[int]
    positions: list[int]


class Case(NamedTuple):
    """A subject with strong blocks, rows to edit, rows to take values from, and where both sides look."""

    subject: Subject
    bases: list[list[int]]
    sources: list[list[int]]
    site: Site
    component: str

    def ours(self, edit: Edit) -> list[Tensor]:
        """Return each base row's logits (T, n_vocab) under our edit."""
        logits = self.subject.unembed(self.subject.hidden(self.subject.batch(self.bases), edit))
        return [logits[i, : len(row)] for i, row in enumerate(self.bases)]

    def clean(self) -> list[Tensor]:
        """Return each base row's logits without any edit."""
        return [self.subject.unembed(self.subject.hidden(self.subject.batch([row])))[0] for row in self.bases]

    @torch.no_grad()
    def oracle(self, intervention: Any, base: Spot, source: Spot | None = None, **subspaces: Any) -> Any:
        """Return pyvene's answer, ((clean output, what was collected), output), with its intervention at a spot."""
        place = {"layer": LAYER, "component": self.component, "intervention": intervention}
        model = pyvene.IntervenableModel(pyvene.IntervenableConfig([place]), self.subject._model)
        return model(
            {"input_ids": torch.tensor([base.row])},
            source and [{"input_ids": torch.tensor([source.row])}],
            {"sources->base": (source and [[source.positions]], [[base.positions]])},
            **subspaces,
        )


@pytest.fixture
def case(request: pytest.FixtureRequest) -> Case:
    """Return the case of an architecture and a kind of site."""
    torch.set_num_threads(1)
    arch, kind = request.param
    extra = {"query_pre_attn_scalar": 24} if arch == "gemma2" else {}
    subject = build_subject(arch, block_scale=0.2, **extra)
    bases, sources = ([[subject.sink_id, *subject.tokenize(t)] for t in texts] for texts in (BASES, SOURCES))
    return Case(subject, bases, sources, Site(kind, LAYER), COMPONENTS[arch][kind])


def close(ours: Sequence[Tensor], oracle: Sequence[Tensor]) -> None:
    """Assert that every row is the oracle's, relative to its largest value."""
    for a, b in zip(ours, oracle, strict=True):
        assert a.shape == b.shape
        assert float((a - b).abs().max()) <= TOLERANCE * float(b.abs().max())


def far(ours: Sequence[Tensor], clean: Sequence[Tensor]) -> None:
    """Assert that an edit did something in every row: what agrees because nothing happened proves nothing."""
    for a, b in zip(ours, clean, strict=True):
        assert float((a - b).abs().max()) > 10 * TOLERANCE * float(b.abs().max())


def generator() -> torch.Generator:
    """Return the same random numbers every time."""
    return torch.Generator().manual_seed(0)


def last(row: list[int]) -> Spot:
    """Return the last position of a row."""
    return Spot(row, [len(row) - 1])


def collected(case: Case) -> list[Tensor]:
    """Return what pyvene collects at every position (T, width) of each base."""
    spots = (Spot(row, list(range(len(row)))) for row in case.bases)
    return [case.oracle(pyvene.CollectIntervention(), spot)[0][1][0][0] for spot in spots]


def added(case: Case, vectors: Tensor) -> list[Tensor]:
    """Return pyvene's logits with a vector of its own added in each base, at every position but the first."""
    spots = (Spot(row, list(range(1, len(row)))) for row in case.bases)
    return [
        case.oracle(pyvene.AdditionIntervention(source_representation=vector), spot)[1].logits[0]
        for vector, spot in zip(vectors, spots, strict=True)
    ]


def interchanged(case: Case, intervention: Any, **subspaces: Any) -> list[Tensor]:
    """Return pyvene's logits with the last position of each base taking from the last of its source."""
    pairs = zip(case.bases, case.sources, strict=True)
    return [case.oracle(intervention, last(b), last(s), **subspaces)[1].logits[0] for b, s in pairs]


def values(case: Case, rows: list[list[int]]) -> Tensor:
    """Return our reading (B, width) of the site at each row's last position."""
    read = case.subject.read(case.subject.batch(rows), case.site)
    return torch.stack([read[i, len(row) - 1] for i, row in enumerate(rows)])


def last_only(case: Case) -> Tensor:
    """Return the mask (B, T) of each base's last position."""
    attention = case.subject.batch(case.bases).attention
    return attention & ~attention.roll(-1, dims=1).index_fill(1, torch.tensor([attention.shape[1] - 1]), False)


@pytest.mark.parametrize("case", READ, indirect=True, ids="-".join)
def test_reading_is_collecting(case: Case) -> None:
    read = case.subject.read(case.subject.batch(case.bases), case.site)
    close([read[i, : len(row)] for i, row in enumerate(case.bases)], collected(case))


@pytest.mark.parametrize("case", EDITED, indirect=True, ids="-".join)
def test_add_is_addition_at_every_position_but_the_sink(case: Case) -> None:
    directions = torch.randn(3, case.subject.width(case.site), generator=generator())
    strengths = torch.tensor([2.0, -1.0, 0.5])
    effective = case.subject.effective_directions(case.site, directions)
    ours = case.ours(Edit.add(case.site, effective, strengths))
    close(ours, added(case, strengths[:, None] * directions))
    far(ours, case.clean())


@pytest.mark.parametrize("case", EDITED, indirect=True, ids="-".join)
def test_adding_the_difference_is_interchanging_the_value(case: Case) -> None:
    difference = values(case, case.sources) - values(case, case.bases)
    effective = case.subject.effective_directions(case.site, difference)
    ours = case.ours(Edit.add(case.site, effective, torch.ones(3), last_only(case)))
    close(ours, interchanged(case, pyvene.VanillaIntervention()))
    far(ours, case.clean())


@pytest.mark.parametrize("case", EDITED, indirect=True, ids="-".join)
def test_set_is_interchanging_one_coordinate_of_a_rotated_basis(case: Case) -> None:
    width = case.subject.width(case.site)
    rotated = pyvene.RotatedSpaceIntervention(embed_dim=width)
    rotated.rotate_layer.weight = torch.linalg.qr(torch.randn(width, width, generator=generator()))[0]
    r = rotated.rotate_layer.weight[:, 3].detach()
    effective = case.subject.effective_directions(case.site, r.expand(3, -1))
    wanted = values(case, case.sources) @ r
    ours = case.ours(Edit.set(case.site, effective, wanted, case.site, lambda x: x @ r, last_only(case)))
    close(ours, interchanged(case, rotated, subspaces=[[[3]]]))
    far(ours, case.clean())
