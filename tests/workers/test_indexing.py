"""The indexer: what is queued becomes searchable, whatever the endpoint does, and nothing is lost or done twice."""

import hashlib
import uuid
from collections.abc import Iterator

import pytest
from psycopg_pool import ConnectionPool
from pydantic import SecretStr
from structlog.testing import capture_logs

from schema.evidence import Agreement, Exemplars, SplitExemplars, TokenChange, TokenList, VocabularyProjection, Window
from schema.labels import Label, Provenance, Status
from schema.records import DictionarySpec, Encoder
from schema.settings import Settings
from schema.store import database, dictionaries, evidence, indexing, labels, tokens
from schema.store.database import Connection
from tests.llm_server import DIMENSIONS, LLMServer, Mode, embedding
from workers import endpoint
from workers.indexing import Indexer, token_lists

LISTED = TokenList(ids=(1, 2), tokens=(" river", " boat"), values=(2.0, 1.0))
NONE = TokenList(ids=(), tokens=(), values=())
VOCABULARY = VocabularyProjection(promoted=LISTED, suppressed=NONE, neighbours=(), cosines=(), centred=False)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "BACKOFF_S", 0.001)


@pytest.fixture
def server() -> Iterator[LLMServer]:
    with LLMServer() as running:
        yield running


@pytest.fixture
def pool(database_url: str) -> Iterator[ConnectionPool[Connection]]:
    opened = database.open_pool(database_url, max_size=3)
    yield opened
    opened.close()


@pytest.fixture
def dictionary(pool: ConnectionPool[Connection]) -> uuid.UUID:
    """Return a stored dictionary with a label in two places, and another one."""
    spec = DictionarySpec(
        name="d", subject="s", read_site="mlp_hidden.1", n_features=9, encoder=Encoder(kind="neurons")
    )
    with database.lend(pool) as connection:
        made = dictionaries.create(connection, 1, uuid.uuid4(), spec).id
        for feature, text in ((1, "boats on rivers"), (2, "boats on rivers"), (3, "cooking fish")):
            say(connection, made, feature, text)
    return made


def say(connection: Connection, dictionary: uuid.UUID, feature: int, text: str) -> None:
    label = Label(feature=feature, text=text, status=Status.OK, method=None, description_id=None)
    labels.publish(connection, dictionary, None, label, text)


def settings_of(server: LLMServer, model: str = "m") -> Settings:
    return Settings(embeddings_base_url=server.base_url, embeddings_api_key=SecretStr("none"), embeddings_model=model)


def embedded(pool: ConnectionPool[Connection]) -> set[str]:
    """Return which of the known texts are embedded, by any model."""
    texts = ("boats on rivers", "cooking fish", "a new label")
    known = {hashlib.sha256(text.encode()).digest(): text for text in texts}
    with database.lend(pool) as connection:
        return {known[sha256] for (sha256,) in connection.execute("SELECT text_sha256 FROM embedding").fetchall()}


def finish(indexer: Indexer) -> None:
    for _ in range(20):
        if not indexer.work():
            return
    raise AssertionError("it goes on for ever")


def test_labels_are_embedded_once_a_text(
    pool: ConnectionPool[Connection], dictionary: uuid.UUID, server: LLMServer
) -> None:
    indexer = Indexer(pool, settings_of(server))
    finish(indexer)
    assert embedded(pool) == {"boats on rivers", "cooking fish"}
    asked = [text for request in server.requests for text in request.body["input"]]
    assert sorted(asked) == ["a label", "boats on rivers", "cooking fish"]
    with database.lend(pool) as connection:
        assert connection.execute("SELECT count(*) FROM search_queue").fetchone() == (0,)
        assert connection.execute("SELECT word FROM label_word ORDER BY 1").fetchall()[0] == ("boats",)
        say(connection, dictionary, 4, "cooking fish")
        say(connection, dictionary, 5, "a new label")
    finish(indexer)
    assert [request.body["input"] for request in server.requests][-1] == ["a new label"]


def test_labels_from_before_the_first_indexer_are_embedded(
    pool: ConnectionPool[Connection], dictionary: uuid.UUID, server: LLMServer
) -> None:
    with database.lend(pool) as connection:
        connection.execute("DELETE FROM search_queue")
    finish(Indexer(pool, settings_of(server)))
    assert embedded(pool) == {"boats on rivers", "cooking fish"}


def test_another_model_embeds_everything_again_and_the_old_is_forgotten(
    pool: ConnectionPool[Connection], dictionary: uuid.UUID, server: LLMServer
) -> None:
    finish(Indexer(pool, settings_of(server)))
    finish(Indexer(pool, settings_of(server, "other")))
    with database.lend(pool) as connection:
        found = connection.execute(
            "SELECT name, count(*) FROM embedding JOIN embedding_model ON id = model_id GROUP BY name"
        ).fetchall()
        model = indexing.find_model(connection, "other", DIMENSIONS)
    assert found == [("other", 2)]
    assert model is not None


def test_an_endpoint_that_is_away_keeps_labels_waiting_and_tokens_not(
    pool: ConnectionPool[Connection], dictionary: uuid.UUID, server: LLMServer
) -> None:
    with database.lend(pool) as connection:
        evidence.put(connection, dictionary, "vocabulary", Provenance(recipe="v", document={}), {3: VOCABULARY})
    server.mode = "down"
    indexer = Indexer(pool, settings_of(server))
    finish(indexer)
    assert embedded(pool) == set()
    with database.lend(pool) as connection:
        (hit,) = tokens.find(connection, [dictionary], "promoted", " boat", skip=0, most=9)
        assert connection.execute("SELECT count(*) FROM search_queue").fetchone() == (3,)
    assert (hit.key.feature, hit.ranks[0].rank) == (3, 2)
    server.mode = "ok"
    endpoint.close_clients()  # forgets that the endpoint was not well
    finish(indexer)
    assert embedded(pool) == {"boats on rivers", "cooking fish"}


def test_a_text_that_the_endpoint_refuses_keeps_no_other_waiting(
    pool: ConnectionPool[Connection], dictionary: uuid.UUID, server: LLMServer
) -> None:
    server.misbehave = lambda number: "small_context" if "fish" in str(server.requests[number].body["input"]) else False
    finish(Indexer(pool, settings_of(server)))
    assert embedded(pool) == {"boats on rivers"}


def test_one_indexer_works_at_a_time(
    pool: ConnectionPool[Connection], dictionary: uuid.UUID, server: LLMServer
) -> None:
    with database.lend(pool) as connection:
        assert indexing.try_lock(connection)
        assert not Indexer(pool, settings_of(server)).work()
    assert embedded(pool) == set()


def test_what_is_stored_is_what_the_endpoint_says(
    pool: ConnectionPool[Connection], dictionary: uuid.UUID, server: LLMServer
) -> None:
    finish(Indexer(pool, settings_of(server)))
    with database.lend(pool) as connection:
        (text,) = connection.execute(
            "SELECT CAST(vector AS text) FROM embedding WHERE text_sha256 = sha256('cooking fish')"
        ).fetchone() or ("",)
    vector = [float(value) for value in text.strip("[]").split(",")]
    assert vector == pytest.approx([value / 2**0.5 for value in embedding("cooking fish")], abs=1e-3)


def test_damaged_evidence_keeps_no_other_from_being_found(
    pool: ConnectionPool[Connection], dictionary: uuid.UUID, server: LLMServer
) -> None:
    with database.lend(pool) as connection:
        for feature in (3, 4):
            made = Provenance(recipe="v", document={})
            evidence.put(connection, dictionary, "vocabulary", made, {feature: VOCABULARY})
        connection.execute("UPDATE evidence SET payload = '\\x03ff' WHERE feature = 3")
    finish(Indexer(pool, settings_of(server)))
    with database.lend(pool) as connection:
        found = tokens.find(connection, [dictionary], "promoted", " boat", skip=0, most=9)
    assert [hit.key.feature for hit in found] == [4]


def test_what_fails_unexpectedly_keeps_no_other_step_waiting(
    pool: ConnectionPool[Connection], dictionary: uuid.UUID, server: LLMServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(connection: Connection, row: indexing.Queued) -> None:
        raise RuntimeError("odd")

    with database.lend(pool) as connection:
        evidence.put(connection, dictionary, "vocabulary", Provenance(recipe="v", document={}), {3: VOCABULARY})
    monkeypatch.setattr("workers.indexing._store_tokens", fail)
    with capture_logs() as logs:
        Indexer(pool, settings_of(server)).go_round()
    assert embedded(pool) == {"boats on rivers", "cooking fish"}
    assert {(one["step"], one["error"]) for one in logs} == {("_index_tokens", "RuntimeError('odd')")}


def test_an_endpoint_that_stays_away_is_told_once_and_again_for_another_reason(
    pool: ConnectionPool[Connection], dictionary: uuid.UUID, server: LLMServer
) -> None:
    indexer = Indexer(pool, settings_of(server))

    def reasons(mode: Mode, n: int) -> list[str]:
        server.mode = mode
        endpoint.close_clients()  # forgets that the endpoint was not well
        with capture_logs() as logs:
            for _ in range(n):
                indexer.work()
        return [one["error"] for one in logs if one["event"] == "not indexed"]

    away = reasons("down", 15)
    assert len(away) == len(set(away)) <= 3
    assert "times in a row; asked again in" in away[-1]
    assert reasons("down", 5) == []
    (other,) = reasons("unauthorized", 5)
    assert "HTTP 401" in other
    assert reasons("ok", 5) == []
    with database.lend(pool) as connection:
        say(connection, dictionary, 6, "a new label")
    assert reasons("down", 1) == away[:1]


def window(peak: str, activation: float) -> Window:
    return Window(document=0, position=1, peak=1, tokens=("a", peak), activations=(0.0, activation))


def test_a_feature_fires_on_the_tokens_at_which_its_strongest_windows_peak() -> None:
    half = SplitExemplars(
        top=(window(" sea", 3.0), window(" river", 2.0)), uniform=(), weighted=(), silent=(), hard_negatives=()
    )
    exemplars = Exemplars(
        n_tokens=9,
        n_firing=3,
        threshold=0.0,
        sum=7.0,
        max=3.0,
        histogram_edges=(1.0, 2.0),
        histogram=(3,),
        describe=half,
        score=half.model_copy(update={"top": (window(" river", 2.0), window("dead", 0.0))}),
    )
    assert token_lists({"exemplars": exemplars}).fires == [" river", " sea"]


def test_token_change_that_nobody_may_rely_on_is_left_out() -> None:
    change = TokenChange(
        amplified_raised=LISTED,
        amplified_lowered=NONE,
        suppressed_raised=NONE,
        suppressed_lowered=NONE,
        strength_amplified=1.0,
        strength_suppressed=1.0,
        n_contexts=1,
        n_positions=1,
        method="exact",
    )
    assert token_lists({"token_change": change}).raised == (" river", " boat")
    poor = change.model_copy(update={"agreement": Agreement(overlap=0.2, cosine=0.5, n_features=16)})
    assert token_lists({"token_change": poor, "vocabulary": VOCABULARY}).raised == ()
