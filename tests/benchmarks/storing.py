"""The store: how many bytes the evidence of a feature takes, all kinds together, and how fast it is read."""

from collections.abc import Iterator, Mapping, Sequence

import torch

from schema.contexts import References, unfold
from schema.evidence import AnyEvidence, EvidenceKind
from schema.packing import pack, pack_texts, unpack, unpack_texts
from schema.records import RunOptions
from schema.selection import draw
from tests.benchmarks.measure import Row, at_most, race
from tests.benchmarks.reading import collect, empty
from tests.benchmarks.setting import beginnings, groups, opened
from workers.changing import N_CHANGED_TOKENS
from workers.methods.calibration import calibrate
from workers.methods.exemplar_records import records
from workers.methods.exemplar_records import texts as texts_of
from workers.methods.exemplars import ExemplarAccumulator
from workers.methods.steering import GenerationOptions, steer
from workers.methods.token_change import token_change
from workers.methods.vocabulary import Readout, mean_direction, nearest_neighbours, project_vocabulary
from workers.opened import Opened
from workers.steering import N_NEIGHBOURS
from workers.subject import Subject

_TOKENS = 150_000
_N = 64
_MOST = 5_000  # bytes a feature

Acting = dict[EvidenceKind, Sequence[AnyEvidence]]
Stored = Mapping[EvidenceKind, Sequence[AnyEvidence | References]]


def evidence_size() -> Iterator[Row]:
    """Yield the packed bytes of a feature's evidence against 5,000, by kind and in all.

    To its exemplars belongs its share of the contexts: those that the dictionary's features refer to, all of them, over
    the number of features that have exemplars. That is what a run over all features stores; another dictionary of the
    same subject and corpus stores no context that is there already.
    """
    seen = exemplars_of(opened(), _TOKENS)
    features, contexts = firing(seen, _N), contexts_of(seen, opened().subject)
    found: Stored = {"exemplars": list(records(seen, features)), **acting_of(opened(), features)}
    packed = {kind: [pack(record) for record in made] for kind, made in found.items()}
    sizes: dict[str, float] = {kind: sum(map(len, blobs)) / len(blobs) for kind, blobs in packed.items()}
    n_sharing = len(firing(seen))
    sizes[f"{len(contexts)} contexts over {n_sharing} features"] = sum(map(len, contexts.values())) / n_sharing
    first = [(type(found[kind][0]), blobs[0]) for kind, blobs in packed.items()]

    def read() -> None:
        for kind, blob in first:
            record = unpack(kind, blob)
            if isinstance(record, References):
                unfold(record, {number: unpack_texts(contexts[number]) for number in record.contexts})

    read_s, write_s = race(read, lambda: [pack(made[0]) for made in found.values()], rounds=20)
    for kind, size in sizes.items():
        yield at_most(f"{kind}, of a feature", size, _MOST, 1.0, "B", "5,000 bytes for all kinds together")
    name = f"evidence of a feature, its share of the contexts included, read in {1000 * read_s:.1f} ms"
    yield at_most(f"{name}, packed in {1000 * write_s:.1f} ms", sum(sizes.values()), _MOST, 1.0, "B", "5,000 bytes")


def exemplars_of(of: Opened, n_tokens: int) -> ExemplarAccumulator:
    """Return the exemplars of a dictionary on the beginning of the corpus, as a run finds them."""
    accumulator = empty(of)
    collect(accumulator, of, groups(n_tokens))
    return accumulator


def firing(seen: ExemplarAccumulator, n: int | None = None) -> list[int]:
    """Return n features that fire, drawn at random, or all of them."""
    return [f for f in draw(seen.n_features, 0) if seen.n_firing[f]][:n]


def contexts_of(seen: ExemplarAccumulator, subject: Subject) -> dict[int, bytes]:
    """Return the contexts that a run over all features stores, packed, by number."""
    numbers = {number for record in records(seen, firing(seen)) for number in record.contexts}
    found = texts_of(seen.contexts(), subject.pieces, sorted(numbers))
    return {number: pack_texts(texts) for number, texts in found.items()}


def acting_of(of: Opened, features: Sequence[int]) -> Acting:
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
