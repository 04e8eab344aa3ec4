"""What is known of a converted dictionary before it is submitted: shapes, norms, twins, and health on its subject."""

from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from schema.health import Health, Inspection, Norms, TensorShape
from schema.records import DictionarySpec
from schema.settings import Settings
from schema.weights import read_header
from workers.corpus import BUNDLED
from workers.dictionary import load_dictionary
from workers.formats.files import Converted
from workers.formats.writing import WEIGHTS, facts_here
from workers.health import CONTEXT_LENGTH, N_CONTEXTS, examine
from workers.ingest import sample_contexts
from workers.loading import load_subject
from workers.methods.reconstruction import share_of_twins

INSPECTION = "inspection.json"
_ROWS_AT_ONCE = 16384


def write_inspection(converted: Converted, out: Path, settings: Settings) -> None:
    """Write inspection.json beside what a dictionary was converted to. Raises InvalidInput where it fits no subject."""
    (out / INSPECTION).write_text(inspect(converted, out, settings).model_dump_json(indent=1) + "\n", "utf-8")


def inspect(converted: Converted, out: Path, settings: Settings) -> Inspection:
    """Return what is known of a dictionary that was written to a folder; its health where its subject is here."""
    spec, weights = converted.spec, out / WEIGHTS
    has_weights = weights.is_file()
    measured = facts_here(spec.subject, settings) is not None
    return Inspection(
        found=converted.found,
        spec=spec,
        tensors=_shapes(weights) if has_weights else (),
        encoder_norms=_norms(weights, "w_enc") if has_weights else None,
        decoder_norms=_norms(weights, "w_dec") if has_weights else None,
        duplicates=_twins(weights) if has_weights else None,
        labels=len(converted.labels),
        health=_health(spec, weights if has_weights else None, settings) if measured else None,
        unmeasured=None if measured else f"{spec.subject} is not on this machine: a run measures it before all else",
    )


def _health(spec: DictionarySpec, weights: Path | None, settings: Settings) -> Health:
    subject = load_subject(spec.subject, spec.revision, settings)
    contexts = sample_contexts(BUNDLED, subject, N_CONTEXTS, CONTEXT_LENGTH, seed=0)
    return examine(load_dictionary(spec, subject, weights), contexts)


def _shapes(weights: Path) -> tuple[TensorShape, ...]:
    return tuple(
        TensorShape(name=entry.name, dtype=entry.dtype, shape=entry.shape) for entry in read_header(weights).values()
    )


def _norms(weights: Path, name: str) -> Norms | None:
    rows = _tensor(weights, name)
    if rows is None:
        return None
    norms = torch.cat([torch.linalg.vector_norm(part.float(), dim=1) for part in torch.split(rows, _ROWS_AT_ONCE)])
    return Norms(smallest=float(norms.min()), median=float(norms.median()), largest=float(norms.max()))


def _twins(weights: Path) -> float | None:
    rows = _tensor(weights, "w_dec")
    return None if rows is None else share_of_twins(rows, torch.Generator().manual_seed(0))


def _tensor(weights: Path, name: str) -> Tensor | None:
    with safe_open(weights, framework="pt") as file:
        found: Tensor | None = file.get_tensor(name) if name in file.keys() else None  # noqa: SIM118 - not a dict
    return found
