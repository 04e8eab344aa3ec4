"""Neuronpedia's batch files: `features`, `activations` and `explanations`, JSON lines in gzip, 1,024 features a file.

The records have every field of Neuronpedia's own, in its spelling, and what is written is checked against them. What
nobody measured here is empty, as in its own files: aligned neurons, losses.
"""

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field, model_validator

from schema.evidence import AnyEvidence, EvidenceKind, Exemplars, LogitHistogram, VocabularyProjection, Window
from schema.recipes import digest
from schema.store.exports import BATCH, LabelRow, Range
from schema.wire import NeuronpediaPart as Part
from service.interchange import tars

KINDS: tuple[EvidenceKind, ...] = ("exemplars", "vocabulary")
AUTHOR = "glossarium"
AT_ONCE = 64
"""Features whose exemplars are in memory at a time: some hundred kilobytes each."""

_GZIP, _LEVEL = 31, 5  # zlib's word for gzip; Neuronpedia's own level


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NeuronpediaFeature(_Row):
    """A line of `features`."""

    modelId: str = Field(min_length=1)
    layer: str = Field(min_length=1, description="the source's id, such as 6-res-jb")
    index: str = Field(pattern=r"^[0-9]+$")
    creatorId: str | None = None
    createdAt: datetime
    maxActApprox: float = Field(ge=0)
    hasVector: bool = False
    vector: tuple[float, ...] = ()
    vectorLabel: str | None = None
    vectorDefaultSteerStrength: float | None = None
    hookName: str | None = None
    topkCosSimIndices: tuple[int, ...] = ()
    topkCosSimValues: tuple[float, ...] = ()
    neuron_alignment_indices: tuple[int, ...] = ()
    neuron_alignment_values: tuple[float, ...] = ()
    neuron_alignment_l1: tuple[float, ...] = ()
    correlated_neurons_indices: tuple[int, ...] = ()
    correlated_neurons_pearson: tuple[float, ...] = ()
    correlated_neurons_l1: tuple[float, ...] = ()
    correlated_features_indices: tuple[int, ...] = ()
    correlated_features_pearson: tuple[float, ...] = ()
    correlated_features_l1: tuple[float, ...] = ()
    neg_str: tuple[str, ...] = ()
    neg_values: tuple[float, ...] = ()
    pos_str: tuple[str, ...] = ()
    pos_values: tuple[float, ...] = ()
    frac_nonzero: float = Field(ge=0, le=1)
    freq_hist_data_bar_heights: tuple[float, ...] = ()
    freq_hist_data_bar_values: tuple[float, ...] = ()
    logits_hist_data_bar_heights: tuple[float, ...] = ()
    logits_hist_data_bar_values: tuple[float, ...] = ()
    decoder_weights_dist: tuple[float, ...] = ()

    @model_validator(mode="after")
    def _lists_fit(self) -> "NeuronpediaFeature":
        pairs = ("topkCosSimIndices", "topkCosSimValues"), ("pos_str", "pos_values"), ("neg_str", "neg_values")
        bars = [(f"{name}_hist_data_bar_heights", f"{name}_hist_data_bar_values") for name in ("freq", "logits")]
        for one, other in (*pairs, *bars):
            if len(getattr(self, one)) != len(getattr(self, other)):
                raise ValueError(f"{one} has {len(getattr(self, one))} entries, {other} {len(getattr(self, other))}")
        return self


class NeuronpediaActivation(_Row):
    """A line of `activations`: one text with a value a token."""

    id: str = Field(min_length=1)
    tokens: tuple[str, ...] = Field(min_length=1)
    index: str = Field(pattern=r"^[0-9]+$")
    layer: str = Field(min_length=1)
    modelId: str = Field(min_length=1)
    maxValue: float
    maxValueTokenIndex: int = Field(ge=0)
    minValue: float
    values: tuple[float, ...]
    creatorId: str
    dataSource: str | None = None
    dataIndex: str | None = None
    dfaValues: tuple[float, ...] = ()
    dfaTargetIndex: int | None = None
    dfaMaxValue: float | None = None
    createdAt: datetime
    lossValues: tuple[float, ...] = ()
    logitContributions: str | None = None
    binMin: float | None = None
    binMax: float | None = None
    binContains: float | None = None
    qualifyingTokenIndex: int | None = None

    @model_validator(mode="after")
    def _values_fit(self) -> "NeuronpediaActivation":
        if len(self.values) != len(self.tokens):
            raise ValueError(f"{len(self.values)} values of {len(self.tokens)} tokens")
        if self.maxValue != max(self.values) or self.values[self.maxValueTokenIndex] != self.maxValue:
            raise ValueError(f"maxValue={self.maxValue} is not the largest value, or not where it should be")
        return self


class NeuronpediaExplanation(_Row):
    """A line of `explanations`."""

    id: str = Field(min_length=1)
    modelId: str = Field(min_length=1)
    layer: str = Field(min_length=1)
    index: str = Field(pattern=r"^[0-9]+$")
    description: str = Field(min_length=1)
    authorId: str
    embedding: tuple[float, ...] | None = None
    triggeredById: str | None = None
    typeName: str | None = None
    explanationModelName: str | None = None
    notes: str | None = None
    createdAt: datetime


class Naming(NamedTuple):
    """What Neuronpedia calls a dictionary.

    hook:  where its directions are added, None where that has no name.
    at:    when the dictionary was submitted; the time of what has none of its own.
    """

    model: str
    source: str
    hook: str | None
    at: datetime


class Known(NamedTuple):
    """What is written of some features."""

    rows: Sequence[LabelRow]
    evidence: Mapping[int, Mapping[EvidenceKind, AnyEvidence]]


def write_neuronpedia(
    batches: Iterable[tuple[Range, Iterable[Known]]], naming: Naming, parts: Sequence[Part]
) -> Iterator[bytes]:
    """Yield a tar of the parts that were asked for; features without a label or without evidence are left out.

    batches:  ranges of 1,024 features, and what is known of each, some features at a time.
    """
    parts = list(dict.fromkeys(parts))  # each once, however often it was asked for
    for some, known in batches:
        files = {part: zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP) for part in parts}
        written: dict[Part, list[bytes]] = {part: [] for part in parts}
        for few in known:
            for part in parts:
                lines = "".join(f"{line.model_dump_json()}\n" for line in _LINES[part](few, naming))
                written[part].append(files[part].compress(lines.encode("utf-8", "replace")))
        for part in parts:
            content = b"".join([*written[part], files[part].flush()])
            yield tars.member(f"{part}/batch-{some.lo // BATCH}.jsonl.gz", content)
    yield tars.END


def _features(known: Known, naming: Naming) -> Iterator[NeuronpediaFeature]:
    for row in known.rows:
        found = known.evidence.get(row.feature, {})
        exemplars, projection = found.get("exemplars"), found.get("vocabulary")
        if exemplars is None and projection is None:
            continue
        firing: dict[str, object] = {"maxActApprox": 0.0, "frac_nonzero": 0.0}
        if isinstance(exemplars, Exemplars):
            edges = exemplars.histogram_edges
            firing = {
                "maxActApprox": max(exemplars.max, 0.0),
                "frac_nonzero": exemplars.density,
                "freq_hist_data_bar_heights": exemplars.histogram,
                "freq_hist_data_bar_values": [sum(pair) / 2 for pair in pairwise(edges)],
            }
        yield NeuronpediaFeature.model_validate(
            {**_names(row, naming), "createdAt": naming.at, "hookName": naming.hook, **firing, **_lists(projection)}
        )


def _lists(projection: AnyEvidence | None) -> dict[str, object]:
    if not isinstance(projection, VocabularyProjection):
        return {}
    return {
        "topkCosSimIndices": projection.neighbours,
        "topkCosSimValues": projection.cosines,
        "pos_str": projection.promoted.tokens,
        "pos_values": projection.promoted.values,
        "neg_str": projection.suppressed.tokens,
        "neg_values": projection.suppressed.values,
        **_bars(projection.histogram),
    }


def _bars(histogram: LogitHistogram | None) -> dict[str, object]:
    if histogram is None:
        return {}
    return {
        "logits_hist_data_bar_heights": histogram.counts,
        "logits_hist_data_bar_values": [(low + high) / 2 for low, high in pairwise(histogram.edges)],
    }


def _activations(known: Known, naming: Naming) -> Iterator[NeuronpediaActivation]:
    for row in known.rows:
        exemplars = known.evidence.get(row.feature, {}).get("exemplars")
        if isinstance(exemplars, Exemplars):
            for window in (*exemplars.describe.top, *exemplars.score.top):
                yield _activation(row, window, naming)


def _activation(row: LabelRow, window: Window, naming: Naming) -> NeuronpediaActivation:
    maximum = max(window.activations)
    names = _names(row, naming)
    return NeuronpediaActivation.model_validate(
        {
            **names,
            "id": digest([names, window.document, window.position])[:25],
            "tokens": window.tokens,
            "values": window.activations,
            "maxValue": maximum,
            "maxValueTokenIndex": window.activations.index(maximum),
            "minValue": min(window.activations),
            "dataIndex": str(window.document),
            "creatorId": AUTHOR,
            "createdAt": naming.at,
        }
    )


def _explanations(known: Known, naming: Naming) -> Iterator[NeuronpediaExplanation]:
    for row in known.rows:
        if row.label:
            names = _names(row, naming)
            yield NeuronpediaExplanation.model_validate(
                {
                    **names,
                    "id": digest([names, row.label, row.recipe])[:25],
                    "description": row.label,
                    "authorId": row.author or AUTHOR,
                    "typeName": f"glossarium_{row.method}" if row.method else None,
                    "explanationModelName": row.model,
                    "createdAt": row.labelled_at or naming.at,
                }
            )


def _names(row: LabelRow, naming: Naming) -> dict[str, str]:
    return {"modelId": naming.model, "layer": naming.source, "index": str(row.feature)}


_LINES = {"features": _features, "activations": _activations, "explanations": _explanations}
