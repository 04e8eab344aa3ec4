"""The corpus' rooms: one pass over each shard for all features, and the merge that settles what the run is about."""

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple

import structlog
import torch

from schema.blobs import BlobRef, open_blobs
from schema.contexts import References
from schema.errors import BadSelection, InvalidInput, NotFound
from schema.graph import block_jobs, blocks_of, features_per_block
from schema.labels import Provenance
from schema.needs import kinds_made
from schema.selection import draw, parse_selection
from schema.stages import Stage
from schema.store import artifacts, evidence, features, jobs, run_features
from schema.store.contexts import Reading
from schema.store.database import Connection
from schema.store.run_features import Brief, RunFeature
from schema.subjects import Site
from workers import recipes
from workers.batches import Batch
from workers.changing import Scene, prepare_linear
from workers.companions import companions
from workers.corpus import Context as TextContext
from workers.corpus import Document, Shard, contexts, open_corpus
from workers.desk import read_brief, read_corpus
from workers.dictionary import LoadedDictionary
from workers.engine import Context, Outcome
from workers.methods.contexts import Contexts
from workers.methods.exemplar_records import records, texts
from workers.methods.exemplars import ExemplarAccumulator, ExemplarOptions
from workers.methods.interventions import tokens_per_forward
from workers.methods.stored_exemplars import frames, merge_blocks, read_blocks
from workers.methods.vocabulary import nearest_neighbours
from workers.methods.windows import ContextBatch
from workers.opened import Opened, open_dictionary
from workers.shapes import in_fixed_shapes, shape_for
from workers.sources import corpus_path
from workers.subject import Subject

_log = structlog.get_logger()
_FORWARDS_AT_ONCE = 4  # between updates of the exemplars: larger updates cost less a token, and more memory
_RECORDS_AT_ONCE = 128  # the contexts that they are the first to refer to are packed in some 20 s at most
_NO_LIMIT = 2**62  # bytes of what workers write themselves
_N_NEIGHBOURS = 5  # whose firing makes a silent context a hard negative


def collect_exemplars(context: Context) -> Outcome:
    """Return the partial exemplars of one corpus shard, as a blob; nothing where they are known already.

    Those of the other runs of its corpus pass are found beside them, and their jobs then find them known.
    """
    started = time.monotonic()
    brief, corpus = read_brief(context), read_corpus(context)
    shard = _shard(context)
    recipe = recipes.partial(brief, corpus, shard)
    with context.transaction() as connection:
        known = artifacts.get(connection, recipes.exemplars(brief, corpus)) or artifacts.get(connection, recipe)
    if known is not None:
        return Outcome(lambda connection: None, {})
    subject = open_dictionary(context, brief, corpus).subject
    others = companions(context, brief, corpus, shard)
    found = _read_together(context, [brief, *others], corpus, shard) if others else None
    found = found or _read_shard(context, [brief], corpus, shard)
    context.progress.advance(1)

    def write(connection: Connection) -> None:
        for made, blob in sorted(found.items()):  # in one order, or two that write the same wait for each other
            artifacts.put(connection, made, *blob)

    spent = {"seconds": time.monotonic() - started, "tokens_per_forward": tokens_per_forward(subject)}
    return Outcome(write, spent)


def _read_together(context: Context, briefs: Sequence[Brief], corpus: str, shard: Shard) -> dict[str, BlobRef] | None:
    """Return what `_read_shard` does, or None where a dictionary can't be read: its own job then says why."""
    try:
        return _read_shard(context, briefs, corpus, shard)
    except (InvalidInput, NotFound) as exc:
        _log.warning("a shard is read for one run alone", error=str(exc))
        return None


def _read_shard(context: Context, briefs: Sequence[Brief], corpus: str, shard: Shard) -> dict[str, BlobRef]:
    """Return the partial exemplars of runs of one subject, seed and context length, by their recipe."""
    readers = []
    for brief in briefs:
        opened = open_dictionary(context, brief, corpus)
        readers.append(Reader(opened.dictionary, _empty(opened, brief)))
        context.progress.advance()
    documents = open_corpus(corpus_path(context, briefs[0]), shard)
    for some in _one_by_one(context, documents) if context.job.lost else [documents]:
        _read_documents(context, opened.subject, readers, some, briefs[0].spec.options.context_length)
    blobs, found = open_blobs(context.settings), dict[str, BlobRef]()
    for brief, reader in zip(briefs, readers, strict=True):
        blob = blobs.put_stream(frames(reader.exemplars.blocks()), _NO_LIMIT)
        found[recipes.partial(brief, corpus, shard)] = blob
        context.progress.advance()
    return found


def _read_documents(
    context: Context, subject: Subject, readers: Sequence["Reader"], documents: Iterable[Document], length: int
) -> None:
    found = contexts(documents, subject.tokenize, length, sink=subject.sink_id)
    n_tokens = _FORWARDS_AT_ONCE * tokens_per_forward(subject)
    for shape, rows in in_fixed_shapes(found, lambda one: len(one.ids), n_tokens):
        read_contexts(subject, readers, rows, shape.length, context.progress.advance)


def _one_by_one(context: Context, documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Yield documents, and note each before it is read: a worker died over this shard, and may do so again."""
    for document in documents:
        with context.transaction() as connection:
            jobs.hold(connection, context.job, document.index)
        yield [document]


def merge_exemplars(context: Context) -> Outcome:
    """Return the exemplars of the features that the run is about, its features by position, and their jobs."""
    started = time.monotonic()
    brief, corpus = read_brief(context), read_corpus(context)
    opened = open_dictionary(context, brief, corpus)
    parts = _parts(context)
    blob = _merged(context, brief, corpus, parts)
    found = _summary(context, blob.sha256)
    chosen = choose_features(brief, found.n_firing > 0)
    recipe = recipes.exemplars(brief, corpus)
    with context.transaction() as connection:
        absent = evidence.missing(
            connection, brief.dictionary.id, "exemplars", recipe, [entry.feature for entry in chosen]
        )
    if brief.spec.options.token_change == "linear" and "token_change" in kinds_made(brief.spec):
        prepare_linear(Scene(context, brief, corpus, opened))
    spent = [part.result for part in parts if part.result]  # none for what was known before
    seconds = time.monotonic() - started + sum(part["seconds"] for part in spent)
    fingerprint = opened.subject.fingerprint
    fingerprint |= {"tokens_per_forward": min(part["tokens_per_forward"] for part in spent)} if spent else {}
    fingerprint |= {"documents_left_out": left_out} if (left_out := _left_out(parts)) else {}
    provenance = recipes.provenance("exemplars", brief, corpus, fingerprint, seconds, found.n_tokens)
    _store(Scene(context, brief, corpus, opened), blob.sha256, sorted(absent), provenance)

    def write(connection: Connection) -> None:
        artifacts.put(connection, recipe, *blob)
        densities = (found.n_firing / max(1, found.n_tokens)).tolist()
        everyone = range(len(densities))
        features.set_density(connection, brief.dictionary.id, everyone, densities, found.largest.tolist())
        run_features.put(connection, brief.run_id, chosen)

    size = features_per_block(brief.spec)
    blocks = blocks_of([entry.selected for entry in chosen], [entry.pooled for entry in chosen], size)
    context.progress.advance(1)
    return Outcome(write, {"n_tokens": found.n_tokens}, block_jobs(blocks))


def choose_features(brief: Brief, alive: torch.Tensor) -> list[RunFeature]:
    """Return a run's features by position: the pool first, those that are also selected before the rest of it.

    alive: (F,) bool. The pool is the first features that the seed draws among those that fire, so every run of a
    dictionary with one seed has the same pool.
    Raises: BadSelection if nothing is selected.
    """
    n_features, spec = len(alive), brief.spec
    living = alive.nonzero().flatten().tolist()
    indices = parse_selection(spec.features, n_features).indices
    selected = list(living if indices is None else indices)
    if not selected:
        raise BadSelection(f"features={spec.features!r} selects none: no feature fired on the corpus")
    alive_set, selected_set = set(living), set(selected)
    drawn = (feature for feature in draw(n_features, spec.seed) if feature in alive_set)
    pool = list(itertools.islice(drawn, spec.options.pool_size))
    pooled = set(pool)
    order = [
        *(feature for feature in pool if feature in selected_set),
        *(feature for feature in pool if feature not in selected_set),
        *(feature for feature in selected if feature not in pooled),
    ]
    return [
        RunFeature(position, feature, feature in selected_set, feature in pooled)
        for position, feature in enumerate(order)
    ]


class _Part(NamedTuple):
    """What a corpus job read, or was to read, and what it left; None if it died."""

    shard: Shard
    result: dict[str, Any] | None


def _shard(context: Context) -> Shard:
    """Return the documents that a corpus job is about."""
    job = context.job
    with context.transaction() as connection:
        n_shards = len(jobs.results(connection, job.run_id, Stage.EXEMPLARS))
        apart = jobs.set_apart(connection, job.run_id, job.shard)
    return Shard(job.shard, n_shards, only=job.document, without=frozenset(apart if job.document is None else ()))


def _parts(context: Context) -> list[_Part]:
    """Return the parts of a run's corpus: its shards, and documents that were set apart from them."""
    run_id = context.job.run_id
    with context.transaction() as connection:
        shards = jobs.results(connection, run_id, Stage.EXEMPLARS)
        apart = {shard.shard: jobs.set_apart(connection, run_id, shard.shard) for shard in shards}
        blocks = [1 + document for documents in apart.values() for document in documents]
        alone = jobs.results(connection, run_id, Stage.EXEMPLARS, blocks)
    n = len(shards)
    whole = [_Part(Shard(one.shard, n, without=frozenset(apart[one.shard])), one.result) for one in shards]
    return [*whole, *(_Part(Shard(one.shard, n, only=one.block - 1), one.result) for one in alone)]


def _left_out(parts: Sequence[_Part]) -> str:
    """Return the numbers of documents that no worker survived."""
    return ", ".join(str(part.shard.only) for part in parts if part.shard.only is not None and part.result is None)


def _empty(opened: Opened, brief: Brief) -> ExemplarAccumulator:
    dictionary, options = opened.dictionary, brief.spec.options
    everyone = torch.arange(dictionary.n_features)
    near = nearest_neighbours(dictionary.directions(everyone), everyone, _N_NEIGHBOURS).ids
    sizes = ExemplarOptions(k=options.k_exemplars, seed=brief.spec.seed)
    return ExemplarAccumulator.empty(dictionary.threshold, sizes, near)


class Reader(NamedTuple):
    """A dictionary and what has been seen of its features; several of one subject share a pass."""

    dictionary: LoadedDictionary
    exemplars: ExemplarAccumulator


def read_contexts(
    subject: Subject,
    readers: Sequence[Reader],
    rows: Sequence[TextContext],
    length: int,
    took_in: Callable[[], None] = lambda: None,
) -> None:
    """Take in contexts that are padded to one length: forward by forward, all of them at once at the end.

    took_in: is called after each reader.
    """
    sites = [reader.dictionary.read_site for reader in readers]

    def read() -> tuple[list[Batch], list[dict[Site, torch.Tensor]]]:
        shape = shape_for(length, tokens_per_forward(subject))
        parts = [rows[start : start + shape.n_rows] for start in range(0, len(rows), shape.n_rows)]
        batches = [subject.batch([row.ids for row in part], shape) for part in parts]
        return batches, [subject.read_many(batch, sites) for batch in batches]

    batches, values = subject.at_once.fit("tokens", length, read)
    tokens = [(batch.ids, batch.attention, batch.counted) for batch in batches]
    ids, attention, counted = (torch.cat(tensors)[: len(rows)] for tensors in zip(*tokens, strict=True))
    numbers = torch.tensor([row.number for row in rows], device=subject.device)
    halves = torch.tensor([row.split for row in rows], device=subject.device)
    batch = ContextBatch(ids, attention, counted, numbers, halves)
    for dictionary, exemplars in readers:
        chunks = zip(*(dictionary.encode_chunks(of[dictionary.read_site]) for of in values), strict=True)
        joined = ((made[0][0], torch.cat([part for _, part in made])[: len(rows)]) for made in chunks)
        exemplars.add(batch, joined)
        took_in()


class _Summary(NamedTuple):
    """What is needed of all features: tokens read, and (F,) tokens fired on and largest activation."""

    n_tokens: int
    n_firing: torch.Tensor
    largest: torch.Tensor


def _merged(context: Context, brief: Brief, corpus: str, parts: Sequence[_Part]) -> BlobRef:
    """Return the exemplars of the whole corpus: a blob of an earlier run, or merged of this run's parts."""
    blobs = open_blobs(context.settings)
    made = [recipes.partial(brief, corpus, part.shard) for part in parts if part.result is not None]
    with context.transaction() as connection:
        whole = artifacts.get(connection, recipes.exemplars(brief, corpus))
        found = [whole] if whole else [artifacts.get(connection, recipe) or "" for recipe in made]
    if not found:
        raise BadSelection("the corpus has no shard")
    if len(found) == 1:
        return BlobRef(found[0], blobs.path(found[0]).stat().st_size)
    with ExitStack() as files:
        blocks = merge_blocks([read_blocks(files.enter_context(blobs.open(sha256))) for sha256 in found])
        return blobs.put_stream(frames(_counted(context, blocks)), _NO_LIMIT)


def _summary(context: Context, sha256: str) -> _Summary:
    with open_blobs(context.settings).open(sha256) as file:
        found = [
            (block.n_tokens, block.n_firing, block.counts.largest) for block in _counted(context, read_blocks(file))
        ]
    n_tokens, n_firing, largest = zip(*found, strict=True)
    return _Summary(n_tokens[0], torch.cat(n_firing), torch.cat(largest).nan_to_num(neginf=0.0))


def _store(scene: Scene, sha256: str, wanted: Sequence[int], provenance: Provenance) -> None:
    """Write the exemplars of some features, not with the end of the job, as they are many: again they are the same."""
    subject = scene.opened.subject
    reading = recipes.reading(scene.brief, scene.corpus, subject.tokenization)
    for rows, kept in _records(scene.context, sha256, wanted):
        source = Reading(reading, partial(texts, kept, subject.pieces))
        with scene.context.transaction() as connection:
            evidence.put_exemplars(connection, scene.brief.dictionary.id, provenance, rows, source)
        scene.context.progress.advance()


class _Some(NamedTuple):
    """The exemplars of some features, by feature, and contexts among which are those that they refer to."""

    rows: dict[int, References]
    contexts: Contexts


def _records(context: Context, sha256: str, wanted: Sequence[int]) -> Iterator[_Some]:
    """Yield the exemplars of some features, a few at once, in rising order."""
    with open_blobs(context.settings).open(sha256) as file:
        for block in _counted(context, read_blocks(file)):
            first = block.watched.first
            here = [feature for feature in wanted if first <= feature < first + block.n_features]
            found, kept = zip(here, records(block, here), strict=True), block.contexts()
            while some := dict(itertools.islice(found, _RECORDS_AT_ONCE)):
                yield _Some(some, kept)


def _counted(context: Context, blocks: Iterable[ExemplarAccumulator]) -> Iterator[ExemplarAccumulator]:
    """Yield blocks, and say that the job lives at each."""
    for block in blocks:
        yield block
        context.progress.advance()
