"""docker-compose.yml: valid by the specification, confined, and its commands work as processes in the same order.

compose-spec.json is the JSON schema of the Compose Specification (compose-spec/compose-spec, schema/compose-spec.json,
Apache-2.0: LICENSE.compose-spec), as it was in October 2026.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
import yaml

from schema.records import DictionarySpec, Encoder, RunSpec
from schema.settings import load_settings
from service.client import Client
from tests.compose.reading import CHOSEN, ROOT, NotGiven, in_order, read
from tests.conftest import free_port
from tests.llm_server import LLMServer
from tests.service.conftest import make_key
from tests.tiny import D_MLP, make_subject

SCHEMA = json.loads((Path(__file__).parent / "compose-spec.json").read_text())
SERVICES: dict[str, Any] = read()["services"]
OURS = [name for name, service in SERVICES.items() if "build" in service]
ONCE = ("migrate",)


def test_the_file_is_valid_before_and_after_variables_are_put_in() -> None:
    validator = jsonschema.Draft202012Validator(SCHEMA)
    for document in (yaml.safe_load((ROOT / "docker-compose.yml").read_text()), read()):
        assert [error.message for error in validator.iter_errors(document)] == []
    broken = read()
    broken["services"]["api"]["cap_drop"] = "ALL"
    broken["services"]["api"]["no_such_key"] = 1
    assert not validator.is_valid(broken)


def test_what_must_be_chosen_has_no_default() -> None:
    for name in CHOSEN:
        with pytest.raises(NotGiven, match=name):
            read({key: value for key, value in CHOSEN.items() if key != name})


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_confined_watched_and_limited(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["user"] not in ("root", "0", "0:0")
    assert "privileged" not in service
    limits = service["deploy"]["resources"]["limits"]
    assert set(limits) == {"cpus", "memory", "pids"}
    assert service["restart"] == ("no" if name in ONCE else "unless-stopped")
    assert name in ONCE or "test" in service["healthcheck"]
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
    assert name not in ("postgres", "redis") or service["networks"] == ["store"]


def test_services_wait_for_what_they_need() -> None:
    order = in_order(SERVICES)
    assert order[:3] == ["postgres", "redis", "migrate"]
    assert set(order) == set(SERVICES) - {"worker-subject-gpu"}
    for name in set(OURS) - set(ONCE):
        conditions = {other: waits["condition"] for other, waits in SERVICES[name]["depends_on"].items()}
        assert conditions == {"migrate": "service_completed_successfully", "redis": "service_healthy"}


def test_only_the_profile_gpu_asks_for_a_gpu() -> None:
    gpu = SERVICES["worker-subject-gpu"]
    assert gpu["profiles"] == ["gpu"]
    assert gpu["deploy"]["resources"]["reservations"]["devices"][0]["capabilities"] == ["gpu"]
    assert gpu["environment"]["GLOSSARIUM_DEVICE"] == "cuda"
    assert all("reservations" not in SERVICES[name]["deploy"]["resources"] for name in in_order(SERVICES))


@pytest.mark.parametrize("name", ["api", "worker"])
def test_images_run_as_nobody_special_and_install_what_is_pinned(name: str) -> None:
    text = (ROOT / "docker" / f"{name}.Dockerfile").read_text()
    assert re.findall(r"^USER (.*)$", text, re.MULTILINE) == ["10001:10001"]
    installs = re.findall(r"pip install [^\n\\]*", text)
    assert installs
    assert all("-c constraints.txt" in install for install in installs)
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", text, re.MULTILINE)
    assert all((ROOT / source).exists() for line in copied for source in line.split())
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert all(f"!{source}" in ignored for line in copied for source in line.split())
    assert ("worker" in str(installs)) == (name == "worker")
    assert {SERVICES[one]["build"]["dockerfile"] for one in OURS} == {
        "docker/api.Dockerfile",
        "docker/worker.Dockerfile",
    }


class Processes:
    """The services' commands as processes of this machine; paths, ports and servers are put in the place of theirs."""

    def __init__(self, folder: Path, given: dict[str, str], instead: dict[str, str]) -> None:
        self._folder, self._instead = folder, instead
        self._services = read({**CHOSEN, **given})["services"]
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        """Start a service; one that runs once must end well."""
        service = self._services[name]
        (self._folder / name).mkdir()
        environment = {key: self._put(name, value) for key, value in service["environment"].items()}
        program, *arguments = (self._put(name, part) for part in service["command"])
        argv = (
            [sys.executable, *arguments]
            if program == "python"
            else [sys.executable, "-m", _MODULES[program], *arguments]
        )
        with (self._folder / f"{name}.log").open("wb") as log:
            self.running[name] = subprocess.Popen(
                argv, env={**os.environ, **environment}, stdout=log, stderr=log, start_new_session=True
            )
        if name in ONCE:
            assert self.running.pop(name).wait(120) == 0, self.log(name)

    def is_healthy(self, name: str) -> bool:
        """Run a service's health check."""
        kind, *test = (self._put(name, part) for part in self._services[name]["healthcheck"]["test"])
        argv = ["sh", "-c", *test] if kind == "CMD-SHELL" else [sys.executable, *test[1:]]
        assert self.running[name].poll() is None, self.log(name)
        return subprocess.run(argv, capture_output=True, check=False, timeout=30).returncode == 0

    def log(self, name: str) -> str:
        """Return the end of what a service wrote."""
        return (self._folder / f"{name}.log").read_text(errors="replace")[-3000:]

    def stop(self) -> None:
        """End them all, the last first."""
        for process in reversed(self.running.values()):
            process.terminate()
        for process in self.running.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _put(self, name: str, text: str) -> str:
        for theirs, ours in self._instead.items():
            text = text.replace(theirs, ours)
        return re.sub(r"/tmp(?=/(alive|beat)| -max)", str(self._folder / name), text)


_MODULES = {"glossarium": "service.cli", "uvicorn": "uvicorn", "celery": "celery"}


@pytest.fixture
def processes(tmp_path: Path, database_url: str, redis_url: str) -> Iterator[tuple[Processes, str, str]]:
    subject = str(make_subject(tmp_path / "subject"))
    cache = load_settings().cache_dir
    ports = {"8000": str(free_port()), "8080": str(free_port()), "8081": str(free_port())}
    (tmp_path / "run").mkdir()
    with LLMServer() as llm:
        given = {
            "LLM_BASE_URL": llm.base_url,
            "EMBEDDINGS_BASE_URL": llm.base_url,
            "GLOSSARIUM_SUBJECTS_ALLOWED": json.dumps([subject]),
        }
        instead = {
            "postgresql://postgres:chosen@postgres:5432/glossarium": database_url,
            "redis://redis:6379/0": redis_url,
            "0.0.0.0": "127.0.0.1",
            "/data/llm": str(cache / "llm"),
            "/data/cache": str(cache),
            **ports,
        }
        held = Processes(tmp_path / "run", given, instead)
        held._instead["/data"] = str(tmp_path / "data")
        try:
            yield held, f"http://127.0.0.1:{ports['8000']}", subject
        finally:
            held.stop()


def until(condition: Callable[[], object], what: str, within_s: float = 180) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.5)


@pytest.mark.timeout(600)
def test_the_same_commands_in_the_same_order_answer_and_do_a_job(
    processes: tuple[Processes, str, str], database_url: str
) -> None:
    held, url, subject = processes
    names = [name for name in in_order(SERVICES) if name not in ("postgres", "redis")]
    for name in names:
        held.start(name)

    def is_ready() -> bool:
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{url}/ready", timeout=5).is_success
        return False

    until(is_ready, held.log("api"))
    for name in set(names) - set(ONCE):
        until(lambda name=name: held.is_healthy(name), name)  # type: ignore[misc]
    with Client(url, key=make_key(database_url)) as client:
        neurons = DictionarySpec(
            name="neurons", subject=subject, read_site="mlp_hidden.2", encoder=Encoder(kind="neurons"), n_features=D_MLP
        )
        spec = RunSpec(dictionary_id=client.submit_dictionary(neurons).id, features="3")
        run = client.submit_run(spec)
        until(lambda: client.run(run.id).stages[0].units_done > 0, held.log("worker-subject"))
        assert client.run(run.id).stages[0].stage == "ingest"
