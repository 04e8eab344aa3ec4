"""The exemplar pass on a real model equals brute force: its neurons always, a real dictionary where one is at hand."""

from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest
import torch
from torch import Tensor

from schema.records import DictionarySpec, Encoder
from schema.settings import Settings
from schema.subjects import BUNDLED, Site
from tests.dev_data import VARIABLE, dev_data, real_dictionary
from tests.workers.test_exemplars import Row, add, assert_same, brute_force, pieces, recorded
from workers.corpus import BUNDLED as CORPUS
from workers.corpus import contexts, open_corpus
from workers.dictionary import LoadedDictionary, firing_thresholds, load_dictionary
from workers.evidence import Reader, read_contexts
from workers.loading import load_subject
from workers.methods.exemplars import ExemplarAccumulator, ExemplarOptions
from workers.methods.stored_exemplars import to_bytes
from workers.methods.vocabulary import nearest_neighbours
from workers.shapes import in_fixed_shapes
from workers.subject import Subject

OPTIONS = ExemplarOptions(k=5, n_samples=4, n_silent=3, n_hard=3)
N_DOCUMENTS, N_FEATURES = 40, 64


def read(subject: Subject, dictionary: LoadedDictionary, features: Tensor) -> list[list[Row]]:
    """Return the first passages of the bundled corpus as the subject and some features see them."""
    documents = islice(open_corpus(CORPUS), N_DOCUMENTS)
    found = []
    cut = contexts(documents, subject.tokenize, 64, sink=subject.sink_id)
    for _, group in in_fixed_shapes(cut, lambda context: len(context.ids), 16 * 64):
        batch = subject.batch([context.ids for context in group])
        activations = dictionary.encode(subject.read(batch, dictionary.read_site), features)
        found.append(
            [
                Row(context.number, context.split, context.ids, counted[:n].tolist(), values[:n].tolist())
                for context, counted, values in zip(group, batch.counted, activations, strict=True)
                for n in [len(context.ids)]
            ]
        )
    return found


def assert_equals_brute_force(
    subject: Subject, dictionary: LoadedDictionary, thresholds_of: Callable[[Tensor], Tensor]
) -> None:
    features = torch.arange(N_FEATURES) * (dictionary.n_features // N_FEATURES)
    rows = read(subject, dictionary, features)
    flat = [row for group in rows for row in group]
    values = torch.tensor([v for row in flat for v, counts in zip(row.activations, row.counted, strict=True) if counts])
    thresholds = thresholds_of(values)
    near = nearest_neighbours(dictionary.directions(features), torch.arange(N_FEATURES), 3).ids
    accumulator = ExemplarAccumulator.empty(thresholds, OPTIONS, near)
    for group in rows:
        add(accumulator, group, chunk=50)
    for feature in range(N_FEATURES):
        expected = brute_force(flat, feature, thresholds.tolist(), near[feature].tolist(), OPTIONS)
        assert_same(recorded(accumulator, feature, pieces), expected)
    assert int((accumulator.n_firing > 0).sum()) > N_FEATURES // 4


def test_neurons_of_the_bundled_subject_equal_brute_force(cache_dir: Path) -> None:
    subject = load_subject(BUNDLED, None, Settings(cache_dir=cache_dir))
    encoder = Encoder(kind="neurons")
    spec = DictionarySpec(name="n", subject=BUNDLED, read_site="mlp_hidden.15", encoder=encoder, n_features=1536)
    assert_equals_brute_force(subject, load_dictionary(spec, subject, None), firing_thresholds)


@pytest.mark.skipif(dev_data() is None, reason=f"{VARIABLE} names no folder of real dictionaries")
def test_a_real_dictionary_equals_brute_force(cache_dir: Path, tmp_path: Path) -> None:
    settings = Settings(cache_dir=cache_dir)
    subject = load_subject(BUNDLED, None, settings)
    spec, weights = real_dictionary(dev_data() or tmp_path, tmp_path, settings)
    dictionary = load_dictionary(spec, subject, weights)
    assert_equals_brute_force(subject, dictionary, lambda values: torch.zeros(values.shape[1]))


def test_the_sink_never_is_an_exemplar_though_its_residual_is_a_hundred_times_as_large(cache_dir: Path) -> None:
    """A direction along the sink's own residual fires there above all, and that is never seen."""
    subject = load_subject(BUNDLED, None, Settings(cache_dir=cache_dir))
    site = Site("resid_post", 14)
    cut = contexts(islice(open_corpus(CORPUS), 12), subject.tokenize, 64, sink=subject.sink_id)
    groups = list(in_fixed_shapes(cut, lambda context: len(context.ids), 16 * 64))
    probe = subject.batch([groups[0][1][0].ids])
    residual = subject.read(probe, site).float()[0]
    norms = residual.norm(dim=-1)
    assert float(norms[0] / norms[1:].median()) > 50
    sink = residual[0] / norms[0]
    spec = DictionarySpec(
        name="sink", subject=BUNDLED, read_site=str(site), encoder=Encoder(kind="linear"), n_features=1
    )
    tensors = {"w_dec": sink[None], "b_enc": torch.full((1,), float(norms[1:].max()))}  # so that it fires anywhere
    dictionary = LoadedDictionary(spec, subject, tensors)
    at_sink = float(dictionary.encode(residual[:1])[0, 0])
    exemplars = ExemplarAccumulator.empty(torch.zeros(1), OPTIONS)
    for shape, rows in groups:
        read_contexts(subject, [Reader(dictionary, exemplars)], rows, shape.length)
    record = recorded(exemplars, 0, subject.pieces)
    assert record.n_firing == record.n_tokens > 500
    assert record.max < at_sink / 10
    found = [*record.describe.top, *record.describe.uniform, *record.describe.weighted, *record.score.top]
    assert len(found) > 12
    assert all(window.position > 0 for window in found)
    assert all(max(window.activations) <= record.max * 1.01 for window in found)
    assert all(window.activations[0] == 0.0 for window in found if window.position == window.peak)


def test_several_dictionaries_share_a_pass_and_each_sees_what_it_sees_alone(cache_dir: Path) -> None:
    subject = load_subject(BUNDLED, None, Settings(cache_dir=cache_dir))
    cut = contexts(islice(open_corpus(CORPUS), 6), subject.tokenize, 64, sink=subject.sink_id)
    groups = list(in_fixed_shapes(cut, lambda context: len(context.ids), 16 * 64))
    encoder = Encoder(kind="neurons")
    specs = [
        DictionarySpec(name="n", subject=BUNDLED, read_site=f"mlp_hidden.{layer}", encoder=encoder, n_features=1536)
        for layer in (3, 7)
    ]
    dictionaries = [load_dictionary(spec, subject, None) for spec in specs]

    def read(some: list[LoadedDictionary]) -> list[bytes]:
        readers = [Reader(one, ExemplarAccumulator.empty(torch.full((1536,), 0.2), OPTIONS)) for one in some]
        for shape, rows in groups:
            read_contexts(subject, readers, rows, shape.length)
        return [to_bytes(reader.exemplars) for reader in readers]

    together = read(dictionaries)
    assert together == [read([one])[0] for one in dictionaries]
    assert together[0] != together[1]
