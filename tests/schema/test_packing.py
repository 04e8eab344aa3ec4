"""Packed records come back as they were, and are small."""

import json
import math
import random
import zlib
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schema.contexts import Reference, References, SplitReferences, context_number
from schema.errors import GlossariumError
from schema.evidence import (
    Agreement,
    Calibration,
    CurvePoint,
    SteeredText,
    SteeredTexts,
    TargetReached,
    TokenChange,
    TokenList,
    VocabularyProjection,
)
from schema.labels import Label, Score, Status
from schema.packing import VERSION, _compressed, check_packed, pack, pack_texts, unpack, unpack_fields, unpack_texts
from schema.records import Record

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
NUMBERS = st.floats(allow_nan=False) | st.floats(width=16, allow_nan=False) | st.sampled_from([0.0, -0.0])
WHOLE = st.integers(0, 255) | st.integers(-(2**15), 2**15) | st.integers(0, 2**32) | st.integers()


def tuples(strategy: st.SearchStrategy[object], max_size: int = 5) -> st.SearchStrategy[tuple[object, ...]]:
    return st.lists(strategy, max_size=max_size).map(tuple)


windows = st.builds(Reference, context=WHOLE, position=WHOLE, activations=tuples(NUMBERS))
halves = st.builds(SplitReferences, **{name: tuples(windows, 3) for name in SplitReferences.model_fields})
token_lists = st.builds(TokenList, ids=tuples(WHOLE), tokens=tuples(TEXTS), values=tuples(NUMBERS))
points = st.builds(CurvePoint, r=NUMBERS, alpha=NUMBERS, kl_nats=NUMBERS)
targets = st.builds(
    TargetReached, target_kl_nats=NUMBERS, alpha=NUMBERS, r=NUMBERS, achieved_kl_nats=NUMBERS, reached=st.booleans()
)
texts = st.builds(SteeredText, target_kl_nats=NUMBERS, prompt=TEXTS, text=TEXTS)
records = st.one_of(
    st.builds(
        References,
        before=WHOLE,
        after=WHOLE,
        n_tokens=WHOLE,
        n_firing=WHOLE,
        threshold=NUMBERS,
        sum=NUMBERS,
        max=NUMBERS,
        histogram_edges=tuples(NUMBERS),
        histogram=tuples(WHOLE),
        describe=halves,
        score=halves,
    ),
    st.builds(
        VocabularyProjection,
        promoted=token_lists,
        suppressed=token_lists,
        neighbours=tuples(WHOLE),
        cosines=tuples(NUMBERS),
        centred=st.booleans(),
    ),
    st.builds(
        TokenChange,
        amplified_raised=token_lists,
        amplified_lowered=token_lists,
        suppressed_raised=token_lists,
        suppressed_lowered=token_lists,
        strength_amplified=NUMBERS,
        strength_suppressed=NUMBERS,
        n_contexts=WHOLE,
        n_positions=WHOLE,
        method=st.sampled_from(["exact", "sequential", "linear"]),
        agreement=st.none() | st.builds(Agreement, overlap=NUMBERS, cosine=NUMBERS, n_features=WHOLE),
    ),
    st.builds(
        Calibration, residual_norm=NUMBERS, amplified=tuples(points), suppressed=tuples(points), targets=tuples(targets)
    ),
    st.builds(SteeredTexts, describe=tuples(texts), score=tuples(texts)),
)


@settings(max_examples=150, deadline=None)
@given(records)
def test_records_come_back_exactly(record: Record) -> None:
    returned = unpack(type(record), pack(record))
    assert returned == record
    assert repr(returned) == repr(record)  # tells -0.0 from 0.0 and 1 from 1.0
    assert pack(returned) == pack(record)


def test_records_of_any_shape_come_back() -> None:
    score = Score(
        feature=3,
        kind="input",
        status=Status.OK,
        recipe="r",
        details={"mixed": [1, 2.5, "a", None, True], "nested": [{"a": []}, {"a": [1]}, {"b": 1}], "empty": {}},
    )
    assert unpack(Score, pack(score)) == score
    label = Label(
        feature=0,
        text="über \x1f marks \x1e and\nlines",
        status=Status.OK,
        method="lexical",
        description_id=None,
        input=score,
        run_id=UUID(int=7),
        created_at=datetime(2026, 1, 2, tzinfo=UTC),
    )
    assert unpack(Label, pack(label)) == label


@pytest.mark.parametrize("tokens", [(), ("",), ("", " "), (" a", "b", "  c  d", " ", "\n "), ("\x1f",), ("\x1e", " x")])
def test_tokens_with_spaces_and_marks_come_back(tokens: tuple[str, ...]) -> None:
    record = TokenList(ids=(), tokens=tokens, values=())
    assert unpack(TokenList, pack(record)).tokens == tokens


@pytest.mark.parametrize("values", [(math.nan, -0.0, math.inf, -math.inf), (65504.0, 1e-8), (0.1, 1e300), (2.0**-24,)])
def test_unusual_numbers_come_back(values: tuple[float, ...]) -> None:
    record = TokenList(ids=(2**63 - 1, -(2**63)), tokens=(), values=values)
    returned = unpack(TokenList, pack(record))
    assert repr(returned.values) == repr(values)
    assert returned.ids == record.ids
    beyond = record.model_copy(update={"ids": (2**64, 1)})
    assert unpack(TokenList, pack(beyond)).ids == (2**64, 1)


def test_half_precision_numbers_take_two_bytes() -> None:
    chance = random.Random(0)
    wide = tuple(chance.random() for _ in range(2000))
    narrow = tuple(math.ldexp(chance.randrange(1024, 2048), -11) for _ in range(2000))
    assert len(pack(TokenList(ids=(), tokens=(), values=narrow))) < 2 * 2000 + 100
    assert len(pack(TokenList(ids=(), tokens=(), values=wide))) > 6 * 2000


def test_objects_that_differ_only_in_the_kind_of_a_number_stay_apart() -> None:
    score = Score(feature=3, kind="input", status=Status.OK, recipe="r", details={})
    details: dict[str, object] = {"rows": [{"a": value} for value in (1, 1.0, True, 0.0, -0.0, None, "1", {"a": 1})]}
    record = score.model_copy(update={"details": details})
    assert repr(unpack(Score, pack(record)).details) == repr(details)


def test_numbers_that_are_mostly_zero_take_little() -> None:
    chance = random.Random(0)
    values = tuple(chance.choice((0.5, 1.5, -0.0)) if chance.random() < 0.05 else 0.0 for _ in range(4000))
    packed = pack(TokenList(ids=(), tokens=(), values=values))
    assert repr(unpack(TokenList, packed).values) == repr(values)
    assert len(packed) < 400  # 8,000 bytes as they are; 200 of them are not 0


def exemplars(windows: SplitReferences) -> References:
    return References(
        n_tokens=10**6,
        n_firing=1234,
        threshold=0.0,
        sum=5e3,
        max=16.0,
        histogram_edges=(1.0, 2.0),
        histogram=(1234,),
        before=24,
        after=8,
        describe=windows,
        score=windows,
    )


def some_windows(n: int) -> tuple[Reference, ...]:
    """Return windows in some 20,000 contexts, with a fifth of the tokens active."""
    chance = random.Random(1)

    def window() -> Reference:
        values = (chance.randrange(2048) / 128 if chance.random() < 0.2 else 0.0 for _ in range(33))
        context = context_number(chance.randrange(20_000), 127 * chance.randrange(4))
        return Reference(context=context, position=chance.randrange(128), activations=tuple(values))

    return tuple(window() for _ in range(n))


def test_some_fields_are_read_alone() -> None:
    lists = SplitReferences(top=some_windows(20), uniform=(), weighted=(), silent=(), hard_negatives=())
    record = exemplars(lists).model_copy(update={"histogram": (7, 0, 5), "histogram_edges": (1.0, 2.0, 4.0, 8.0)})
    packed = pack(record)
    read = unpack_fields(packed, {"histogram", "histogram_edges", "max"})
    assert read == {"histogram": [7, 0, 5], "histogram_edges": [1.0, 2.0, 4.0, 8.0], "max": 16.0}
    lists_of_tokens = pack(TokenList(ids=(1, 2), tokens=(" a", "b"), values=(0.0, 0.5)))
    assert unpack_fields(lists_of_tokens, {"values"}) == {"values": [0.0, 0.5]}
    for damaged in (packed[:-1], b"", packed[:1] + packed[2:]):
        with pytest.raises(GlossariumError):
            unpack_fields(damaged, {"histogram"})


def test_windows_that_lists_share_are_stored_once() -> None:
    one = some_windows(20)
    lists = SplitReferences(top=one, uniform=(), weighted=(), silent=(), hard_negatives=())
    record = exemplars(lists.model_copy(update={"uniform": one[::-1], "weighted": one[::2]}))
    packed = pack(record)
    assert unpack(References, packed) == record
    assert len(packed) < len(pack(exemplars(lists))) + 60


def test_references_take_a_fraction_of_compressed_json() -> None:
    half = SplitReferences(top=some_windows(40)[:20], uniform=(), weighted=(), silent=(), hard_negatives=())
    record = exemplars(half).model_copy(update={"score": half.model_copy(update={"top": some_windows(40)[20:]})})
    packed = pack(record)
    assert len(packed) < 1_000
    assert len(packed) < 0.6 * len(zlib.compress(json.dumps(record.model_dump(mode="json")).encode(), 9))
    assert unpack(References, packed) == record


@given(tuples(TEXTS | st.text("[]\x1e\x1f \u00e9\n")))
def test_texts_come_back_exactly(texts: tuple[str, ...]) -> None:
    assert unpack_texts(pack_texts(texts)) == texts


def test_texts_that_no_text_can_hold_come_back() -> None:
    for texts in ((), ("",), ("\ud800", "["), ("[", "]"), ("[1]",), ("\x1f", "\ud800")):
        assert unpack_texts(pack_texts(texts)) == texts


def test_bytes_of_another_version_or_damaged_ones_are_refused() -> None:
    packed = pack(TokenList(ids=(1,), tokens=("a",), values=(1.0,)))
    assert packed[0] == VERSION
    with pytest.raises(GlossariumError, match="version 63; this installation reads 03"):
        unpack(TokenList, b"c" + packed[1:])
    with pytest.raises(GlossariumError, match="version none"):
        unpack(TokenList, b"")
    with pytest.raises(GlossariumError, match="version 02"):
        unpack_texts(b"\x02" + pack_texts((" a",))[1:])
    with pytest.raises(GlossariumError, match="damaged"):
        unpack(TokenList, packed[:-3])
    flipped = packed[:-6] + bytes([packed[-6] ^ 1]) + packed[-5:]
    with pytest.raises(GlossariumError, match="damaged"):
        unpack(TokenList, flipped)


def forged(header: object, columns: bytes = b"") -> bytes:
    """Return bytes that are whole and say something else than `pack` would."""
    text = json.dumps(header).encode()
    return _compressed(len(text).to_bytes(4, "little") + text + columns)


def test_what_is_packed_is_not_believed_about_its_size() -> None:
    many = 10**9
    bombs = {
        "rows": forged([0, [[many, {}]]]),
        "a column": forged([0, [[1, {"ids": {"l": {"j": [many]}, "v": {"c": "<i8", "n": 0, "g": {"j": []}}}}]]]),
        "less than none": forged([0, [[-many, {}], [many, {}]]]),
        # Each row holds the one before it ten times.
        "objects in objects": forged(
            [30, [[1, {"a": {"j": [[{"table": i - 1, "row": 0}] * 10] if i else [1]}}] for i in range(31)]]
        ),
    }
    for data in bombs.values():
        check_packed(data)
        with pytest.raises(GlossariumError, match=r"are (not )?read"):
            unpack(TokenList, data)
    with pytest.raises(GlossariumError, match="at most 67108864 are read"):
        check_packed(_compressed(bytes(2**26 + 1)))


def test_what_is_packed_and_no_record_is_refused() -> None:
    for header in ([], {}, [0, []], [5, [[1, {}]]], [0, [[1, {"ids": {"q": 1}}]]], [0, [[1, {"ids": {"j": [1]}}]]]):
        with pytest.raises(GlossariumError, match="is no TokenList"):
            unpack(TokenList, forged(header))
    loop = forged([0, [[1, {"a": {"j": [{"table": 0, "row": 0}]}}]]])
    with pytest.raises(GlossariumError):
        unpack(TokenList, loop)


def test_texts_that_are_none_are_named():
    for body in (b'["cut', b"\xff\xfe"):
        with pytest.raises(GlossariumError, match="packed texts"):
            unpack_texts(_compressed(body))
