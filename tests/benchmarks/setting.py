"""What is measured on: the bundled subject, and a top-k dictionary of 4,096 features at half depth.

Where GLOSSARIUM_DEV_DATA names a folder with a real dictionary and a corpus, those are measured. Without it the
features are random directions, 32 of them on every token, and the corpus is ours, over and over; random features say
nothing about how well linear token change agrees with the exact one.
"""

import tempfile
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import count, islice
from pathlib import Path

import torch
from torch import Tensor

from schema.records import DictionarySpec, Encoder
from schema.settings import load_settings
from schema.subjects import BUNDLED, Site
from tests.dev_data import dev_data, real_corpus, real_dictionary
from workers.batches import Batch
from workers.corpus import BUNDLED as CORPUS
from workers.corpus import Context, Document, contexts, open_corpus
from workers.dictionary import LoadedDictionary, load_dictionary
from workers.loading import load_subject
from workers.methods.interventions import tokens_per_forward
from workers.opened import Opened
from workers.shapes import Shape, in_fixed_shapes, shape_for

N_ACTIVE, LENGTH = 32, 128
SITE = Site("resid_post", 14)


@cache
def opened() -> Opened:
    """Return the subject, converted the first time, and the dictionary."""
    subject = load_subject(BUNDLED, None, load_settings())
    folder = dev_data()
    if folder is None:
        return random_dictionary(4096)
    with tempfile.TemporaryDirectory() as scratch:
        spec, weights = real_dictionary(folder, Path(scratch), load_settings())
        return Opened(subject, load_dictionary(spec, subject, weights))


def random_dictionary(n_features: int) -> Opened:
    """Return a top-k dictionary of random features around the mean residual."""
    subject = load_subject(BUNDLED, None, load_settings())
    encoder = Encoder(kind="topk", k=N_ACTIVE, subtract_b_dec=True)
    spec = DictionarySpec(name="random", subject=BUNDLED, read_site=str(SITE), encoder=encoder, n_features=n_features)
    batch = subject.batch([row.ids for row in islice(corpus(), 9)])
    mean = subject.read(batch, SITE)[batch.counted].float().mean(dim=0)
    return Opened(subject, LoadedDictionary(spec, subject, random_tensors(n_features, mean)))


def random_tensors(n_features: int, b_dec: Tensor) -> dict[str, Tensor]:
    """Return the weights of features with random unit directions, around a mean residual (d_model,)."""
    generator = torch.Generator().manual_seed(0)
    units = torch.nn.functional.normalize(torch.randn(n_features, len(b_dec), generator=generator), dim=1)
    return {"w_enc": units, "b_enc": torch.zeros(n_features), "w_dec": units, "b_dec": b_dec}


def corpus(n_tokens: float = float("inf")) -> Iterator[Context]:
    """Yield contexts until there are n_tokens; a corpus that is too short begins anew, each passage elsewhere."""
    subject = load_subject(BUNDLED, None, load_settings())
    for context in contexts(_documents(), subject.tokenize, LENGTH, sink=subject.sink_id):
        if n_tokens <= 0:
            return
        n_tokens -= len(context.ids)
        yield context


def beginnings(n: int, length: int) -> list[list[int]]:
    """Return the first `length` tokens of the first n contexts that have so many, the sink included."""
    long = (context.ids[:length] for context in corpus() if len(context.ids) >= length)
    return list(islice(long, n))


def _documents() -> Iterator[Document]:
    folder = dev_data()
    texts = [document.text for document in open_corpus(real_corpus(folder) if folder else CORPUS)]
    for i in count():
        text = texts[i % len(texts)]
        yield Document(i, text[37 * (i // len(texts)) :] or text)


Group = tuple[Shape, list[Context]]
"""Contexts between two updates of the exemplars, as the product reads them."""


def groups(n_tokens: float) -> Iterator[Group]:
    """Yield the corpus in groups of four forwards."""
    at_once = 4 * tokens_per_forward(opened().subject)
    return in_fixed_shapes(corpus(n_tokens), lambda row: len(row.ids), at_once)


def forwards(grouped: Iterable[Group]) -> Iterator[Batch]:
    """Yield the same contexts as the batches of single forwards."""
    subject = opened().subject
    for shape, rows in grouped:
        single = shape_for(shape.length, tokens_per_forward(subject))
        for start in range(0, len(rows), single.n_rows):
            yield subject.batch([row.ids for row in rows[start : start + single.n_rows]], single)
