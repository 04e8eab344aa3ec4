"""Search over HTTP and on the command line: why each hit was found, pages, odd questions, an endpoint that is away."""

import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner, Result

from schema.errors import InvalidInput, LLMUnavailable, NotFound
from schema.labels import Label, Status
from schema.records import Dictionary
from schema.search import SearchPage
from schema.settings import Settings
from schema.store import database, labels, tokens
from schema.store.search import Key
from schema.store.tokens import TokenLists
from service import meaning, search
from service.cli import app
from service.fusion import RANK_CONSTANT, fuse
from tests.llm_server import DIMENSIONS, LLMServer
from tests.service.conftest import Api, SpecMaker, serving
from tests.service.planting import index_labels

LABELS = {0: "boats on rivers", 1: "A river in Europe", 2: "cooking fish", 3: "fish and boats", 4: "🌊 נהר"}


@pytest.fixture
def server() -> Iterator[LLMServer]:
    with LLMServer() as running:
        yield running


@pytest.fixture
def api(settings: Settings, server: LLMServer) -> Iterator[Api]:
    """Yield a running API whose embeddings come from the fake endpoint."""
    changes = {"embeddings_base_url": server.base_url, "embeddings_api_key": SecretStr("none")}
    with serving(settings.model_copy(update=changes)) as running:
        yield running


@pytest.fixture
def known(api: Api, neurons: Dictionary) -> Dictionary:
    """Return a dictionary whose labels and tokens are indexed."""
    with database.connect(api.settings.database_url) as connection:
        for feature, text in LABELS.items():
            say(connection, neurons, feature, text)
        index_labels(connection, api.settings.embeddings_model)
        tokens.put(
            connection,
            neurons.id,
            {feature: TokenLists(promoted=[" river"], fires=["x"] * feature + [" boat"]) for feature in range(4)},
        )
    return neurons


def say(connection: database.Connection, dictionary: Dictionary, feature: int, text: str) -> None:
    label = Label(feature=feature, text=text, status=Status.OK, method="lexical", description_id=None)
    labels.publish(connection, dictionary.id, None, label, text)


def indices(page: SearchPage) -> list[int]:
    return [hit.feature.index for hit in page.items]


def test_hits_say_why_they_were_found(api: Api, known: Dictionary) -> None:
    page = api.client.search("boats on rivers")
    first, *others = page.items
    assert (first.dictionary_id, first.feature.index, first.feature.label) == (known.id, 0, "boats on rivers")
    assert first.why == ("word", "meaning")
    assert first.similarity == pytest.approx(1.0, abs=0.01)
    assert first.score == pytest.approx(2 / (RANK_CONSTANT + 1))
    assert page.note is None
    by_index = {hit.feature.index: hit for hit in others}
    assert by_index[3].why == ("meaning",)
    assert by_index[3].similarity == pytest.approx(1 / 3, abs=0.01)


def test_each_way_answers_by_itself(api: Api, known: Dictionary) -> None:
    words = api.client.search("river", mode="words")
    assert sorted(indices(words)) == [0, 1]
    assert {hit.why for hit in words.items} == {("word",)}
    assert {hit.similarity for hit in words.items} == {None}
    near = api.client.search("fish", mode="meaning")
    assert set(indices(near)[:2]) == {2, 3}
    assert {hit.why for hit in near.items} == {("meaning",)}


def test_a_word_that_is_spelt_nearly_so_is_found_and_said_to_be(api: Api, known: Dictionary) -> None:
    (hit,) = api.client.search("cokking", mode="words").items
    assert (hit.feature.index, hit.why) == (2, ("similar_word",))


def test_filters_and_a_dictionary_narrow_the_search(api: Api, known: Dictionary, spec_of: SpecMaker) -> None:
    other = api.client.submit_dictionary(
        spec_of(name="other", read_site="mlp_hidden.2", encoder={"kind": "neurons"}, n_features=16)
    )
    with database.connect(api.settings.database_url) as connection:
        connection.execute("UPDATE feature SET input_lift = 0.4 WHERE index = 1")
        say(connection, other, 9, "a river")
        index_labels(connection, api.settings.embeddings_model)
    assert {hit.dictionary_id for hit in api.client.search("river").items} == {known.id, other.id}
    assert indices(api.client.search("river", dictionary_id=other.id)) == [9]
    assert indices(api.client.search("river", min_input_lift=0.3)) == [1]
    assert indices(api.client.search("river", status=["dead", "refused"])) == []
    assert 9 in indices(api.client.search("river", status="ok", method="lexical"))
    with pytest.raises(NotFound, match="no dictionary"):
        api.client.search("river", dictionary_id=uuid.uuid4())


def test_pages_follow_each_other(api: Api, known: Dictionary) -> None:
    whole = api.client.search("river boats fish", mode="both", limit=100)
    seen: list[int] = []
    cursor = None
    while True:
        page = api.client.search("river boats fish", limit=2, cursor=cursor)
        seen += indices(page)
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == indices(whole)
    assert len(seen) == len(LABELS)


def test_the_first_page_decides_how_deep_a_search_looks(
    api: Api, known: Dictionary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "LEAST_DEPTH", 2)
    ask = partial(api.client.search, "river boats fish", mode="meaning")
    first = ask(limit=1)
    rest = ask(limit=100, cursor=first.next_cursor)
    whole = indices(ask(limit=100))
    assert len(whole) == len(LABELS)
    assert indices(first) + indices(rest) == whole[:2]
    assert rest.next_cursor is None


def test_where_the_endpoint_is_away_words_answer_and_say_so(api: Api, known: Dictionary, server: LLMServer) -> None:
    server.mode = "error"
    page = api.client.search("boats")
    assert sorted(indices(page)) == [0, 3]
    assert page.note is not None
    assert page.note.startswith("searched by words only: the embeddings endpoint gives no embedding")
    n_asked = len(server.requests)
    assert "did not answer a moment ago" in (api.client.search("boats").note or "")
    assert len(server.requests) == n_asked  # an endpoint that failed is left alone for a while
    with pytest.raises(LLMUnavailable, match="the embeddings endpoint"):
        api.client.search("boats", mode="meaning")
    assert api.client.search("boats", mode="words").note is None


def test_an_endpoint_that_hangs_holds_up_a_search_for_a_moment_only(
    api: Api, known: Dictionary, server: LLMServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meaning, "TIMEOUT_S", 0.2)
    server.mode = "hang"
    with serving(api.settings) as other:
        assert "timed out" in (other.client.search("boats").note or "")


def test_searches_that_wait_for_the_endpoint_hold_no_connection(
    api: Api, known: Dictionary, server: LLMServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meaning, "TIMEOUT_S", 6.0)
    server.mode = "hang"
    n_searches = 15  # the pool has ten
    with serving(api.settings) as other, ThreadPoolExecutor(n_searches) as threads:
        n_asked = len(server.requests)
        waiting = [threads.submit(other.client.search, f"boats {number}") for number in range(n_searches)]
        while len(server.requests) < n_asked + n_searches:
            assert not any(search.done() for search in waiting)
            time.sleep(0.02)
        assert [found.id for found in other.client.dictionaries()] == [known.id]
        assert not any(search.done() for search in waiting)


def test_labels_that_are_not_embedded_yet_are_counted(api: Api, known: Dictionary) -> None:
    with database.connect(api.settings.database_url) as connection:
        say(connection, known, 5, "harbours")
    page = api.client.search("harbours")
    assert page.note == "1 labels are not embedded yet"
    assert (page.items[0].feature.index, page.items[0].why, page.items[0].similarity) == (5, ("word",), None)


def test_before_anything_is_embedded_words_answer(api: Api, neurons: Dictionary) -> None:
    with database.connect(api.settings.database_url) as connection:
        say(connection, neurons, 5, "harbours")
    page = api.client.search("harbours")
    assert indices(page) == [5]
    assert page.note == f"no label is embedded by all-MiniLM-L6-v2 with {DIMENSIONS} dimensions yet"


ODD = [
    ({"q": "a\0b"}, "holds the control character U+0000"),
    ({"q": "x" * 10_000}, "at most 500 characters"),
    ({"q": "   "}, "is blank"),
    ({"q": ""}, "at least 1 character"),
    ({"q": "x", "mode": "magic"}, "query.mode"),
    ({"q": "x", "limit": "101"}, "less than or equal to 100"),
    ({"q": "x", "min_inputlift": "0"}, "Extra inputs are not permitted"),
    ({"q": "x", "cursor": "xyz"}, "is not a cursor"),
    ({}, "query.q: Field required"),
]


def test_wrong_questions_are_refused_with_what_is_wrong(api: Api, known: Dictionary) -> None:
    for parameters, message in ODD:
        assert message in api.problem(api.http.get("/v1/search", params=parameters), 422, "InvalidInput")


def test_odd_text_is_searched_for_as_it_is(api: Api, known: Dictionary) -> None:
    assert indices(api.client.search("נהר", mode="words")) == [4]
    for q in (
        "🌊",
        "\u202e\u202dנהר",
        "'; DROP TABLE feature; --",
        "a & | ! ( ) : * <-> '\\",
        "%_%",
        '"' * 400,
        "-" * 400,
    ):
        assert api.http.get("/v1/search", params={"q": q}).status_code == 200
    assert indices(api.client.search("river -boats", mode="words")) == [1]


def test_a_cursor_is_good_for_its_own_question_only(api: Api, known: Dictionary) -> None:
    cursor = api.client.search("river boats", limit=1).next_cursor
    assert cursor is not None
    for other in ({"q": "river"}, {"q": "river boats", "mode": "words"}, {"q": "river boats", "status": "ok"}):
        response = api.http.get("/v1/search", params={**other, "cursor": cursor})
        assert "belongs to another query" in api.problem(response, 422, "InvalidInput")
    response = api.http.get("/v1/search/tokens", params={"token": " river", "cursor": cursor})
    assert "belongs to another query" in api.problem(response, 422, "InvalidInput")


def test_features_are_found_by_token(api: Api, known: Dictionary) -> None:
    hits = list(api.client.search_tokens(" river", limit=1))
    assert [hit.feature.index for hit in hits] == [0, 1, 2, 3]
    assert {rank.source for hit in hits for rank in hit.ranks} == {"vocabulary"}
    assert hits[0].feature.label == "boats on rivers"
    fires = list(api.client.search_tokens(" boat", "fires"))
    assert [(hit.feature.index, hit.ranks[0].rank) for hit in fires] == [(0, 1), (1, 2), (2, 2), (3, 2)]
    assert list(api.client.search_tokens(" river", "suppressed")) == []
    answer = api.http.get("/v1/search/tokens", params={"token": "RIVER", "side": "fires"}).json()
    assert (answer["items"], answer["near"]) == ([], [" river"])
    for token in ("\0", "🌊", "\n", " "):
        assert api.http.get("/v1/search/tokens", params={"token": token}).status_code == 200
    with pytest.raises(NotFound):
        list(api.client.search_tokens(" river", dictionary_id=uuid.uuid4()))
    with pytest.raises(InvalidInput, match="at most 200"):
        list(api.client.search_tokens("x" * 201))


def test_ranks_are_fused_by_their_reciprocals() -> None:
    a, b, c = (Key(uuid.UUID(int=number), number) for number in range(3))
    fused = fuse([[("word", a), ("similar_word", b)], [("meaning", b), ("meaning", c)]])
    assert [one.key for one in fused] == [b, a, c]
    assert fused[0].why == ("similar_word", "meaning")
    assert fused[0].score == pytest.approx(1 / 62 + 1 / 61)


# ------------------------------------------------------------------------------------------------------- command line


@pytest.fixture
def glossarium(monkeypatch: pytest.MonkeyPatch, api: Api) -> Callable[..., Result]:
    """Return a caller of the command whose API is the test's."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("GLOSSARIUM_API_URL", api.url)
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_command_shows_hits_and_why(
    glossarium: Callable[..., Result], known: Dictionary, server: LLMServer
) -> None:
    result = glossarium("search", "boats on rivers", "--dictionary", "tiny", "--limit", 2)
    assert result.exit_code == 0, result.output
    assert "boats on rivers" in result.stdout
    assert "meaning" in result.stdout
    assert "1.00" in result.stdout
    page = SearchPage.model_validate_json(glossarium("search", "rivers", "--mode", "words", "--json").stdout)
    assert sorted(indices(page)) == [0, 1]
    server.mode = "error"
    assert "note: searched by words only" in glossarium("search", "something new").stderr


def test_the_command_finds_features_by_token(glossarium: Callable[..., Result], known: Dictionary) -> None:
    result = glossarium("search", "--token", " river", "--promotes")
    assert result.exit_code == 0, result.output
    assert "vocabulary 1" in result.stdout
    assert "fish and boats" in result.stdout
    assert glossarium("search", "--token", " river", "--suppresses", "--json").stdout.strip() == "[]"
    for wrong in (
        ("search",),
        ("search", "x", "--token", "y"),
        ("search", "x", "--fires"),
        ("search", "--token", "y", "--fires", "--promotes"),
        ("search", "--token", "y", "--status", "ok"),
        ("search", "x", "--mode", "magic"),
    ):
        assert glossarium(*wrong).exit_code == 2
