"""AxBench, ReFT-r1, DiffMean: weight.pt [N, d], a concept a row, and metadata.jsonl, which says which.

a_i(x) = relu(x·v_i + b_i), and the same rows are written. What a concept is called is kept as a label of its authors.
A row's `threshold` or `max_act` in the metadata is optional; only the threshold changes when a feature fires.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from schema.errors import BadWeights, ShapeMismatch, UnknownSite
from schema.plain import one_line
from schema.records import DictionarySpec, Encoder
from workers.formats.files import MAX_JSON_BYTES, Converted, Layout, Spot, Wanted
from workers.formats.pickles import read_pickle

NAME = "an AxBench folder"
METADATA = "metadata.jsonl"
FILES = ("weight.pt", METADATA)
_LONGEST_LABEL = 2000
_MOST_BYTES = 100 * MAX_JSON_BYTES


def recognises(path: Path) -> bool:
    """Return whether a path is a folder of AxBench."""
    return (path / METADATA).is_file() and bool(_weights(path))


def convert(path: Path, wanted: Wanted) -> Converted:
    """Return concept directions in canonical form. Raises UnknownSite without a site, BadWeights, ShapeMismatch."""
    site = wanted.chosen_site()
    if site is None:
        raise UnknownSite("site=None; AxBench does not say where its rows are read: give --site, such as resid_post.20")
    (file, *others) = _weights(path)
    if others:
        names = ", ".join(each.name for each in (file, *others))
        raise BadWeights(f"files={names}; there must be one weight.pt: move the others away")
    layout = Layout({"tensor": Spot("w_dec", "Fd")})
    tensors = layout.take(file.name, read_pickle(file), {})
    n_features = len(tensors["w_dec"])
    tensors |= _bias(file, n_features)
    rows = _rows(path / METADATA, n_features)
    if all("threshold" in row for row in rows):
        tensors["threshold"] = torch.tensor([float(row["threshold"]) for row in rows])
    spec = DictionarySpec(
        name=wanted.name or path.resolve().name,
        subject=wanted.subject,
        revision=wanted.revision,
        read_site=site,
        encoder=Encoder(kind="linear"),
        n_features=n_features,
        source="axbench",
    )
    concepts = (one_line(str(row.get("concept") or ""))[:_LONGEST_LABEL] for row in rows)
    labels = {i: concept for i, concept in enumerate(concepts) if concept}
    return Converted(spec, tensors, f"AxBench directions with {len(labels)} concepts", labels)


def _weights(path: Path) -> list[Path]:
    return sorted(path.glob("*weight.pt")) if path.is_dir() else []


def _bias(weights: Path, n_features: int) -> Mapping[str, Tensor]:
    file = weights.with_name(weights.name.replace("weight", "bias"))
    if not file.is_file():
        return {}
    return Layout({"tensor": Spot("b_enc", "F")}).take(file.name, read_pickle(file), {"F": n_features})


def _rows(path: Path, n_features: int) -> Sequence[Mapping[str, Any]]:
    """Return the metadata by row of the weights. Raises BadWeights, ShapeMismatch where a row has none."""
    if path.stat().st_size > _MOST_BYTES:
        raise BadWeights(f"file={path.name!r} has {path.stat().st_size:,} bytes; at most {_MOST_BYTES:,} are read")
    rows: dict[int, Mapping[str, Any]] = {}
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            row = _row(path.name, number, line)
            rows[row.get("concept_id", len(rows))] = row
    if sorted(rows) != list(range(n_features)):
        raise ShapeMismatch(f"file={path.name!r} has concepts of {len(rows)} rows; the weights have {n_features}")
    return [rows[index] for index in range(n_features)]


def _row(name: str, number: int, line: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
        if not isinstance(row, dict) or type(row.get("concept_id", 0)) is not int:
            raise ValueError("no object with a whole concept_id")
        float(row.get("threshold", 0.0))
    except (ValueError, TypeError, RecursionError) as exc:
        raise BadWeights(f"file={name!r}; line {number} must be a JSON object: {exc}") from exc
    return row
