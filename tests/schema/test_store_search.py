"""Search in a real Postgres: words in any form and nearly spelt, meaning against comparing everything, and tokens."""

import uuid
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from schema.errors import NotFound
from schema.labels import Label, Status
from schema.records import DictionarySpec, Encoder
from schema.search import LabelFilter
from schema.store import dictionaries, indexing, labels, search, tokens
from schema.store.database import Connection
from schema.store.indexing import LabelText, Model, as_vector
from schema.store.search import Key
from schema.store.tokens import TokenLists

SPEC = DictionarySpec(name="d", subject="s", read_site="mlp_hidden.1", n_features=40, encoder=Encoder(kind="neurons"))
TEXTS = [
    "boats on rivers",
    "A river in Europe",
    "words about cooking fish",
    "the city of Paris",
    "ends a sentence with 🌊",
    "ספינות על הנהר",
    r"a path such as C:\new",
]


def add_dictionary(connection: Connection, n_features: int = 40, tenant_id: int = 1) -> uuid.UUID:
    spec = SPEC.model_copy(update={"n_features": n_features})
    return dictionaries.create(connection, tenant_id, uuid.uuid4(), spec).id


def say(
    connection: Connection, dictionary: uuid.UUID, feature: int, text: str | None, author: str = "glossarium"
) -> None:
    label = Label(feature=feature, text=text, status=Status.OK, method=None, description_id=None, author=author)
    labels.publish(connection, dictionary, None, label, f"{author} {text}")


@pytest.fixture
def dictionary(connection: Connection) -> uuid.UUID:
    """Return a dictionary with the labels above, whose words are known."""
    made = add_dictionary(connection)
    for feature, text in enumerate(TEXTS):
        say(connection, made, feature, text)
    rows = indexing.take(connection, "labels", 1000)
    indexing.add_words(connection, rows)
    indexing.done(connection, rows)
    return made


def found(connection: Connection, q: str, **filters: object) -> list[int]:
    scope = search.open_scope(connection, 1, LabelFilter.model_validate(filters))
    return [key.feature for key in search.by_words(connection, scope, q, 10)]


def test_words_are_found_in_any_form_and_order(connection: Connection, dictionary: uuid.UUID) -> None:
    assert found(connection, "river boat") == [0]
    assert sorted(found(connection, "RIVERS")) == [0, 1]
    assert found(connection, "river -boat") == [1]
    assert found(connection, '"boats on rivers"') == [0]
    assert found(connection, "הנהר") == [5]
    assert found(connection, "sentence 🌊") == [4]
    for nothing in ("the of", "!!", "🌊🌊", "':*&|!()", "\\"):
        assert found(connection, nothing) == []


def test_a_word_that_is_spelt_nearly_so_is_found(connection: Connection, dictionary: uuid.UUID) -> None:
    scope = search.open_scope(connection, 1, LabelFilter())

    def similar(q: str) -> list[int]:
        return sorted(key.feature for key in search.by_similar_words(connection, scope, q, 10))

    assert found(connection, "rivr") == []
    assert similar("rivr") == [0, 1]
    assert similar("rivr boats") == [0]
    assert similar("sentense") == [4]
    assert similar("xyzzy") == []
    assert similar("rivr -boats") == []
    assert similar(r"riv'r \ C:\nev") == []


def test_words_of_another_tenant_are_not_guessed_at(connection: Connection, dictionary: uuid.UUID) -> None:
    connection.execute("INSERT INTO tenant (id, name) VALUES (2, 'other')")
    other = add_dictionary(connection, tenant_id=2)
    say(connection, other, 3, "a rivet")
    indexing.add_words(connection, indexing.take(connection, "labels", 10))
    words = connection.execute("SELECT word FROM label_word WHERE tenant_id = 2 ORDER BY word").fetchall()
    assert words == [("a",), ("rivet",)]
    scope = search.open_scope(connection, 2, LabelFilter())
    assert [key.feature for key in search.by_words(connection, scope, "river", 10)] == []
    assert [key.feature for key in search.by_similar_words(connection, scope, "river", 10)] == [3]
    with pytest.raises(NotFound, match="no dictionary"):
        search.open_scope(connection, 2, LabelFilter(dictionary_id=dictionary))


def test_only_labels_that_pass_the_filters_are_found(connection: Connection, dictionary: uuid.UUID) -> None:
    connection.execute("UPDATE feature SET input_lift = 0.5, density = 0.1 WHERE index = 1")
    assert found(connection, "river", min_input_lift=0.5) == [1]
    assert found(connection, "river", max_density=0.05) == []
    assert found(connection, "river", status=["dead"]) == []
    assert sorted(found(connection, "river", status=["ok", "dead"], dictionary_id=dictionary)) == [0, 1]
    assert found(connection, "river") == [1, 0]  # of equal matches, the label that is tested better goes first
    assert found(connection, "river", dictionary_id=add_dictionary(connection)) == []


def test_every_label_is_queued_with_its_text_and_an_empty_one_is_not(
    connection: Connection, dictionary: uuid.UUID
) -> None:
    say(connection, dictionary, 3, None)
    say(connection, dictionary, 4, "boats on rivers", author="a person")
    say(connection, dictionary, 8, "boats on rivers")
    rows = indexing.take(connection, "labels", 10)
    assert [(row.dictionary_id, row.features) for row in rows] == [(dictionary, [4]), (dictionary, [8])]
    (text,) = indexing.texts(connection, rows)
    assert text.text == "boats on rivers"


def test_rows_are_taken_until_there_are_enough_features(connection: Connection, dictionary: uuid.UUID) -> None:
    for some in (range(600), [1], [2], [3]):
        indexing.add(connection, dictionary, "tokens", list(some))
    assert [len(row.features) for row in indexing.take(connection, "tokens", 10)] == [256]
    rows = indexing.take(connection, "tokens", 601)
    assert [len(row.features) for row in rows] == [256, 256, 88, 1]
    indexing.done(connection, rows)
    assert [row.features for row in indexing.take(connection, "tokens", 601)] == [[2], [3]]


# ------------------------------------------------------------------------------------------------------------ meaning

N, DIMENSIONS = 3000, 24
Vectors = NDArray[np.float32]


def vectors_of(n: int, seed: int) -> Vectors:
    """Return unit vectors in fifty clusters, as labels about the same subjects are."""
    draw = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(50, DIMENSIONS))
    made = centres[draw.integers(0, 50, n)] + 0.5 * draw.normal(size=(n, DIMENSIONS))
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


def store_labels(connection: Connection, vectors: Vectors, name: str = "m") -> tuple[uuid.UUID, Model]:
    """Store a dictionary with a label for each vector; one in fifty has the status `dead`."""
    dictionary = add_dictionary(connection, len(vectors))
    texts = [f"label {number}" for number in range(len(vectors))]
    connection.execute(
        """UPDATE feature SET label = 'label ' || index, label_id = 1, input_lift = index / 3000.0,
           status = CASE WHEN index %% 50 = 0 THEN 'dead' ELSE 'ok' END WHERE dictionary_id = %s""",
        (dictionary,),
    )
    model = indexing.register(connection, name, vectors.shape[1])
    rows = indexing.take(connection, "labels", 2 * N)
    known = {text.text: text for text in indexing.texts(connection, rows)}
    indexing.put(connection, model, [known[text] for text in texts], vectors.tolist())
    indexing.done(connection, rows)
    connection.execute("ANALYZE feature, embedding")
    return dictionary, model


def nearest(vectors: Vectors, question: Vectors, among: Sequence[int]) -> list[int]:
    """Return the ten nearest of some vectors, by comparing all."""
    return sorted(among, key=lambda index: -float(vectors[index] @ question))[:10]


FILTERS: list[tuple[dict[str, object], list[int]]] = [
    ({}, list(range(N))),
    ({"min_input_lift": 0.9}, list(range(2700, N))),
    ({"status": ["dead"]}, list(range(0, N, 50))),
    ({"status": ["dead"], "min_input_lift": 0.9}, list(range(2700, N, 50))),
]


@pytest.mark.parametrize("compare_all", [0, search.COMPARE_ALL])
def test_nine_of_ten_nearest_labels_are_found_under_any_filter(
    connection: Connection, monkeypatch: pytest.MonkeyPatch, compare_all: int
) -> None:
    monkeypatch.setattr(search, "COMPARE_ALL", compare_all)
    vectors, questions = vectors_of(N, seed=1), vectors_of(20, seed=2)
    _, model = store_labels(connection, vectors)
    for filters, among in FILTERS:
        scope = search.open_scope(connection, 1, LabelFilter.model_validate(filters))
        hits = 0
        for question in questions:
            vector = as_vector(question.tolist())
            near = search.by_meaning(connection, scope, model, vector, 100)[:10]
            expected = nearest(vectors, question, among)
            assert len(near) == len(expected)
            assert near[0].similarity == pytest.approx(float(vectors[near[0].key.feature] @ question), abs=0.01)
            hits += len({one.key.feature for one in near} & set(expected))
        assert hits >= 0.9 * len(questions) * min(10, len(among))


def test_the_index_of_the_model_is_walked(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "COMPARE_ALL", 0)
    _, model = store_labels(connection, vectors_of(N, seed=1))
    scope = search.open_scope(connection, 1, LabelFilter(status=("ok",)))
    search.by_meaning(connection, scope, model, as_vector(vectors_of(1, seed=2)[0].tolist()), 100)
    connection.commit()
    connection.execute("SELECT pg_stat_force_next_flush()")
    scans = connection.execute(
        "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = %s", (indexing.index_of(model),)
    ).fetchone()
    assert scans == (1,)


def test_where_a_walk_finds_too_few_all_are_compared_as_the_planner_likes(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "COMPARE_ALL", 0)
    _, model = store_labels(connection, vectors_of(N, seed=1))
    vector = as_vector(vectors_of(1, seed=2)[0].tolist())
    for status, settings in (("ok", ("off", "off")), ("dead", ("on", "on"))):
        scope = search.open_scope(connection, 1, LabelFilter(status=(status,)))
        search.by_meaning(connection, scope, model, vector, 100)
        found = connection.execute("SELECT current_setting('enable_sort'), current_setting('enable_seqscan')")
        assert found.fetchone() == settings


def test_a_new_model_or_other_dimensions_queue_all_labels_again(connection: Connection, dictionary: uuid.UUID) -> None:
    first = indexing.register(connection, "m", 3)
    rows = indexing.take(connection, "labels", 100)
    assert sorted(index for row in rows for index in row.features) == list(range(len(TEXTS)))
    indexing.done(connection, rows)
    assert indexing.register(connection, "m", 3) == first
    assert indexing.take(connection, "labels", 100) == []
    second = indexing.register(connection, "m", 5)
    assert second != first
    assert indexing.take(connection, "labels", 100)
    assert indexing.find_model(connection, "m", 4) is None


def test_embeddings_that_nobody_needs_are_forgotten(connection: Connection, dictionary: uuid.UUID) -> None:
    old, model = (indexing.register(connection, name, 2) for name in ("old", "new"))
    rows = indexing.take(connection, "labels", 100)
    texts = indexing.texts(connection, rows)
    gone = LabelText(b"\x77" * 32, "a label that was replaced")
    for one in (old, model):
        indexing.put(connection, one, [*texts, gone], [[0.6, 0.8]] * (len(texts) + 1))
    assert indexing.unknown(connection, model, [*texts, gone]) == []
    place = indexing.Place()
    for _ in range(20):
        place = indexing.forget_some(connection, model, place, 3)
    assert indexing.unknown(connection, model, [*texts, gone]) == [gone]
    assert len(indexing.unknown(connection, old, texts)) == len(texts)


# ------------------------------------------------------------------------------------------------------------- tokens


def test_features_are_found_by_tokens_the_highest_first(connection: Connection, dictionary: uuid.UUID) -> None:
    other = add_dictionary(connection)
    tokens.put(
        connection,
        dictionary,
        {
            1: TokenLists(promoted=[" boat", " river"], suppressed=[" the"], raised=["x", "y", " river"]),
            2: TokenLists(promoted=[" sea"], raised=[" river"], fires=[" the", "\0"]),
            3: TokenLists(suppressed=[" river"]),
        },
    )
    tokens.put(connection, other, {7: TokenLists(promoted=[" river"], lowered=[" the"])})

    def ranks(side: tokens.TokenSide, token: str, *scope: uuid.UUID) -> list[tuple[int, list[tuple[str, int]]]]:
        hits = tokens.find(connection, scope or (dictionary,), side, token, skip=0, most=10)
        return [(hit.key.feature, [(one.source, one.rank) for one in hit.ranks]) for hit in hits]

    assert ranks("promoted", " river") == [
        (2, [("token_change", 1)]),
        (1, [("vocabulary", 2), ("token_change", 3)]),
    ]
    assert {feature for feature, _ in ranks("promoted", " river", dictionary, other)} == {1, 2, 7}
    assert ranks("suppressed", " the", other) == [(7, [("token_change", 1)])]
    assert ranks("fires", " the") == [(2, [("exemplars", 1)])]
    assert ranks("fires", "\0") == [(2, [("exemplars", 2)])]
    assert ranks("promoted", "river") == []
    assert tokens.near(connection, "River") == [" river"]
    again = {1: TokenLists(promoted=[f"{number} " for number in range(20)] + [" boat"])}
    tokens.put(connection, dictionary, again)
    assert ranks("promoted", " boat") == []
    assert ranks("promoted", "9 ") == [(1, [("vocabulary", 10)])]


def test_a_deleted_dictionary_leaves_nothing_to_search(connection: Connection, dictionary: uuid.UUID) -> None:
    tokens.put(connection, dictionary, {1: TokenLists(promoted=["a"])})
    indexing.add(connection, dictionary, "tokens", [1])
    dictionaries.delete(connection, 1, dictionary)
    assert found(connection, "river") == []
    for table in ("feature_token", "search_queue"):
        assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)


def test_keys_of_features_that_are_gone_are_left_out(connection: Connection, dictionary: uuid.UUID) -> None:
    keys = [Key(dictionary, 1), Key(uuid.uuid4(), 1)]
    assert [shown.summary.label for shown in search.show(connection, keys).values()] == ["A river in Europe"]
