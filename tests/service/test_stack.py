"""The embedded stack as a user has it: real servers, real workers; only the LLM is the suite's fake."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import psutil
import pytest

from schema.errors import StackError
from schema.records import DictionarySpec, Encoder
from schema.stages import Stage
from schema.subjects import BUNDLED
from service.client import Client
from service.folder import DataFolder
from service.servers import Ports
from service.stack import Stack
from tests.llm_server import LLMServer
from tests.tiny import make_subject, planted_dictionary, tiny_corpus

NEURONS = DictionarySpec(
    name="neurons", subject=BUNDLED, read_site="mlp_hidden.3", encoder=Encoder(kind="neurons"), n_features=1536
)
GONE_WITHIN_S = 30


@pytest.fixture(scope="module")
def llm() -> Iterator[LLMServer]:
    """Yield the fake LLM, which also embeds."""
    with LLMServer() as server:
        yield server


@pytest.fixture
def environment(llm: LLMServer) -> dict[str, str]:
    """Return an environment in which the LLM is the fake: the stack then starts none, which saves seconds."""
    return {**os.environ, "LLM_BASE_URL": llm.base_url, "EMBEDDINGS_BASE_URL": llm.base_url}


def processes_of(stack: Stack) -> list[psutil.Process]:
    return [psutil.Process(stack.pid), *psutil.Process(stack.pid).children(recursive=True)]


def assert_gone(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=GONE_WITHIN_S)
    assert not alive


def wait_for(condition: Callable[[], object], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.1)


def glossarium(environment: Mapping[str, str], *arguments: object) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "service.cli", *map(str, arguments)]
    return subprocess.run(argv, env=dict(environment), capture_output=True, text=True, timeout=240, check=False)


def told(environment: Mapping[str, str], *arguments: object) -> Any:
    done = glossarium(environment, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.timeout(300)
def test_a_stack_comes_up_alone_on_its_folder_ends_cleanly_and_finds_its_data_again(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    data = tmp_path / "data"
    with Stack(data, environment=environment) as stack:
        processes = processes_of(stack)
        key = stack.key
        assert (data / "key").stat().st_mode & 0o777 == 0o600
        assert httpx.get(f"{stack.api_url}/v1/runs").status_code == 401
        assert told(environment, "keys", "list", "--data", data)[0]["scope"] == "admin"  # which finds it by itself
        with Client(stack.api_url, key=key) as client:
            made = client.submit_dictionary(NEURONS)
        refused = glossarium(environment, "up", "--data", data)
        assert refused.returncode == 1
        assert f"error: a stack with process id {stack.pid} is running on {data}" in refused.stderr
        assert httpx.get(f"{stack.api_url}/ready").is_success  # unimpressed by the second one
        os.kill(stack.pid, signal.SIGINT)
        assert_gone(processes)
    assert DataFolder(data).read_state() is None
    assert DataFolder(data).key() == key
    assert not [log for log in (data / "logs").iterdir() if key[-43:] in log.read_text(errors="replace")]

    with Stack(data, environment=environment) as stack:
        assert stack.key == key
        with Client(stack.api_url, key=key) as client:
            assert client.dictionary(made.id) == made
        processes = processes_of(stack)
        os.kill(stack.pid, signal.SIGKILL)
        assert_gone(processes)

    with Stack(data, environment=environment) as stack:  # Postgres recovers what was cut off
        with Client(stack.api_url, key=stack.key) as client:
            assert client.dictionary(made.id) == made
        _kill(stack, "worker-llm")
        wait_for(lambda: "worker-llm ended with -9" in (data / "logs" / "stack.log").read_text())
        processes = processes_of(stack)
        _kill(stack, "postgres")
        assert_gone(processes)  # nothing goes on without the truth
    assert "postgres ended with" in (data / "logs" / "stack.log").read_text()


@pytest.mark.timeout(300)
def test_given_servers_replace_embedded_ones_and_only_they_are_asked(
    tmp_path: Path, environment: dict[str, str], database_url: str, redis_url: str
) -> None:
    given = {**environment, "DATABASE_URL": database_url, "REDIS_URL": redis_url}
    port = _free_port()
    with Stack(tmp_path / "data", Ports(api=port), environment=given) as stack:
        assert stack.api_url == f"http://127.0.0.1:{port}"
        assert (stack.state.database_url, stack.state.redis_url) == (database_url, redis_url)
        names = {process.name() for process in processes_of(stack)}
        assert not names & {"postgres", "valkey-server"}
        assert httpx.get(f"{stack.api_url}/ready").json()["redis"]["ok"]
    assert not (tmp_path / "data" / "postgres").exists()


def test_a_busy_port_is_refused_before_anything_starts(tmp_path: Path, environment: dict[str, str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StackError, match=f"port {port} for api is not to be had"):
            Stack(tmp_path / "data", Ports(api=port), environment=environment).start()
        refused = glossarium(environment, "up", "--data", tmp_path / "data", "--api-port", port)
    assert refused.returncode == 1
    assert f"error: port {port} for api" in refused.stderr
    assert not (tmp_path / "data" / "postgres").exists()


@pytest.mark.timeout(600)
def test_a_user_goes_from_up_to_labels_and_finds_them_after_a_restart(
    tmp_path: Path, environment: dict[str, str], llm: LLMServer
) -> None:
    """up, submit, run on a corpus of one's own, down and up again in every stage, show, down, up, show."""
    subject = make_subject(tmp_path / "subject")
    planted_dictionary(tmp_path / "planted", subject)
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in tiny_corpus(60)))
    user = {
        **environment,
        "GLOSSARIUM_SUBJECTS_ALLOWED": json.dumps([str(subject)]),
        "GLOSSARIUM_DATA_DIR": str(tmp_path / "data"),
    }
    with Stack(tmp_path / "data", environment=user) as stack:
        dictionary = told(user, "submit", "neurons", "--layer", "2", "--subject", subject, "--name", "mine")
        sizes = ("pool_size=4", "n_steered_tokens=6", "n_steered_prompts=1", "embedding_pairs=4", "context_length=32")
        options = ["--features", "3-5", "--preset", "small", "--corpus", corpus]
        options += [part for size in sizes for part in ("-o", size)]
        begun = told(user, "run", "mine", *options, "--no-wait")
        _interrupt_in(stack, begun["id"], Stage.INGEST)
    for stage in list(Stage)[1:]:
        with Stack(tmp_path / "data", environment=user) as stack:
            _interrupt_in(stack, begun["id"], stage)
    with Stack(tmp_path / "data", environment=user):
        run = told(user, "status", begun["id"][:8])
        while run["state"] not in ("done", "failed"):
            time.sleep(0.5)
            run = told(user, "status", begun["id"])
        assert run["state"] == "done", run
        assert {stage["stage"] for stage in run["stages"]} >= {"exemplars", "describe", "publish"}
        assert all(stage["units_done"] == stage["units"] for stage in run["stages"])
        before = told(user, "show", dictionary["id"], 4)
        assert before["label"] is not None
        assert before["exemplars"]["n_tokens"] > 0
        assert {description["method"] for description in before["descriptions"]} == {
            "lexical", "max_activating", "vocabulary", "combined",
        }  # fmt: skip
        shown = glossarium(user, "show", "mine", 4)
        assert shown.returncode == 0, shown.stderr
        assert "strongest contexts" in shown.stdout
    with Stack(tmp_path / "data", environment=user):
        assert told(user, "show", dictionary["id"], 4) == before
        n_calls = len(llm.chats)
        again = told(user, "run", "mine", *options)
        assert again["state"] == "done"
        assert len(llm.chats) == n_calls  # unchanged recipes: no work


def _interrupt_in(stack: Stack, run_id: str, stage: Stage) -> None:
    """Ctrl-C as soon as a stage has begun (the short ones may be over by then), and see that nothing stays behind."""

    def begun() -> bool:
        return any(one.stage == stage and one.first_started_at for one in client.run(UUID(run_id)).stages)

    processes = processes_of(stack)
    with Client(stack.api_url, key=stack.key) as client:
        wait_for(begun)
    os.kill(stack.pid, signal.SIGINT)
    assert_gone(processes)


def _kill(stack: Stack, name: str) -> None:
    """Kill a process of the stack, found by its command line."""
    mark = {"worker-llm": "llm@%h", "postgres": "pginstall/bin/postgres"}[name]
    (process,) = [found for found in processes_of(stack) if any(mark in part for part in found.cmdline())]
    process.kill()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
