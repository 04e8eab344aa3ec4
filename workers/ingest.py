"""The first room of a run: does the dictionary fit the subject, and from what activation on does a feature fire?"""

import heapq
from itertools import islice
from pathlib import Path

import torch

from schema.blobs import open_blobs
from schema.errors import BadCorpus, NotFinite
from schema.store import artifacts
from workers import recipes
from workers.corpus import Context as TextContext
from workers.corpus import contexts, corpus_digest, open_corpus
from workers.desk import read_brief
from workers.dictionary import firing_thresholds
from workers.engine import Context, Outcome
from workers.health import N_CONTEXTS as N_EXAMINED
from workers.health import check_fit
from workers.methods.interventions import tokens_per_forward
from workers.methods.sampling import uniform
from workers.opened import Opened, open_unthresholded
from workers.shapes import in_fixed_shapes
from workers.sources import corpus_path
from workers.subject import Subject

N_SAMPLED = 128  # contexts: enough for an upper 1 % quantile to rest on more than 100 tokens
_DOCUMENTS_LOOKED_AT = 4000


def ingest(context: Context) -> Outcome:
    """Return the corpus' digest, after the dictionary encoded some of it to finite numbers.

    Raises: InvalidInput (of any kind) where subject, dictionary and corpus do not fit; the run then fails and says why.
    """
    brief = read_brief(context)
    path = corpus_path(context, brief)
    corpus = corpus_digest(path)
    context.progress.advance()
    opened = open_unthresholded(context, brief)
    context.progress.advance()
    options = brief.spec.options
    sample = sample_contexts(path, opened.subject, N_SAMPLED, options.context_length, brief.spec.seed)
    longest = max(map(len, sample))
    values = opened.subject.at_once.fit("tokens", longest, lambda: _read(context, opened, sample))
    found = _thresholds(opened, values)
    context.progress.advance()
    health = check_fit(opened.dictionary, sample[:N_EXAMINED])
    context.progress.advance(1)
    result = {"corpus": corpus, "subject": opened.subject.fingerprint}
    result |= {} if health is None else {"health": health.model_dump(mode="json")}
    if not opened.dictionary.needs_thresholds:
        return Outcome(lambda connection: None, result)
    blob = open_blobs(context.settings).put(found.contiguous().cpu().numpy().tobytes())
    recipe = recipes.thresholds(brief, corpus)
    return Outcome(lambda connection: artifacts.put(connection, recipe, *blob), result)


def sample_contexts(path: Path, subject: Subject, n: int, length: int, seed: int) -> list[list[int]]:
    """Return a seeded sample of n contexts (token ids, the sink first) from the corpus' first documents.

    Shorter than `length` only where documents are. Raises: BadCorpus if there is none.
    """
    documents = islice(open_corpus(path), _DOCUMENTS_LOOKED_AT)
    found = contexts(documents, subject.tokenize, length, sink=subject.sink_id)

    def key(one: TextContext) -> tuple[bool, float]:
        return len(one.ids) < length // 2, float(uniform(seed, "sample", one.number))

    chosen = heapq.nsmallest(n, found, key=key)
    if not chosen:
        raise BadCorpus("the corpus has no token; it needs at least one document with text")
    return [one.ids for one in sorted(chosen)]


def _read(context: Context, opened: Opened, sample: list[list[int]]) -> torch.Tensor:
    """Return the read site's values (N, width) at the counted positions of some contexts."""
    subject, dictionary = opened
    found = []
    for shape, rows in in_fixed_shapes(sample, len, tokens_per_forward(subject)):
        batch = subject.batch(rows, shape)
        found.append(subject.read(batch, dictionary.read_site)[batch.counted])
        context.progress.advance()
    return torch.cat(found)


def _thresholds(opened: Opened, values: torch.Tensor) -> torch.Tensor:
    """Return the firing threshold (F,) of every feature. Raises NotFinite if an activation is not finite."""
    found = []
    for low, activations in opened.dictionary.encode_chunks(values):
        finite = activations.isfinite().all(dim=0)
        if not finite.all():
            feature = low + int((~finite).int().argmax())
            raise NotFinite(f"feature {feature} has activations that are not finite on {len(values)} tokens of text")
        found.append(firing_thresholds(activations) if opened.dictionary.needs_thresholds else activations[0, :0])
    return torch.cat(found)
