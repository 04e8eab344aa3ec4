"""One pass over a corpus equals brute force, however the corpus is divided."""

import itertools
import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from schema.contexts import context_number, document_of, unfold
from schema.errors import BadSelection, GlossariumError, NotFinite, NotFound, ShapeMismatch
from schema.evidence import Exemplars, SplitExemplars, Window
from schema.subjects import Site
from tests import tiny
from workers.corpus import Document, contexts
from workers.methods import exemplars
from workers.methods.contexts import Contexts
from workers.methods.exemplar_records import Pieces, records, texts
from workers.methods.exemplars import ExemplarAccumulator, ExemplarOptions, merge
from workers.methods.sampling import mix, uniform
from workers.methods.stored_exemplars import frames, from_bytes, merge_blocks, read_blocks, to_bytes
from workers.methods.tally import EDGES
from workers.methods.vocabulary import nearest_neighbours
from workers.methods.windows import ContextBatch
from workers.shapes import in_fixed_shapes
from workers.subject import Subject

LISTS = ("top", "uniform", "weighted", "silent", "hard_negatives")
SMALL = ExemplarOptions(k=3, n_samples=3, n_silent=2, n_hard=2, before=5, after=3, seed=7)


class Row(NamedTuple):
    """One context with all that a subject and a dictionary would make of it."""

    context: int
    split: int
    ids: list[int]
    counted: list[bool]
    activations: list[list[float]]  # by position, then feature


def pieces(ids: Sequence[int]) -> tuple[str, ...]:
    return tuple(f" {token}" for token in ids)


def batch_of(rows: Sequence[Row]) -> tuple[ContextBatch, Tensor]:
    """Return rows as right-padded tensors; padding gets a token and activations that must never be seen."""
    length, n_features = max(len(row.ids) for row in rows), len(rows[0].activations[0])
    ids = torch.full((len(rows), length), 999)
    attention = torch.zeros((len(rows), length), dtype=torch.bool)
    counted = torch.zeros((len(rows), length), dtype=torch.bool)
    activations = torch.full((len(rows), length, n_features), 1e6)
    for i, row in enumerate(rows):
        n = len(row.ids)
        ids[i, :n], attention[i, :n] = torch.tensor(row.ids), True
        counted[i, :n], activations[i, :n] = torch.tensor(row.counted), torch.tensor(row.activations)
    context = torch.tensor([row.context for row in rows])
    return ContextBatch(ids, attention, counted, context, torch.tensor([row.split for row in rows])), activations


def add(accumulator: ExemplarAccumulator, rows: Sequence[Row], chunk: int = 2) -> ExemplarAccumulator:
    batch, activations = batch_of(rows)
    accumulator.add(
        batch, ((low, activations[..., low : low + chunk]) for low in range(0, activations.shape[2], chunk))
    )
    return accumulator


def seeded_rows(n_documents: int, n_features: int, seed: int) -> list[Row]:
    """Return contexts with boilerplate, repeated documents, tied and coarse activations, sinks and a dead feature."""
    chance = random.Random(seed)
    boilerplate = [chance.randrange(20) for _ in range(9)]
    rows: list[Row] = []
    for document in range(n_documents):
        split = chance.randrange(2)
        for offset in range(0, chance.choice([1, 1, 2, 3]) * 11, 11):
            n = chance.choice([2, 6, 12, 12])
            ids = [chance.randrange(20) for _ in range(n)]
            if n == 12 and chance.random() < 0.5:
                ids[2:11] = boilerplate
            counted = [position > 0 and chance.random() < 0.9 for position in range(n)]
            by_position = [
                [0.0 if chance.random() < 0.8 else chance.choice([0.25, 0.5, 0.5, 1.5, chance.random()]) for _ in ids]
                for _ in range(n_features)
            ]
            by_position[1] = [0.0] * n  # dead
            by_position[2] = [float(token == boilerplate[4]) for token in ids]  # lives in the boilerplate
            for values in by_position:
                values[0] = 500.0  # the sink
            activations = [list(values) for values in zip(*by_position, strict=True)]
            rows.append(Row(context_number(document, offset), split, ids, counted, activations))
    repeat = chance.choice(rows)
    rows += [repeat._replace(context=context_number(n_documents + i, 0)) for i in range(4)]
    return rows


# ------------------------------------------------------------------------------------------------ the slow reference


def brute_force(
    rows: Sequence[Row], feature: int, thresholds: Sequence[float], neighbours: Sequence[int], options: ExemplarOptions
) -> Exemplars:
    """Return what `record` should, from all activations, in plain Python."""
    threshold = thresholds[feature]
    counted = [(row.activations[t][feature]) for row in rows for t in range(len(row.ids)) if row.counted[t]]
    firing = [float(np.float32(value)) for value in counted if np.float32(value) > np.float32(threshold)]
    bins = [sum(low <= value < high for value in firing) for low, high in itertools.pairwise(EDGES)]
    filled = [i for i, n in enumerate(bins) if n]
    describe = [rank(rows, feature, name, 0, thresholds, neighbours, options) for name in LISTS]
    shown = {key_of(row, position) for ranked in describe for row, position in ranked}
    score = []
    for name in LISTS:
        ranked = rank(rows, feature, name, 1, thresholds, neighbours, options)
        score.append([(row, at) for row, at in ranked if key_of(row, at) not in shown])
    splits = [
        SplitExemplars(
            **{
                name: tuple(window(row, at, feature, name, options) for row, at in ranked[:size])
                for name, ranked, size in zip(LISTS, lists, options.sizes, strict=True)
            }
        )
        for lists in (describe, score)
    ]
    return Exemplars(
        n_tokens=len(counted),
        n_firing=len(firing),
        threshold=threshold,
        sum=math.fsum(firing),
        max=float(np.float32(max(counted))) if counted else 0.0,
        histogram_edges=EDGES[filled[0] : filled[-1] + 2] if filled else (),
        histogram=tuple(bins[filled[0] : filled[-1] + 1]) if filled else (),
        describe=splits[0],
        score=splits[1],
    )


def rank(
    rows: Sequence[Row],
    feature: int,
    name: str,
    split: int,
    thresholds: Sequence[float],
    neighbours: Sequence[int],
    options: ExemplarOptions,
) -> list[tuple[Row, int]]:
    """Return what is kept of one half: contexts with their peaks, best first."""
    found: list[tuple[float, int, Row, int]] = []
    for row in rows:
        counted = [t for t in range(len(row.ids)) if row.counted[t]]
        if row.split != split or not counted:
            continue
        value, at = peak(row, feature)
        fires = value > np.float32(thresholds[feature])
        draw = uniform(options.seed, "context", row.context, feature)
        beside = [n for n in neighbours if peak(row, n)[0] > np.float32(thresholds[n])]
        if name == "top" and fires:
            found.append((-value, row.context, row, at))
        elif name == "uniform" and fires:
            found.append((draw, row.context, row, at))
        elif name == "weighted" and fires:
            found.append((-math.log(draw) / max(value, 2.0**-20), row.context, row, at))
        elif name == "silent" and not fires:
            nth = int(uniform(options.seed, "position", row.context, feature) * len(counted))
            found.append((draw, row.context, row, counted[nth]))
        elif name == "hard_negatives" and not fires and beside:
            key = uniform(options.seed, "hard negatives", row.context, feature)
            found.append((key, row.context, row, peak(row, beside[0])[1]))
    found.sort(key=lambda item: item[:2])
    if name == "top":
        seen: set[int] = set()
        found = [item for item in found if not (key_of(*item[2:]) in seen or seen.add(key_of(*item[2:])))]
    size = dict(zip(LISTS, options.sizes, strict=True))[name]
    return [item[2:] for item in found][: size + split * math.ceil(size / 2)]


def peak(row: Row, feature: int) -> tuple[float, int]:
    best = max((t for t in range(len(row.ids)) if row.counted[t]), key=lambda t: (row.activations[t][feature], -t))
    return float(np.float32(row.activations[best][feature])), best


def key_of(row: Row, at: int) -> int:
    return int(mix(*(row.ids[t] if 0 <= t < len(row.ids) else -1 for t in range(at - 4, at + 4))))


def window(row: Row, at: int, feature: int, name: str, options: ExemplarOptions) -> Window:
    span = range(max(0, at - options.before), min(len(row.ids), at + options.after + 1))
    silent = name in ("silent", "hard_negatives")
    return Window(
        document=document_of(row.context),
        position=at,
        peak=at - span[0],
        tokens=pieces([row.ids[t] for t in span]),
        activations=tuple(
            float(np.float16(row.activations[t][feature])) if row.counted[t] and not silent else 0.0 for t in span
        ),
    )


THRESHOLDS = [0.0, 0.0, 0.0, 0.5, 0.25]
NEIGHBOURS = [[2, 3], [0, -1], [4, 0], [2, -1], [-1, -1]]


def accumulate(
    batches: Sequence[Sequence[Row]], options: ExemplarOptions = SMALL, chunk: int = 2
) -> ExemplarAccumulator:
    accumulator = ExemplarAccumulator.empty(torch.tensor(THRESHOLDS), options, torch.tensor(NEIGHBOURS))
    for rows in batches:
        if rows:
            add(accumulator, rows, chunk)
    return accumulator


def recorded(seen: ExemplarAccumulator, feature: int, pieces: Pieces) -> Exemplars:
    (found,) = records(seen, [feature])
    return unfold(found, texts(seen.contexts(), pieces, sorted(found.contexts)))


def assert_same(found: Exemplars, expected: Exemplars) -> None:
    assert found.sum == pytest.approx(expected.sum, rel=1e-9)
    assert found.model_copy(update={"sum": 0.0}) == expected.model_copy(update={"sum": 0.0})


@pytest.mark.parametrize("seed", range(4))
def test_one_pass_equals_brute_force(seed: int) -> None:
    rows = seeded_rows(40, len(THRESHOLDS), seed)
    accumulator = accumulate([rows[i : i + 7] for i in range(0, len(rows), 7)])
    for feature in range(len(THRESHOLDS)):
        named = [n for n in NEIGHBOURS[feature] if n >= 0]
        assert_same(recorded(accumulator, feature, pieces), brute_force(rows, feature, THRESHOLDS, named, SMALL))


def test_reference_cases_hold_what_they_are_for() -> None:
    rows = seeded_rows(40, len(THRESHOLDS), 0)
    record = recorded(accumulate([rows]), 2, pieces)
    peaks = [window.maximum for window in record.describe.top]
    assert len(peaks) == SMALL.k  # boilerplate did not fill the list with one sentence
    assert len(set(peaks)) < len(peaks)  # there are ties
    assert len({window.about for window in record.describe.top}) == len(peaks)
    dead = recorded(accumulate([rows]), 1, pieces)
    assert dead.n_firing == 0
    assert dead.density == 0.0
    assert dead.describe.top == dead.describe.uniform == ()
    assert len(dead.describe.silent) == SMALL.n_silent
    assert len(recorded(accumulate([rows]), 0, pieces).describe.hard_negatives) == SMALL.n_hard


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 9), st.integers(1, 4), st.integers(1, 5))
def test_any_division_and_order_gives_the_same_bytes(seed: int, size: int, n_shards: int, chunk: int) -> None:
    rows = seeded_rows(14, len(THRESHOLDS), seed % 5)
    whole = accumulate([rows])
    chance = random.Random(seed)
    shuffled = chance.sample(rows, len(rows))
    shards = [accumulate([], chunk=chunk) for _ in range(n_shards)]
    for start in range(0, len(shuffled), size):
        add(chance.choice(shards), shuffled[start : start + size], chunk)
    chance.shuffle(shards)
    while len(shards) > 1:  # any order of pairs
        a, b = shards.pop(chance.randrange(len(shards))), shards.pop(chance.randrange(len(shards)))
        shards.append(merge(a, from_bytes(to_bytes(b))))
    torch.testing.assert_close(shards[0].counts.total, whole.counts.total, rtol=1e-9, atol=0)
    shards[0].counts = shards[0].counts._replace(total=whole.counts.total)
    assert to_bytes(shards[0]) == to_bytes(whole)


def test_hand_computed_case() -> None:
    # One document of six tokens, and one of four; one feature. Position 0 is a sink and never counts.
    first = Row(0, 0, [10, 11, 12, 13, 14, 15], [False] + [True] * 5, [[9.0], [0.0], [2.0], [0.0], [1.0], [0.0]])
    second = Row(context_number(1, 0), 0, [20, 21, 22, 23], [False] + [True] * 3, [[9.0], [0.0], [0.0], [4.0]])
    third = Row(context_number(2, 0), 0, [30, 31], [False, True], [[9.0], [0.0]])
    accumulator = ExemplarAccumulator.empty(torch.zeros(1), ExemplarOptions(before=2, after=1))
    add(accumulator, [first, second, third])
    record = recorded(accumulator, 0, pieces)
    assert (record.n_tokens, record.n_firing, record.sum, record.max) == (9, 3, 7.0, 4.0)
    assert record.density == pytest.approx(1 / 3)
    assert record.histogram_edges[0] == 1.0
    assert record.histogram == (1, 0, 0, 0, 1, 0, 0, 0, 1)  # 1 and 2 and 4, each the lower edge of its bin
    strongest, weaker = record.describe.top
    assert (strongest.document, strongest.position, strongest.peak) == (1, 3, 2)
    assert strongest.tokens == (" 21", " 22", " 23")
    assert strongest.activations == (0.0, 0.0, 4.0)
    assert strongest.maximum == 4.0
    assert (weaker.document, weaker.position, weaker.peak, weaker.text) == (0, 2, 2, " 10 11 12 13")
    assert weaker.activations == (0.0, 0.0, 2.0, 0.0)  # the sink's 9 is not shown
    assert [window.document for window in record.describe.silent] == [2]
    assert {window.document for window in record.describe.uniform} == {0, 1}
    assert record.describe.hard_negatives == record.score.top == record.score.silent == ()


def test_score_windows_that_a_describer_could_see_are_dropped() -> None:
    same = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]  # the peak is the 6, its key is of 2 to 9
    active = [[0.0]] * 5 + [[1.0]] + [[0.0]] * 4
    counted = [False] + [True] * 9
    rows = [
        Row(0, 0, same, counted, active),
        Row(context_number(1, 0), 1, same, counted, active),
        Row(context_number(2, 0), 1, [77, *same[1:9], 77], counted, active),  # differs outside of the eight tokens
        Row(context_number(3, 0), 1, [1, 77, *same[2:]], counted, active),  # differs within them
    ]
    accumulator = add(ExemplarAccumulator.empty(torch.zeros(1), SMALL), rows)
    record = recorded(accumulator, 0, pieces)
    assert [window.document for window in record.describe.top] == [0]
    assert [window.document for window in record.score.top] == [3]
    assert [window.document for window in record.score.uniform] == [3]


def test_thresholds_decide_what_fires() -> None:
    values = [[0.0], [-2.0], [-0.5], [0.5], [2.0], [3.0]]
    row = Row(0, 0, list(range(6)), [False] + [True] * 5, values)
    for threshold, n_firing in ((-1.0, 4), (0.0, 3), (0.5, 2), (3.0, 0)):
        record = recorded(add(ExemplarAccumulator.empty(torch.tensor([threshold]), SMALL), [row]), 0, pieces)
        assert (record.n_firing, record.n_tokens, record.max) == (n_firing, 5, 3.0)
        assert len(record.describe.top) == int(n_firing > 0)
        assert len(record.describe.silent) == int(n_firing == 0)


def test_features_that_fire_below_zero_stay_finite() -> None:
    row = Row(0, 0, [1, 2], [False, True], [[0.0], [-1.0]])
    record = recorded(add(ExemplarAccumulator.empty(torch.tensor([-2.0]), SMALL), [row]), 0, pieces)
    assert record.n_firing == sum(record.histogram) == 1
    assert record.describe.weighted[0].maximum == record.max == record.sum == -1.0


def test_sink_padding_and_special_tokens_never_are_a_peak() -> None:
    rows = seeded_rows(30, len(THRESHOLDS), 3)
    accumulator = accumulate([rows])
    by_context = {(document_of(row.context), tuple(row.ids)): row for row in rows}
    for feature in range(len(THRESHOLDS)):
        record = recorded(accumulator, feature, pieces)
        assert record.max < 500.0
        for half in (record.describe, record.score):
            for found in (w for name in LISTS for w in getattr(half, name)):
                assert found.position > 0
                assert max(found.activations) < 500.0
                assert " 999" not in found.tokens
                matching = [row for (document, _), row in by_context.items() if document == found.document]
                assert any(found.position < len(row.ids) and row.counted[found.position] for row in matching)


def test_contexts_without_counted_tokens_leave_no_trace() -> None:
    row = Row(0, 0, [5, 6], [False, False], [[3.0], [3.0]])
    accumulator = add(ExemplarAccumulator.empty(torch.zeros(1), SMALL), [row])
    record = recorded(accumulator, 0, pieces)
    assert (record.n_tokens, record.n_firing, record.max, record.histogram) == (0, 0, 0.0, ())
    assert record.describe == record.score
    assert record.describe.silent == ()


def test_weighted_sample_prefers_strong_contexts_and_uniform_does_not() -> None:
    n, rows = 4000, []
    for document in range(n):
        strength = 9.0 if document % 10 == 0 else 1.0
        rows.append(Row(context_number(document, 0), 0, [0, document], [False, True], [[0.0], [strength]]))
    options = ExemplarOptions(k=1, n_samples=400, n_silent=0, n_hard=0, before=1, after=1)
    record = recorded(add(ExemplarAccumulator.empty(torch.zeros(1), options), rows), 0, pieces)
    strong = [
        sum(w.maximum == 9.0 for w in sample) / 400 for sample in (record.describe.uniform, record.describe.weighted)
    ]
    assert strong[0] == pytest.approx(0.1, abs=0.05)
    assert strong[1] == pytest.approx(0.45, abs=0.08)  # a tenth of the contexts has half of the weight
    assert len({w.document for w in record.describe.weighted}) == 400


def test_bfloat16_activations_are_taken() -> None:
    row = Row(0, 0, [1, 2, 3], [False, True, True], [[0.0], [0.5], [1.5]])
    batch, activations = batch_of([row])
    accumulator = ExemplarAccumulator.empty(torch.zeros(1), SMALL)
    accumulator.add(batch, [(0, activations.bfloat16())])
    assert recorded(accumulator, 0, pieces).describe.top[0].activations == (0.0, 0.5, 1.5)


def test_peaks_beyond_float16_are_kept_finite_in_windows() -> None:
    row = Row(0, 0, [1, 2], [False, True], [[0.0], [1e5]])
    record = recorded(add(ExemplarAccumulator.empty(torch.zeros(1), SMALL), [row]), 0, pieces)
    assert record.max == 1e5
    assert record.describe.top[0].maximum == 65504.0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_activations_that_are_not_finite_name_the_feature(value: float) -> None:
    row = Row(0, 0, [1, 2], [False, True], [[0.0, 0.0, 0.0], [0.0, 1.0, value]])
    with pytest.raises(NotFinite, match="feature 2"):
        add(ExemplarAccumulator.empty(torch.zeros(3), SMALL), [row])


def test_values_at_positions_that_do_not_count_may_be_anything() -> None:
    row = Row(0, 0, [1, 2], [False, True], [[math.nan], [1.0]])
    record = recorded(add(ExemplarAccumulator.empty(torch.zeros(1), SMALL), [row]), 0, pieces)
    assert record.describe.top[0].activations == (0.0, 1.0)


def test_shapes_that_do_not_fit_are_refused() -> None:
    batch, activations = batch_of(seeded_rows(3, 5, 0))
    accumulator = accumulate([])
    with pytest.raises(ShapeMismatch, match="activations of 3 features; the dictionary has 5"):
        accumulator.add(batch, [(0, activations[..., :3])])
    with pytest.raises(ShapeMismatch, match="features from 0"):
        accumulator.add(batch, [(2, activations[..., 2:])])
    with pytest.raises(ShapeMismatch, match="shape"):
        accumulator.add(batch, [(0, activations[:, :-1])])
    with pytest.raises(ShapeMismatch, match="batch"):
        accumulator.add(batch._replace(split=batch.split[:-1]), [(0, activations)])
    with pytest.raises(ShapeMismatch, match="neighbours"):
        ExemplarAccumulator.empty(torch.zeros(5), SMALL, torch.zeros((4, 2), dtype=torch.int64))
    with pytest.raises(NotFinite, match="feature 1"):
        ExemplarAccumulator.empty(torch.tensor([0.0, math.nan]), SMALL)
    with pytest.raises(ShapeMismatch, match="must be the same"):
        merge(accumulator, accumulate([], ExemplarOptions(seed=1)))
    with pytest.raises(BadSelection, match=r"feature 5; these are the exemplars of features 0\.\.4"):
        recorded(accumulator, 5, pieces)


def test_bytes_that_are_no_state_are_refused() -> None:
    data = to_bytes(accumulate([seeded_rows(5, 5, 0)]))
    for broken in (b"", b"nonsense", data[:-9]):
        with pytest.raises(GlossariumError, match="no stored exemplars"):
            from_bytes(broken)


def test_memory_does_not_grow_with_the_corpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exemplars, "_FRESH_TOKENS", 100)

    def n_bytes(accumulator: ExemplarAccumulator) -> int:
        return sum(tensor.nbytes for lists in accumulator.lists for of_all in lists for tensor in of_all)

    once = accumulate([seeded_rows(10, 5, 1)])
    before, n_slots = n_bytes(once), sum(of_all.cost.numel() for lists in once.lists for of_all in lists)
    n_read = 0
    for seed in range(2, 40):
        rows = [row._replace(context=row.context + context_number(1000 * seed, 0)) for row in seeded_rows(10, 5, seed)]
        add(once, rows)
        n_read += len(rows)
    assert n_bytes(once) == before
    assert len(once.contexts().numbers) <= n_slots < n_read
    held = len(once._contexts.tokens) + sum(len(part.tokens) for part in once._fresh)
    assert held <= 2 * len(once._contexts.tokens) + 100 + 14 * 33  # what is on a list, as much again, and a batch


def test_blocks_of_features_merge_and_read_as_the_whole_does(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(exemplars, "_FEATURES_AT_ONCE", 2)
    rows = seeded_rows(30, len(THRESHOLDS), 2)
    parts = [tmp_path / "even", tmp_path / "odd"]
    for shard, path in enumerate(parts):
        path.write_bytes(b"".join(frames(accumulate([rows[shard::2]]).blocks())))
    with parts[0].open("rb") as even, parts[1].open("rb") as odd:
        blocks = list(merge_blocks([read_blocks(even), read_blocks(odd)]))
    assert [(block.watched.first, block.n_features) for block in blocks] == [(0, 2), (2, 2), (4, 1)]
    whole = accumulate([rows])
    for block in blocks:
        for feature in range(block.watched.first, block.watched.first + block.n_features):
            assert_same(recorded(block, feature, pieces), recorded(whole, feature, pieces))
    with pytest.raises(BadSelection, match=r"feature 0; these are the exemplars of features 2\.\.3"):
        recorded(blocks[1], 0, pieces)


def test_contexts_are_found_by_number_after_any_join_and_choice() -> None:
    ids = torch.tensor([[1, 2, 3], [4, 5, 0], [6, 0, 0]])
    lengths = torch.tensor([3, 2, 1])
    batch = Contexts.of(torch.tensor([70, 20, 50]), ids, torch.arange(3) < lengths[:, None])
    both = Contexts.join([batch, Contexts.of(torch.tensor([60]), torch.tensor([[9]]), torch.ones((1, 1)).bool())])
    assert both.numbers.tolist() == [20, 50, 60, 70]
    assert [both.tokens_of(number).tolist() for number in (20, 50, 60, 70)] == [[4, 5], [6], [9], [1, 2, 3]]
    some = both.only(torch.tensor([70, 50, 1]))
    assert some.numbers.tolist() == [50, 70]
    assert some.tokens_of(70).tolist() == [1, 2, 3]
    with pytest.raises(NotFound, match="context 60 is not among the 2"):
        some.tokens_of(60)


# ------------------------------------------------------------------------------------------------ a tiny subject


@pytest.fixture(scope="module")
def subject() -> Subject:
    return tiny.build_subject()


def read_rows(subject: Subject, site: Site, encode: Callable[[Tensor], Tensor]) -> list[list[Row]]:
    """Return the tiny corpus as the subject and an encoder see it, in batches."""
    documents = [Document(i, text) for i, text in enumerate(tiny.tiny_corpus(40))]
    found = []
    cut = contexts(documents, subject.tokenize, 32, sink=subject.sink_id)
    for _, group in in_fixed_shapes(cut, lambda context: len(context.ids), 16 * 32):
        batch = subject.batch([context.ids for context in group])
        activations = encode(subject.read(batch, site))
        found.append(
            [
                Row(context.number, context.split, context.ids, counted[:n].tolist(), values[:n].tolist())
                for context, counted, values in zip(group, batch.counted, activations, strict=True)
                for n in [len(context.ids)]
            ]
        )
    return found


def test_planted_features_are_found_on_their_triggers_alone(subject: Subject, tmp_path: Path) -> None:
    planted = tiny.planted_dictionary(tmp_path / "dictionary", tiny.make_subject(tmp_path / "subject"))
    weights = load_file(planted.weights)
    rows = read_rows(
        subject,
        Site.parse(planted.spec.read_site),
        lambda x: torch.relu(x @ weights["w_enc"].T + weights["b_enc"]),
    )
    neighbours = nearest_neighbours(weights["w_dec"], torch.arange(planted.spec.n_features), 5).ids
    accumulator = ExemplarAccumulator.empty(torch.zeros(planted.spec.n_features), ExemplarOptions(), neighbours)
    for group in rows:
        add(accumulator, group, chunk=20)
    tokens = [row.ids[t] for group in rows for row in group for t, counts in enumerate(row.counted) if counts]
    for feature, truth in enumerate(planted.planted):
        record = recorded(accumulator, feature, subject.pieces)
        triggers = set(tiny.word_ids(subject.tokenizer, truth.triggers))
        assert record.n_tokens == len(tokens)
        assert record.n_firing == sum(token in triggers for token in tokens)
        for half in (record.describe, record.score):
            assert len(half.top) > 2
            for found in (*half.top, *half.uniform, *half.weighted):
                assert found.tokens[found.peak].strip() in truth.triggers
                fires = {token.strip() for token, value in zip(found.tokens, found.activations, strict=True) if value}
                assert fires <= set(truth.triggers)
            for found in (*half.silent, *half.hard_negatives):
                assert not set(found.text.split()) & set(truth.triggers)
            assert half.silent


def test_neurons_of_a_subject_equal_brute_force(subject: Subject) -> None:
    rows = read_rows(subject, Site.parse("mlp_hidden.2"), lambda x: x)
    values = torch.tensor([values for group in rows for row in group for values in row.activations])
    thresholds = values.quantile(0.99, dim=0)
    options = ExemplarOptions(k=5, n_samples=4, n_silent=3, n_hard=3)
    neighbours = nearest_neighbours(subject.unit_directions(Site.parse("mlp_hidden.2")), torch.arange(128), 3).ids
    accumulator = ExemplarAccumulator.empty(thresholds, options, neighbours)
    for group in rows:
        add(accumulator, group, chunk=50)
    flat = [row for group in rows for row in group]
    for feature in (0, 49, 50, 127):
        expected = brute_force(flat, feature, thresholds.tolist(), neighbours[feature].tolist(), options)
        assert_same(recorded(accumulator, feature, pieces), expected)
        assert 0 < expected.density < 0.03
