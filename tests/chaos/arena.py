"""Where faults are injected: the embedded stack on servers that can be hurt, a tiny subject, a short memory for leases.

Workers are the stack's own processes, started and restarted by its supervisor; the LLM is the suite's fake.
"""

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import psutil
import psycopg
import torch
from safetensors.torch import load_file, save_file

from schema.profiles import Prices
from schema.records import Dictionary, DictionarySpec, Run, RunSpec
from service.client import Client
from service.folder import DataFolder
from service.stack import Stack
from tests.chaos.servers import Postgres, Valkey, Wire
from tests.llm_server import LLMServer
from tests.tiny import make_subject, planted_dictionary, tiny_corpus

LEASE_S, HEARTBEAT_S, SWEEP_S = 6.0, 1.0, 2.0
CALL_TIMEOUT_S, LEASE_MARGIN_S = 5.0, 3.0
IN_FLIGHT = 8  # calls of the llm worker at once
SMALL = {
    "k_exemplars": 4,
    "k_tokens": 8,
    "pool_size": 8,
    "kl_targets": (0.5,),
    "token_change_contexts": 2,
    "token_change_length": 8,
    "n_steered_prompts": 1,
    "n_steered_tokens": 4,
    "judge_trials": 1,
    "judged": "label",
    "embedding_pairs": 4,
    "n_sentences": 2,
    "context_length": 32,
    "exemplars_in_prompt": 4,
}
Worker = str  # subject | llm | control
PRICES = Prices(prompt=30.0, completion=120.0)  # dollars a million tokens
PAID = "paid"
"""An LLM profile with prices: the same server, as many calls at once."""


class Servers(NamedTuple):
    """What can be hurt."""

    postgres: Postgres
    valkey: Valkey
    wire: Wire
    llm: LLMServer
    embeddings: LLMServer


class Recovery(NamedTuple):
    """How work went on. added_s: what the fault cost it; where a lease had to end, beyond that."""

    seconds: float
    added_s: float


class Lost(NamedTuple):
    """A job in the hands of a worker that was killed or stopped."""

    id: int
    fence: int
    lease_until: datetime


_LONGEST_REST = """
SELECT coalesce(extract(epoch FROM max(rest)), 0)::float8
FROM (
    SELECT moment - lag(moment) OVER (ORDER BY moment) AS rest
    FROM (
        SELECT %s AS moment
        UNION ALL
        SELECT moment FROM job, LATERAL (VALUES (started_at), (finished_at)) AS of_job (moment)
        WHERE run_id = %s AND moment > %s
    ) AS seen
    WHERE moment <= coalesce((SELECT min(started_at) FROM job WHERE run_id = %s AND started_at > %s), 'infinity')
) AS rests
"""


class Arena:
    """A running stack, and the means to hurt it."""

    def __init__(self, folder: Path, servers: Servers) -> None:
        self.folder = folder
        self.postgres, self.valkey, self.wire, self.llm, embeddings = servers
        redis_url = self.valkey.url.replace(f":{self.valkey.port}/", f":{self.wire.port}/")
        self.environment = {
            **os.environ,
            "DATABASE_URL": self.postgres.url,
            "REDIS_URL": redis_url,
            "LLM_BASE_URL": self.llm.base_url,
            "EMBEDDINGS_BASE_URL": embeddings.base_url,
            "GLOSSARIUM_DATA_DIR": str(folder / "data"),
            "GLOSSARIUM_SECRET": "of the arena",
            "GLOSSARIUM_LLM_CONCURRENCY": str(IN_FLIGHT),
            "GLOSSARIUM_LLM_PROFILES": str(self._write_profiles()),
            "GLOSSARIUM_LEASE_S": str(LEASE_S),
            "GLOSSARIUM_HEARTBEAT_S": str(HEARTBEAT_S),
            "GLOSSARIUM_SWEEP_S": str(SWEEP_S),
            "GLOSSARIUM_LEASE_MARGIN_S": str(LEASE_MARGIN_S),
            "GLOSSARIUM_LLM_TIMEOUT_S": str(CALL_TIMEOUT_S),
            "GLOSSARIUM_SUBJECTS_ALLOWED": json.dumps([str(folder / "subject")]),
            "GLOSSARIUM_DTYPE": "float32",
            "GLOSSARIUM_DEVICE": "cpu",
        }
        self.stack = Stack(folder / "data", environment=self.environment)

    def _write_profiles(self) -> Path:
        path = self.folder / "profiles.toml"
        path.write_text(
            f'[profiles.{PAID}]\nbase_url = "{self.llm.base_url}"\nmodel = "m"\ntimeout_s = {CALL_TIMEOUT_S}\n'
            f"prices = {{prompt = {PRICES.prompt}, completion = {PRICES.completion}}}\n"
            f"limits = {{in_flight = {IN_FLIGHT}}}\n"
        )
        return path

    # ------------------------------------------------------------------------------------------------------------ work

    @property
    def client(self) -> Client:
        """Return a client of the API."""
        return Client(self.stack.api_url, key=self.stack.key)

    def submit(self, dictionary: Dictionary, corpus: UUID, **changes: Any) -> Run:
        """Ask for labels of features of a dictionary, all of them unless told otherwise."""
        options = SMALL | changes.pop("options", {})
        spec = {
            "dictionary_id": dictionary.id,
            "methods": ("lexical", "max_activating"),
            "evaluations": ("input", "output", "output_llm"),
            "corpus": str(corpus),
            "options": options,
            **changes,
        }
        with self.client as client:
            return client.submit_run(RunSpec.model_validate(spec))

    def run(self, run_id: UUID) -> Run:
        """Return how a run stands."""
        with self.client as client:
            return client.run(run_id)

    def wait(self, run_id: UUID, timeout_s: float = 600.0) -> Run:
        """Return a run that has ended."""
        return self.until(lambda: (run := self.run(run_id)).state in ("done", "failed", "cancelled") and run, timeout_s)

    @staticmethod
    def until(condition: Callable[[], Any], timeout_s: float = 300.0, every_s: float = 0.2) -> Any:
        """Return what a condition gives once it holds."""
        deadline = time.monotonic() + timeout_s
        while True:
            with contextlib.suppress(psycopg.OperationalError):
                if found := condition():
                    return found
            assert time.monotonic() < deadline, f"it did not come about within {timeout_s:g} s"
            time.sleep(every_s)

    def query(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Return what a query finds."""
        with psycopg.connect(self.postgres.url, autocommit=True, connect_timeout=5) as connection:
            return connection.execute(sql.encode(), values).fetchall()

    def done(self, run_id: UUID) -> int:
        """Return how many jobs of a run are done."""
        return int(self.query("SELECT count(*) FROM job WHERE run_id = %s AND state = 'done'", run_id)[0][0])

    def until_work_goes_on(self, run_id: UUID, timeout_s: float = 300.0) -> Recovery:
        """Wait until a job of a run that is begun from now on is done (or all are).

        added_s:  the longest time until the first is begun in which no job was begun or done.
        """
        started = time.monotonic()
        (now,) = self.until(lambda: self.query("SELECT clock_timestamp()"), timeout_s, 0.05)[0]
        done = "SELECT 1 FROM job WHERE run_id = %s AND state = 'done' AND started_at > %s LIMIT 1"
        ended = "SELECT 1 FROM run WHERE id = %s AND state IN ('done', 'failed', 'cancelled')"
        self.until(lambda: self.query(done, run_id, now) or self.query(ended, run_id), timeout_s, 0.05)
        seconds = time.monotonic() - started
        return Recovery(seconds, self.query(_LONGEST_REST, now, run_id, now, run_id, now)[0][0])

    def lost_by(self, pid: int) -> list[Lost]:
        """Return what a worker that moves no more has in hand; what has longest to wait comes first."""
        held = "SELECT id, fence, lease_until FROM job WHERE state = 'leased' AND owner LIKE %s ORDER BY 3 DESC"
        return [Lost(*row) for row in self.query(held, f"%:{pid}")]

    def until_taken_over(self, lost: Lost, timeout_s: float = 300.0) -> Recovery:
        """Wait until another worker has done a lost job (or its parts have taken its place).

        added_s:  from the end of its lease until it was begun again.
        """
        started = time.monotonic()
        late = """SELECT extract(epoch FROM clock_timestamp() - %s)::float8
            WHERE NOT EXISTS (SELECT FROM job WHERE id = %s AND fence = %s)"""
        done = "SELECT 1 WHERE NOT EXISTS (SELECT FROM job WHERE id = %s AND state <> 'done')"
        ((added_s,),) = self.until(lambda: self.query(late, lost.lease_until, lost.id, lost.fence), timeout_s, 0.05)
        self.until(lambda: self.query(done, lost.id), timeout_s, 0.05)
        return Recovery(time.monotonic() - started, added_s)

    # ---------------------------------------------------------------------------------------------------------- faults

    def workers(self, queue: Worker) -> list[psutil.Process]:
        """Return the processes that carry out jobs of a queue: a spawned child where there is one, else the worker."""
        found = []
        for process in psutil.Process(self.stack.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if f"{queue}@%h" in process.cmdline():
                    spawned = [c for c in process.children() if any("spawn_main" in part for part in c.cmdline())]
                    found += spawned or ([] if queue == "subject" else [process])
        return found

    def signal(self, queue: Worker, number: int) -> int | None:
        """Send a signal to a worker of a queue and return its process id; None where none is up now."""
        for process in self.workers(queue):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)
                return process.pid
        return None

    @contextmanager
    def another(self, queue: Worker) -> Iterator[psutil.Process]:
        """Yield one more worker of a queue, which nobody restarts."""
        pool = ["--pool", "prefork" if queue == "subject" else "threads", "-c", "1"]
        with self._celery("worker", "-Q", queue, "-n", f"{queue}@another", *pool) as worker:
            yield worker

    @contextmanager
    def another_beat(self) -> Iterator[psutil.Process]:
        """Yield one more beat, which nobody restarts."""
        schedule = self.folder / f"another-beat-{time.monotonic_ns()}"
        with self._celery("beat", "-s", str(schedule), "--pidfile=") as beat:
            yield beat

    @contextmanager
    def _celery(self, command: str, *arguments: str) -> Iterator[psutil.Process]:
        """Yield a process of Celery in the environment of the stack, but none of its; it ends without warning."""
        argv = [sys.executable, "-m", "celery", "-A", "workers.app", command, *arguments, "--loglevel", "WARNING"]
        with (self.folder / f"another-{command}.log").open("ab") as log:
            process = subprocess.Popen(
                argv, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        try:
            yield psutil.Process(process.pid)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def kill_beat(self) -> bool:
        """Kill the stack's beat without warning; return whether there was one."""
        for process in psutil.Process(self.stack.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if "beat" in process.cmdline():
                    process.kill()
                    return True
        return False

    def kill(self, queue: Worker) -> bool:
        """Kill a worker of a queue without warning; return whether there was one."""
        return self.signal(queue, signal.SIGKILL) is not None


class Watch:
    """A thread that does something again and again, as long as the `with` block lasts."""

    def __init__(self, look: Callable[[], None], every_s: float) -> None:
        self._look, self._every_s = look, every_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(self._every_s):
            with contextlib.suppress(psycopg.OperationalError):
                self._look()


@contextmanager
def open_arena(folder: Path) -> Iterator[Arena]:
    """Yield an arena with everything up. The folder must be passable for the user that Postgres runs as."""
    make_subject(folder / "subject")
    with ExitStack() as parts:
        postgres, valkey = Postgres(DataFolder(folder / "servers")), Valkey(DataFolder(folder / "servers"))
        parts.callback(postgres.stop, signal.SIGINT)
        parts.callback(valkey.stop, signal.SIGTERM)
        postgres.start()
        valkey.start()
        wire = Wire(valkey.port)
        parts.callback(wire.close)
        llm, embeddings = (parts.enter_context(LLMServer()) for _ in range(2))
        arena = Arena(folder, Servers(postgres, valkey, wire, llm, embeddings))
        parts.enter_context(arena.stack)
        yield arena


_numbers = itertools.count()


def furnish(arena: Arena, n_features: int, n_documents: int = 60) -> tuple[Dictionary, UUID]:
    """Store a dictionary of so many features and a corpus, over the API. What is known of earlier ones is of no use."""
    number = next(_numbers)
    folder = arena.folder / f"dictionary-{n_features}-{time.monotonic_ns()}"
    planted = planted_dictionary(folder, arena.folder / "subject", str(arena.folder / "subject"))
    weights = _widened(planted.weights, n_features, number)
    corpus = folder / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in tiny_corpus(n_documents, number)))
    spec = DictionarySpec.model_validate(planted.spec.model_dump() | {"n_features": n_features, "name": folder.name})
    with arena.client as client:
        dictionary = client.submit_dictionary(spec)
        return client.upload_weights(dictionary.id, weights), client.upload_corpus(corpus).id


def _widened(weights: Path, n_features: int, seed: int) -> Path:
    """Repeat the planted features, each time a little turned, until there are n."""
    tensors, draw = load_file(weights), torch.Generator().manual_seed(seed)
    rows = torch.arange(n_features) % len(tensors["w_dec"])
    wide = {}
    for name, tensor in tensors.items():
        noise = 0.02 * tensor.std() if tensor.ndim == 2 else 0.0
        wide[name] = tensor[rows] + noise * torch.randn(tensor[rows].shape, generator=draw)
    path = weights.with_name("wide.safetensors")
    save_file(wide, path)
    return path
