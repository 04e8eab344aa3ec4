"""The corpus' rooms: one pass over each shard for all features, and the merge that settles what the run is about."""

import itertools
import time
from collections.abc import Sequence

import torch

from schema.blobs import open_blobs
from schema.errors import BadSelection
from schema.graph import block_jobs, blocks_of, features_per_block
from schema.records import AnyEvidence
from schema.selection import draw, parse_selection
from schema.stages import Stage
from schema.store import artifacts, evidence, features, jobs, run_features
from schema.store.database import Connection
from schema.store.run_features import Brief, RunFeature
from workers import recipes
from workers.changing import Scene, prepare_linear
from workers.corpus import Context as TextContext
from workers.corpus import Shard, contexts, open_corpus
from workers.desk import read_brief, read_corpus
from workers.engine import Context, Outcome
from workers.methods.exemplars import ExemplarAccumulator, ExemplarOptions, merge
from workers.methods.interventions import tokens_per_forward
from workers.methods.vocabulary import nearest_neighbours
from workers.methods.windows import ContextBatch
from workers.opened import Opened, chunks, open_dictionary
from workers.shapes import in_fixed_shapes, shape_for
from workers.sources import corpus_path

_FORWARDS_AT_ONCE = 4  # between updates of the exemplars: larger updates cost less a token, and more memory
_N_NEIGHBOURS = 5  # whose firing makes a silent context a hard negative


def collect_exemplars(context: Context) -> Outcome:
    """Return the partial exemplars of one corpus shard, as a blob; nothing where the whole is known already."""
    brief, corpus = read_brief(context), read_corpus(context)
    n_shards = _n_shards(context)
    recipe = recipes.partial(brief, corpus, context.job.shard, n_shards)
    with context.transaction() as connection:
        known = artifacts.get(connection, recipes.exemplars(brief, corpus)) or artifacts.get(connection, recipe)
    if known is not None:
        return Outcome(lambda connection: None, {"recipe": recipe})
    opened = open_dictionary(context, brief, corpus)
    accumulator = _empty(opened, brief)
    documents = open_corpus(corpus_path(context, brief), Shard(context.job.shard, n_shards))
    found = contexts(documents, opened.subject.tokenize, brief.spec.options.context_length, sink=opened.subject.sink_id)
    n_tokens = _FORWARDS_AT_ONCE * tokens_per_forward(opened.subject)
    for shape, rows in in_fixed_shapes(found, lambda one: len(one.ids), n_tokens):
        add_contexts(accumulator, opened, rows, shape.length)
        context.progress.advance()
    blob = open_blobs(context.settings).put(accumulator.to_bytes())
    context.progress.advance(1)
    return Outcome(lambda connection: artifacts.put(connection, recipe, *blob), {"recipe": recipe})


def merge_exemplars(context: Context) -> Outcome:
    """Return the exemplars of the features that the run is about, its features by position, and their jobs."""
    started = time.monotonic()
    brief, corpus = read_brief(context), read_corpus(context)
    opened = open_dictionary(context, brief, corpus)
    whole = _merged(context, brief, corpus)
    context.progress.advance()
    chosen = choose_features(brief, whole.n_firing > 0)
    recipe = recipes.exemplars(brief, corpus)
    with context.transaction() as connection:
        absent = evidence.missing(
            connection, brief.dictionary.id, "exemplars", recipe, [entry.feature for entry in chosen]
        )
    made: dict[int, AnyEvidence] = {}
    for feature in absent:
        made[feature] = whole.record(feature, opened.subject.pieces)
        context.progress.advance()
    if brief.spec.options.token_change == "linear":
        prepare_linear(Scene(context, brief, corpus, opened))
    blob = open_blobs(context.settings).put(whole.to_bytes())
    seconds = time.monotonic() - started
    provenance = recipes.provenance("exemplars", brief, corpus, opened.subject.fingerprint, seconds)
    document = provenance.document | {"n_tokens": whole.n_tokens}

    def write(connection: Connection) -> None:
        evidence.put(
            connection, brief.dictionary.id, "exemplars", provenance.model_copy(update={"document": document}), made
        )
        artifacts.put(connection, recipe, *blob)
        densities = (whole.n_firing / max(1, whole.n_tokens)).tolist()
        everyone = range(whole.n_features)
        largest = whole.counts.largest.nan_to_num(neginf=0.0).tolist()
        features.set_density(connection, brief.dictionary.id, everyone, densities, largest)
        run_features.put(connection, brief.run_id, chosen)

    size = features_per_block(brief.spec.options)
    blocks = blocks_of([entry.selected for entry in chosen], [entry.pooled for entry in chosen], size)
    context.progress.advance(1)
    return Outcome(write, {"n_tokens": whole.n_tokens}, block_jobs(blocks))


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


def _n_shards(context: Context) -> int:
    with context.transaction() as connection:
        return len(jobs.results(connection, context.job.run_id, Stage.EXEMPLARS))


def _empty(opened: Opened, brief: Brief) -> ExemplarAccumulator:
    dictionary, options = opened.dictionary, brief.spec.options
    everyone = torch.arange(dictionary.n_features)
    near = nearest_neighbours(dictionary.directions(everyone), everyone, _N_NEIGHBOURS).ids
    sizes = ExemplarOptions(k=options.k_exemplars, seed=brief.spec.seed)
    return ExemplarAccumulator.empty(dictionary.threshold, sizes, near)


def add_contexts(accumulator: ExemplarAccumulator, opened: Opened, rows: Sequence[TextContext], length: int) -> None:
    """Take in contexts that are padded to one length, forward by forward, all of them at once at the end."""
    subject, dictionary = opened
    shape = shape_for(length, tokens_per_forward(subject))
    parts = [rows[start : start + shape.n_rows] for start in range(0, len(rows), shape.n_rows)]
    batches = [subject.batch([row.ids for row in part], shape) for part in parts]
    values = [subject.read(batch, dictionary.read_site) for batch in batches]
    tokens = [(batch.ids, batch.attention, batch.counted) for batch in batches]
    ids, attention, counted = (torch.cat(tensors)[: len(rows)] for tensors in zip(*tokens, strict=True))
    numbers = torch.tensor([row.number for row in rows], device=subject.device)
    halves = torch.tensor([row.split for row in rows], device=subject.device)
    encoded = (
        (made[0][0], torch.cat([activations for _, activations in made])[: len(rows)])
        for made in zip(*(chunks(dictionary, one) for one in values), strict=True)
    )
    accumulator.add(ContextBatch(ids, attention, counted, numbers, halves), encoded)


def _merged(context: Context, brief: Brief, corpus: str) -> ExemplarAccumulator:
    """Return the exemplars of the whole corpus, from the blob of an earlier run or from this run's shards."""
    blobs, n_shards = open_blobs(context.settings), _n_shards(context)
    with context.transaction() as connection:
        whole = artifacts.get(connection, recipes.exemplars(brief, corpus))
        parts = [recipes.partial(brief, corpus, shard, n_shards) for shard in range(n_shards)]
        shas = [whole] if whole else [artifacts.get(connection, part) or "" for part in parts]
    merged: ExemplarAccumulator | None = None
    for sha256 in shas:
        with blobs.open(sha256) as file:
            part = ExemplarAccumulator.from_bytes(file.read())
        merged = part if merged is None else merge(merged, part)
        context.progress.advance()
    if merged is None:
        raise BadSelection("the corpus has no shard")
    return merged
