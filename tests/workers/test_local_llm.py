"""The local LLM server: the real model, in a process of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader, quants

from tests.conftest import free_port
from workers.local_llm import find_model, requantise


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the model in the form that is read faster."""
    made = tmp_path_factory.mktemp("llm")
    requantise(find_model(), made)
    return made


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Yield the URL of a running server, and its process."""
    port = free_port()
    argv = [sys.executable, "-m", "workers.local_llm", "--port", str(port), "--slots", "2", "--folder", str(folder)]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait(url, process)
        yield url, process
    finally:
        process.kill()
        process.wait()


def test_the_weights_are_kept_to_a_fraction_of_their_grid(folder: Path) -> None:
    (made,) = folder.glob("*.gguf")
    pairs = zip(GGUFReader(find_model()).tensors, GGUFReader(made).tensors, strict=True)
    seen = 0
    for before, after in pairs:
        assert before.name == after.name
        if "blk.7." in before.name and len(before.shape) == 2:
            assert after.tensor_type == GGMLQuantizationType.Q8_0
            was, now = (quants.dequantize(one.data, one.tensor_type).reshape(-1, 32) for one in (before, after))
            largest = np.abs(was).max(axis=1, keepdims=True)
            assert (np.abs(was - now) <= largest / 254 + 1e-3 * largest).all()
            seen += 1
    assert seen == 7


def test_it_is_made_once(folder: Path) -> None:
    (made,) = folder.iterdir()
    before = made.stat().st_mtime_ns
    assert requantise(find_model(), folder) == made
    assert made.stat().st_mtime_ns == before


def test_a_chat_is_answered_in_the_asked_form(server: tuple[str, subprocess.Popen[bytes]]) -> None:
    url, _ = server
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 30}},
        "required": ["city"],
        "additionalProperties": False,
    }
    body = {
        "model": "smollm2-135m-instruct",
        "messages": [{"role": "user", "content": "Name the capital of France as JSON."}],
        "temperature": 0,
        "max_tokens": 30,
        "response_format": {"type": "json_schema", "json_schema": {"name": "city", "schema": schema}},
    }
    reply = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=120).json()
    assert list(json.loads(reply["choices"][0]["message"]["content"])) == ["city"]
    assert reply["usage"]["completion_tokens"] > 0
    assert httpx.get(f"{url}/v1/models").json()["data"][0]["id"] == "smollm2-135m-instruct"


def test_sigterm_ends_it(server: tuple[str, subprocess.Popen[bytes]]) -> None:
    _, process = server
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(15) == 0


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None
        try:
            if httpx.get(f"{url}/health").is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError("the server did not come up")
