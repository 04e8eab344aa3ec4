"""Embeddings: the client against a server that may misbehave, and the embedded server with its real model."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import numpy as np
import openai
import pytest
from pydantic import SecretStr

from schema.errors import StackError, Unavailable
from schema.settings import Settings
from tests.llm_server import DIMENSIONS, LLMServer, Mode
from workers import embeddings, endpoint
from workers.embeddings import Vectors, embed, find_model


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "BACKOFF_S", 0.001)


@pytest.fixture
def server() -> Iterator[LLMServer]:
    with LLMServer() as running:
        yield running


def settings_of(base_url: str) -> Settings:
    return Settings(embeddings_base_url=base_url, embeddings_api_key=SecretStr("none"), llm_timeout_s=60)


def test_embeddings_come_back_as_unit_rows_in_the_order_of_the_texts(server: LLMServer) -> None:
    vectors = embed(["red apple", "green pear", "red apple"], settings_of(server.base_url))
    assert vectors.shape == (3, DIMENSIONS)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert np.array_equal(vectors[0], vectors[2])
    assert vectors[0] @ vectors[1] < 0.9


def test_equal_texts_are_asked_for_once_and_many_in_batches(server: LLMServer) -> None:
    texts = [f"text {chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(100)] * 2
    vectors = embed(texts, settings_of(server.base_url))
    assert [len(request.body["input"]) for request in server.requests] == [64, 36]
    assert np.array_equal(vectors[:100], vectors[100:])


def test_a_cache_is_read_and_filled(server: LLMServer) -> None:
    cache: dict[str, Vectors] = {}
    first = embed(["one", "two"], settings_of(server.base_url), cache)
    second = embed(["two", "three"], settings_of(server.base_url), cache)
    assert [request.body["input"] for request in server.requests] == [["one", "two"], ["three"]]
    assert np.array_equal(first[1], second[0])
    assert len(cache) == 3


def test_another_models_cache_entries_are_not_used(server: LLMServer) -> None:
    cache: dict[str, Vectors] = {}
    settings = settings_of(server.base_url)
    embed(["one"], settings, cache)
    embed(["one"], settings.model_copy(update={"embeddings_model": "other"}), cache)
    assert len(server.requests) == 2


def test_no_texts_need_no_request(server: LLMServer) -> None:
    assert embed([], settings_of(server.base_url)).shape == (0, 0)
    assert not server.requests


def test_an_empty_text_is_embedded_as_a_blank_one(server: LLMServer) -> None:
    vectors = embed(["", "word"], settings_of(server.base_url))
    assert server.requests[0].body["input"] == [" ", "word"]
    assert not vectors[0].any()


@pytest.mark.parametrize("mode", ["down", "error", "html", "unauthorized", "no_credit"])
def test_an_endpoint_that_fails_is_unavailable(server: LLMServer, mode: Mode) -> None:
    server.mode = mode
    with pytest.raises(Unavailable, match="127"):
        embed(["one"], settings_of(server.base_url))


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"data": []},
        {"data": [{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": [1.0]}]},
        {"data": [{"index": 0, "embedding": [1.0, float("nan")]}]},
        {"data": [{"index": 0, "embedding": "not base64!"}]},
        {"data": [{"index": 0, "embedding": "AAA="}]},
        {"data": [{"index": 0, "embedding": [[1.0]]}]},
        {"data": [{"index": 0}]},
        {"data": "x"},
    ],
)
def test_an_answer_of_another_form_is_unavailable(body: dict[str, Any]) -> None:
    with pytest.raises(Unavailable, match="http://e/v1 answered"):
        embeddings._read(body, 1, "http://e/v1")


def test_lists_are_read_from_endpoints_that_ignore_base64() -> None:
    body = {"data": [{"index": 1, "embedding": [0, 2]}, {"index": 0, "embedding": [3, 4]}]}
    assert embeddings._read(body, 2, "http://e/v1").tolist() == [[3, 4], [0, 2]]


def test_a_missing_model_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embeddings.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(StackError, match="EMBEDDINGS_BASE_URL"):
        find_model()


@pytest.fixture(scope="module")
def embedded() -> Iterator[str]:
    """Yield the base URL of the embedded server, as the stack starts it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen([sys.executable, "-m", "workers.embeddings", "--port", str(port)], env=os.environ.copy())
    try:
        for _ in range(600):
            assert server.poll() is None
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).close()
                break
            except OSError:
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1"
        endpoint.close_clients()
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(20) in (0, -signal.SIGTERM)


def test_the_embedded_model_tells_meanings_apart(embedded: str) -> None:
    texts = ["names of European cities", "Paris and Vienna are lovely.", "The soup needs more salt.", "recipes"]
    cosines = embed(texts, settings_of(embedded)) @ embed(texts, settings_of(embedded)).T
    assert cosines.shape == (4, 4)
    assert np.allclose(np.diag(cosines), 1, atol=1e-5)
    assert cosines[0, 1] > cosines[0, 2] + 0.1
    assert cosines[3, 2] > cosines[3, 1]


def test_the_embedded_server_answers_floats_and_base64_alike(embedded: str) -> None:
    with openai.OpenAI(base_url=embedded, api_key="none", max_retries=0) as client:
        floats = client.embeddings.create(model="m", input="one", encoding_format="float").data[0].embedding
        packed = client.embeddings.create(model="m", input=["one"], encoding_format="base64").data[0].embedding
    assert np.allclose(floats, embeddings._decoded(packed), atol=1e-6)
    assert len(floats) == 384


def test_the_embedded_server_refuses_an_empty_list(embedded: str) -> None:
    with (
        openai.OpenAI(base_url=embedded, api_key="none", max_retries=0) as client,
        pytest.raises(openai.BadRequestError, match=r"0 texts; must be 1\.\.2048"),
    ):
        client.embeddings.create(model="m", input=[])
