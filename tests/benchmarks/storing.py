"""The store: how many bytes the evidence of a feature takes, all kinds together, and how fast it is read."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch

from schema.packing import pack, unpack
from schema.records import AnyEvidence, EvidenceKind, Exemplars, RunOptions
from schema.selection import draw
from tests.benchmarks.measure import Row, at_most, race
from tests.benchmarks.reading import collect, empty
from tests.benchmarks.setting import beginnings, groups, opened
from workers.changing import N_CHANGED_TOKENS
from workers.methods.calibration import calibrate
from workers.methods.exemplar_records import records
from workers.methods.steering import GenerationOptions, steer
from workers.methods.token_change import token_change
from workers.methods.vocabulary import Readout, mean_direction, nearest_neighbours, project_vocabulary
from workers.opened import Opened
from workers.steering import N_NEIGHBOURS

_TOKENS = 150_000
_N = 64
_MOST = 5_000  # bytes a feature

Evidence = Mapping[EvidenceKind, Sequence[AnyEvidence]]


def evidence_size() -> Iterator[Row]:
    """Yield the packed bytes of a feature's evidence against 5,000, by kind and in all."""
    features, exemplars = exemplars_of(opened(), _TOKENS, _N)
    found: Evidence = {"exemplars": exemplars, **acting_of(opened(), features)}
    packed = {kind: [pack(record) for record in records] for kind, records in found.items()}
    sizes = {kind: sum(map(len, blobs)) / len(blobs) for kind, blobs in packed.items()}
    first = [(type(found[kind][0]), blobs[0]) for kind, blobs in packed.items()]
    read_s, write_s = race(
        lambda: [unpack(*one) for one in first], lambda: [pack(records[0]) for records in found.values()], rounds=20
    )
    for kind, size in sizes.items():
        yield at_most(f"{kind} of a feature", size, _MOST, 1.0, "B", "5,000 bytes for all kinds together")
    name = f"evidence of a feature, read in {1000 * read_s:.1f} ms, packed in {1000 * write_s:.1f} ms"
    yield at_most(name, sum(sizes.values()), _MOST, 1.0, "B", "5,000 bytes")


class Fired(NamedTuple):
    """Features that fire, and their exemplars."""

    features: list[int]
    exemplars: list[Exemplars]


def exemplars_of(of: Opened, n_tokens: int, n: int) -> Fired:
    """Return the exemplars of n features that fire, drawn at random, as a run makes them."""
    accumulator = empty(of)
    collect(accumulator, of, groups(n_tokens))
    features = [f for f in draw(of.dictionary.n_features, 0) if accumulator.n_firing[f]][:n]
    return Fired(features, list(records(accumulator, features, of.subject.pieces)))


def acting_of(of: Opened, features: Sequence[int]) -> Evidence:
    """Return every other kind of evidence of some features, as a run makes them."""
    (subject, dictionary), options = of, RunOptions()
    everyone = dictionary.directions(torch.arange(dictionary.n_features))
    directions, site = everyone[list(features)], dictionary.write_site
    near = nearest_neighbours(everyone, torch.tensor(features), N_NEIGHBOURS)
    centre = mean_direction(everyone, subject.norm_direction)
    readout = Readout(subject.norm_direction, subject.unembedding, subject.token_strings, centre)
    targets = [sign * target for target in options.kl_targets for sign in (1, -1)]
    calibrations = calibrate(subject, site, directions, targets)
    plus, minus = (torch.tensor([one.targets[i].alpha for one in calibrations]) for i in (-2, -1))
    contexts = subject.batch(beginnings(options.token_change_contexts, options.token_change_length + 1))
    texts = GenerationOptions(n_prompts=options.n_steered_prompts, n_tokens=options.n_steered_tokens)
    return {
        "vocabulary": list(project_vocabulary(directions, readout, near, k=options.k_tokens)),
        "calibration": calibrations,
        "token_change": token_change(subject, directions, site, plus, minus, contexts, k=N_CHANGED_TOKENS),
        "steered_texts": steer(subject, site, directions, calibrations, features, 0, texts),
    }
