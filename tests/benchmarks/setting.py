"""What is measured on: the bundled subject, a top-k dictionary of 4,096 random features at half depth, our corpus.

The features are random, their sparsity is not: 32 of 4,096 on every token, after the mean residual is taken out.
"""

import json
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import cycle, islice

import torch
from torch import Tensor

from schema.records import DictionarySpec, Encoder
from schema.settings import load_settings
from schema.subjects import BUNDLED, Site
from workers.corpus import BUNDLED as CORPUS
from workers.corpus import Context, Document, contexts
from workers.dictionary import LoadedDictionary
from workers.loading import load_subject
from workers.methods.interventions import tokens_per_forward
from workers.opened import Opened
from workers.shapes import Shape, in_fixed_shapes, shape_for
from workers.subject import Batch

N_FEATURES, N_ACTIVE, LAYER, LENGTH = 4096, 32, 14, 128
SITE = Site("resid_post", LAYER)


@cache
def opened() -> Opened:
    """Return the subject, converted the first time, and the dictionary."""
    subject = load_subject(BUNDLED, None, load_settings())
    spec = DictionarySpec(
        name="random",
        subject=BUNDLED,
        read_site=str(SITE),
        encoder=Encoder(kind="topk", k=N_ACTIVE, subtract_b_dec=True),
        n_features=N_FEATURES,
    )
    rows = list(islice(corpus(1), 9))
    batch = subject.batch([row.ids for row in rows])
    mean = subject.read(batch, SITE)[batch.counted].float().mean(dim=0)
    return Opened(subject, LoadedDictionary(spec, subject, random_tensors(mean)))


def random_tensors(b_dec: Tensor) -> dict[str, Tensor]:
    """Return the weights of 4,096 features with random unit directions, around a mean residual (d_model,)."""
    generator = torch.Generator().manual_seed(0)
    units = torch.nn.functional.normalize(torch.randn(N_FEATURES, len(b_dec), generator=generator), dim=1)
    return {"w_enc": units, "b_enc": torch.zeros(N_FEATURES), "w_dec": units, "b_dec": b_dec}


def corpus(times: float) -> Iterator[Context]:
    """Yield the contexts of our corpus, `times` over; each time its passages begin elsewhere."""
    subject = load_subject(BUNDLED, None, load_settings())
    texts = [json.loads(line)["text"] for line in CORPUS.read_text("utf-8").splitlines()]
    n = round(times * len(texts))
    passages = enumerate(islice(cycle(texts), n))
    documents = (Document(i, text[37 * (i // len(texts)) :] or text) for i, text in passages)
    return contexts(documents, subject.tokenize, LENGTH, sink=subject.sink_id)


Group = tuple[Shape, list[Context]]
"""Contexts between two updates of the exemplars, as the product reads them."""


def groups(times: float) -> Iterator[Group]:
    """Yield our corpus, `times` over, in groups of four forwards."""
    n_tokens = 4 * tokens_per_forward(opened().subject)
    return in_fixed_shapes(corpus(times), lambda row: len(row.ids), n_tokens)


def forwards(grouped: Iterable[Group]) -> Iterator[Batch]:
    """Yield the same contexts as the batches of single forwards."""
    subject = opened().subject
    for shape, rows in grouped:
        single = shape_for(shape.length, tokens_per_forward(subject))
        for start in range(0, len(rows), single.n_rows):
            yield subject.batch([row.ids for row in rows[start : start + single.n_rows]], single)
