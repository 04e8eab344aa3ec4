"""Replies that repeat an example of their prompt: whoever gives one, it says nothing of the feature."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from prompts.composing import copies_example
from prompts.loader import load_prompt
from schema.labels import Status
from tests.llm_server import LLMServer
from tests.workers.house import SMALL, House, open_house

OPTIONS = SMALL.model_copy(update={"pool_size": 4, "n_sentences": 3})
REASON = "copies an example of the prompt"


@pytest.fixture
def server() -> Iterator[LLMServer]:
    with LLMServer() as running:
        yield running


@pytest.fixture
def house(tmp_path: Path, database_url: str, server: LLMServer) -> Iterator[House]:
    with open_house(tmp_path, database_url, server.base_url) as opened:
        yield opened


def parrot(server: LLMServer, told: str) -> None:
    """Have requests that hold some words answered with the prompt's own example."""
    server.mode = "parrot"
    server.misbehave = lambda number: any(
        told in message["content"] for message in server.requests[number].body.get("messages", ())
    )


def test_sentences_of_the_example_are_not_scored(house: House, server: LLMServer) -> None:
    parrot(server, "Write short sentences")
    run_id = house.submit(features="0-1", methods=("max_activating",), options=OPTIONS)
    house.work()
    assert house.run(run_id).state == "done"
    written = house.query("SELECT DISTINCT body->>'status', body->>'reason', body->'activating' FROM sentences")
    assert written == [(Status.UNPARSED, REASON, [])]
    scored = [score for score in house.scores(0) if score.kind == "input"]
    assert all(score.estimate is None for score in scored)


def test_a_revision_that_is_the_example_is_not_kept(house: House, server: LLMServer) -> None:
    parrot(server, "That was tested")
    house.submit(features="0-3", methods=("vocabulary", "refined"), options=OPTIONS)
    house.work()
    assert any("That was tested" in chat.body["messages"][-1]["content"] for chat in server.chats)
    assert all("refined" not in house.descriptions(feature) for feature in range(4))


def test_a_sentence_is_a_copy_and_a_short_word_is_not() -> None:
    examples = load_prompt("write/sentences.v2").examples
    assert copies_example(["I say: we took the night train to Vienna."], examples)
    assert not copies_example(["We took the train.", "Vienna"], examples)
    similar = load_prompt("write/similar.v1").examples
    assert copies_example(["A new one.", "The museums of Prague close at six."], similar)
