"""`make bench-api`: how fast the API answers with a million features loaded, at 50 requests a second.

    python -m tests.benchmarks.api [--features N] [--seconds S] [--rate R] [--folder FOLDER]

On the stack's own Postgres, API and sentence model, each a process of its own, all on this machine together with
whoever asks. Requests come at fixed times, whether those before are answered or not, and each is timed from when it was
due. The figures are also in build/bench-api.json. What was loaded into a folder is used again from there.
"""

import argparse
import base64
import json
import os
import random
import statistics
import tempfile
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from signal import SIGTERM
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

import httpx
import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from schema.search import LabelFilter
from schema.store import database, indexing, search
from schema.store.database import Connection
from service import servers
from service.folder import choose_port
from service.processes import Command
from tests.benchmarks.claiming import running_postgres
from tests.benchmarks.loading import MODEL, N_TOKENS, Vectors, Words, find_words, load
from tests.benchmarks.loading_runs import Runs, stored_runs
from tests.chaos.servers import Server
from tests.service.conftest import bearer, make_key

RESULT = Path("build/bench-api.json")
MOST_MB = 200.0
LEAST_RECALL = 0.9
N_RECALLED = 20
"""Questions whose ten nearest labels are compared with those found by looking at all."""
DEPTH = 40
"""Hits that a search for a page of twenty looks for: see `service.search`."""
N_BULK = 10_000
N_CLIENTS = 24
UP_WITHIN_S = 120.0


class Kind(NamedTuple):
    """A kind of request: its share of all, and the milliseconds that 95 % of them are to take at most."""

    share: float
    most_ms: float


KINDS: dict[str, Kind] = {
    "feature": Kind(0.4, 20),
    "list, first page": Kind(0.13, 50),
    "list, page at nine tenths": Kind(0.13, 50),
    "search by words": Kind(0.1, 100),
    "search by words, filtered": Kind(0.05, 100),
    "search by meaning": Kind(0.05, 100),
    "search by meaning, filtered": Kind(0.05, 100),
    "search by both, filtered": Kind(0.05, 100),
    "search by token": Kind(0.038, 100),
    "10,000 labels": Kind(0.002, 1000),
}

EVERY_SEARCH = "every search, of all kinds"
"""A row of its own, besides those of the kinds."""

FILTERS: dict[str, dict[str, str | int | float]] = {
    "a third pass": {"min_input_lift": 0.3, "status": "ok"},
    "9 % pass": {"min_output_lift": 0.6},
    "5 % pass": {"min_input_lift": 0.7},
    "3 % pass": {"status": "unparsed"},
}

PAGES: dict[str, Kind] = {
    "page: home": Kind(1, 80),
    "page: dictionary": Kind(2, 80),
    "page: dictionary, filtered": Kind(2, 80),
    "page: dictionary, a part of the label": Kind(1, 80),
    "page: dictionary, at nine tenths": Kind(1, 80),
    "page: feature": Kind(4, 80),
    "page: search": Kind(2, 80),
    "page: runs": Kind(1, 80),
    "page: run, done": Kind(1, 80),
    "page: run, a million jobs": Kind(2, 80),
    "page: compare": Kind(1, 80),
    "page: compare, two runs": Kind(2, 80),
    "page: schedules": Kind(1, 80),
    "page: playground": Kind(1, 80),
}
PAGES_RATE = 10.0
"""Pages a second, asked for after the API."""


class Request(NamedTuple):
    """What is asked: GET without a body, POST with one."""

    kind: str
    path: str
    parameters: Mapping[str, str | int | float]
    body: dict[str, object] | None = None


class Answer(NamedTuple):
    """How a request went: the milliseconds from when it was due, and its status; 0 where none came."""

    kind: str
    milliseconds: float
    status: int


def main() -> None:
    """Load, serve, ask, print the table and write it."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.api", description=__doc__)
    parser.add_argument("--features", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--rate", type=float, default=50.0, help="requests a second")
    parser.add_argument("--folder", type=Path, help="where the database is kept [default: nowhere]")
    options = parser.parse_args()
    console = Console(width=140)
    load_before = os.getloadavg()
    with running_postgres(options.folder) as postgres, running(_embeddings, postgres.url) as (embeddings_url, _):
        words = find_words(lambda texts: _embed(embeddings_url, texts))
        started = time.monotonic()
        with database.connect(postgres.url) as connection:
            dictionary = _loaded(connection, options.features) or load(
                connection, options.features, words, lambda said: console.print(said, style="dim")
            )
            runs = stored_runs(connection, dictionary, options.features)
            sizes = _sizes(connection, options.features)
            recall = _recall(connection, words, lambda texts: _embed(embeddings_url, texts))
        load_s = time.monotonic() - started
        with running(_api, postgres.url, EMBEDDINGS_BASE_URL=f"{embeddings_url}/v1") as (url, process):
            asker = Asker(url, make_key(postgres.url), dictionary, options.features, words)
            _ask_all(asker, options.rate, min(10.0, options.seconds))  # what is asked first has to come from the disk
            answers = _ask_all(asker, options.rate, options.seconds)
            asker.look_at_pages(runs)
            _ask_all(asker, PAGES_RATE, min(10.0, options.seconds))
            answers += _ask_all(asker, PAGES_RATE, options.seconds)
            rss_mb = process.memory_info().rss / 2**20
    result = {
        "features": options.features,
        "rate": options.rate,
        "seconds": options.seconds,
        "cores": servers.cores(),
        "load_before": load_before,
        "load_s": load_s,
        "bytes_a_feature": sizes,
        "recall_at_10": {
            name: {"value": found, "target": LEAST_RECALL, "met": found >= LEAST_RECALL}
            for name, found in recall.items()
        },
        "rss_mb": {"value": rss_mb, "target": MOST_MB, "met": rss_mb <= MOST_MB},
        "kinds": _summary(answers),
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    console.print(_table(result))


def _loaded(connection: Connection, n_features: int) -> uuid.UUID | None:
    """Return the dictionary of so many features, all of them loaded before, if there is one."""
    row = connection.execute(
        "SELECT id FROM dictionary WHERE (spec->>'n_features')::integer = %s AND EXISTS "
        "(SELECT 1 FROM feature WHERE dictionary_id = id AND index = %s AND label IS NOT NULL)",
        (n_features, n_features - 1),
    ).fetchone()
    return row and row[0]


class Asker:
    """Makes requests of every kind, no two alike."""

    def __init__(self, url: str, key: str, dictionary: uuid.UUID, n_features: int, words: Words) -> None:
        self._dictionary, self._n, self._words = dictionary, n_features, words
        self._place = urlsplit(url).netloc
        self._headers = {**bearer(key), "Accept": "*/*", "Accept-Encoding": "gzip"}
        self._own = threading.local()
        self._deep = self._deep_cursor()
        can_bulk = self._send(self._bulk(random.Random(0), 1)) != 404
        self.kinds = {name: kind for name, kind in KINDS.items() if can_bulk or name != "10,000 labels"}

    def look_at_pages(self, runs: Runs) -> None:
        """Ask for pages from now on, those of some runs among them."""
        self.kinds, self._runs = PAGES, runs
        self._headers["Accept"] = "text/html"

    def ask(self, number: int, due: float) -> Answer:
        """Wait until a request is due, send it, and return how it went."""
        draw = random.Random(number)
        request = self._request(draw)
        time.sleep(max(0.0, due - time.perf_counter()))
        status = self._send(request)
        return Answer(request.kind, 1000 * (time.perf_counter() - due), status)

    def _request(self, draw: random.Random) -> Request:
        kind = draw.choices(list(self.kinds), [kind.share for kind in self.kinds.values()])[0]
        features = f"/v1/dictionaries/{self._dictionary}/features"
        match kind:
            case "feature":
                return Request(kind, f"{features}/{draw.randrange(self._n)}", {})
            case "list, first page":
                sort = draw.choice(["index", "-input_lift", "-output_lift", "density"])
                return Request(kind, features, {"sort": sort})
            case "list, page at nine tenths":
                return Request(kind, features, {"cursor": self._deep})
            case "search by token":
                token = f" token{min(int(draw.paretovariate(0.5)), N_TOKENS)}"
                return Request(kind, "/v1/search/tokens", {"token": token, "side": draw.choice(["promoted", "fires"])})
            case "10,000 labels":
                return self._bulk(draw, N_BULK)
        if kind in PAGES:
            return Request(kind, *self._page(kind.removeprefix("page: "), draw))
        return Request(kind, "/v1/search", self._question(kind, draw))

    def _page(self, name: str, draw: random.Random) -> tuple[str, dict[str, str | int | float]]:
        """Return the path of a page, and its parameters."""
        dictionary = f"/dictionaries/{self._dictionary}"
        match name:
            case "home":
                return "/", {}
            case "dictionary":
                return dictionary, {"sort": draw.choice(["index", "-input_lift", "-output_lift", "density"])}
            case "dictionary, filtered":
                return dictionary, draw.choice([{"min_input_lift": 0.7}, {"status": "unparsed"}])
            case "dictionary, a part of the label":
                return dictionary, {"q": draw.choices(self._words.texts, self._words.shares.tolist())[0]}
            case "dictionary, at nine tenths":
                return dictionary, {"cursor": self._deep}
            case "feature":
                return f"{dictionary}/features/{draw.randrange(self._n)}", {}
            case "search":
                return "/search", self._question("search by words", draw)
            case "run, done":
                return f"/runs/{self._runs.done}", {}
            case "run, a million jobs":
                return f"/runs/{self._runs.running}", {}
            case "compare, two runs":
                after = draw.randrange(self._n)
                return "/compare", {"run": str(self._runs.running), "other": str(self._runs.done), "after": after}
            case "playground":
                return "/playground", {"dictionary": str(self._dictionary)}
        return f"/{name}", {}

    def _question(self, kind: str, draw: random.Random) -> dict[str, str | int | float]:
        mode = next(mode for mode in ("words", "meaning", "both") if mode in kind)
        n_words = draw.choice([1, 2, 2, 3])
        asked = draw.choices(self._words.texts, self._words.shares.tolist(), k=n_words)
        filters: dict[str, str | int | float] = {}
        if "filtered" in kind:
            filters = draw.choice(list(FILTERS.values()))
        return {"q": " ".join(asked), "mode": mode, **filters}

    def _bulk(self, draw: random.Random, n: int) -> Request:
        pairs = [[str(self._dictionary), draw.randrange(self._n)] for _ in range(n)]
        return Request("10,000 labels", "/v1/labels/bulk", {}, {"features": pairs})

    def _send(self, request: Request) -> int:
        """Return the status of the answer once all of it is here; 0 where none came.

        By the standard library and without unpacking: whoever asks shares the cores with whom is asked.
        """
        try:
            return self._exchange(request)
        except (OSError, HTTPException):
            self._own.connection.close()  # it is opened again by the next request
            return 0

    def _exchange(self, request: Request) -> int:
        connection: HTTPConnection | None = getattr(self._own, "connection", None)
        if connection is None:
            connection = self._own.connection = HTTPConnection(self._place, timeout=30)
        if request.body is None:
            connection.request("GET", f"{request.path}?{urlencode(request.parameters)}", headers=self._headers)
        else:
            body = json.dumps(request.body)
            connection.request("POST", request.path, body, {**self._headers, "Content-Type": "application/json"})
        response = connection.getresponse()
        response.read()
        return response.status

    def _deep_cursor(self) -> str:
        """Return the cursor of a list after nine tenths of the features: that of a first page, moved."""
        path = f"/v1/dictionaries/{self._dictionary}/features"
        answer = httpx.get(f"http://{self._place}{path}", params={"limit": 1}, headers=self._headers)
        cursor = answer.raise_for_status().json()["next_cursor"]
        content = json.loads(base64.urlsafe_b64decode(cursor))
        content["p"][-1] = self._n * 9 // 10
        return base64.urlsafe_b64encode(json.dumps(content).encode()).decode()


def _ask_all(asker: Asker, rate: float, seconds: float) -> list[Answer]:
    start = time.perf_counter() + 0.5
    seed = time.monotonic_ns()
    with ThreadPoolExecutor(N_CLIENTS) as clients:
        asked = [clients.submit(asker.ask, seed + i, start + i / rate) for i in range(int(rate * seconds))]
        return [one.result() for one in asked]


def _summary(answers: Sequence[Answer]) -> list[dict[str, Any]]:
    by_kind: defaultdict[str, list[Answer]] = defaultdict(list)
    for answer in answers:
        by_kind[answer.kind].append(answer)
        if answer.kind.startswith("search"):
            by_kind[EVERY_SEARCH].append(answer)
    rows = []
    for name, kind in {**KINDS, EVERY_SEARCH: Kind(0, 100), **PAGES}.items():
        times = sorted(answer.milliseconds for answer in by_kind[name])
        if len(times) < 2:
            continue
        p95 = statistics.quantiles(times, n=20, method="inclusive")[-1]
        failed = sum(answer.status != 200 for answer in by_kind[name])
        rows.append(
            {
                "kind": name,
                "n": len(times),
                "p50_ms": statistics.median(times),
                "p95_ms": p95,
                "most_ms": times[-1],
                "target_ms": kind.most_ms,
                "met": p95 < kind.most_ms and not failed,
                "failed": failed,
            }
        )
    return rows


def _table(result: dict[str, Any]) -> Table:
    what = f"{result['features']:,} features, {result['rate']:g} requests/s on {result['cores']} cores"
    table = Table("request", "n", "p50 ms", "p95 ms", "slowest", "target", "met", "failed", title=what)
    for row in result["kinds"]:
        figures = (f"{row[name]:.1f}" for name in ("p50_ms", "p95_ms", "most_ms"))
        met = "yes" if row["met"] else "NO"
        table.add_row(row["kind"], str(row["n"]), *figures, f"< {row['target_ms']:g}", met, str(row["failed"]))
    for name, recall in result["recall_at_10"].items():
        met = "yes" if recall["met"] else "NO"
        table.add_row(f"recall@10, {name}", str(N_RECALLED), f"{recall['value']:.3f}", "", "", ">= 0.9", met)
    memory = result["rss_mb"]
    table.add_row(
        "memory of the API, MB", "", "", f"{memory['value']:.0f}", "", "< 200", "yes" if memory["met"] else "NO"
    )
    return table


_Embed = Callable[[Sequence[str]], Vectors]


def _recall(connection: Connection, words: Words, embed: Callable[[list[str]], Vectors]) -> dict[str, float]:
    """Return which share of the ten labels that are nearest to a question is found, over some questions, by filter."""
    draw = random.Random(0)
    questions = [" ".join(draw.choices(words.texts, words.shares.tolist(), k=2)) for _ in range(N_RECALLED)]
    vectors = embed(questions)
    model = indexing.find_model(connection, MODEL, vectors.shape[1])
    assert model is not None
    recall = {}
    for name, asked in {"all pass": {}, **FILTERS}.items():
        filters = {field: (value,) if field == "status" else value for field, value in asked.items()}
        scope = search.open_scope(connection, 1, LabelFilter.model_validate(filters))
        n_found = 0
        for vector in vectors:
            text = f"[{','.join(map(str, vector.tolist()))}]"
            found = search.by_meaning(connection, scope, model, text, DEPTH)[:10]
            connection.rollback()
            connection.execute("SET LOCAL statement_timeout = 0")
            least = search.compare_all(connection, scope, model, text, 10)[-1].similarity
            connection.rollback()
            n_found += sum(one.similarity >= least - 1e-6 for one in found)
        recall[name] = n_found / (10 * N_RECALLED)
    return recall


def _sizes(connection: Connection, n: int) -> dict[str, float]:
    """Return the bytes of a feature in each table, its indexes included."""
    tables = ("feature", "embedding", "feature_token", "label", "score", "evidence")
    rows = connection.execute(
        "SELECT name, pg_total_relation_size(CAST(name AS regclass)), pg_indexes_size(CAST(name AS regclass)) "
        "FROM unnest(CAST(%s AS text[])) AS name",
        (list(tables),),
    ).fetchall()
    return {key: size / n for name, whole, own in rows for key, size in ((name, whole), (f"{name}, indexes", own))}


# ------------------------------------------------------------------------------------------------------------ servers

Composer = Callable[[int, Mapping[str, str]], Command]
_api: Composer = servers.api
_embeddings: Composer = servers.embeddings


@contextmanager
def running(compose: Composer, database_url: str, **variables: str) -> Iterator[tuple[str, psutil.Process]]:
    """Lend the URL and the process of a server of the stack."""
    port = choose_port("bench")
    with tempfile.TemporaryDirectory(prefix="glossarium-bench-") as folder:
        environment = {
            **os.environ,
            "DATABASE_URL": database_url,
            "REDIS_URL": "redis://127.0.0.1:1/0",
            "GLOSSARIUM_DATA_DIR": folder,
            "TOKENIZERS_PARALLELISM": "false",
            "MALLOC_ARENA_MAX": "2",
            "OMP_NUM_THREADS": "1",
            "OMP_WAIT_POLICY": "PASSIVE",
            **variables,
        }
        server = Server(compose(port, environment), port)
        server.start()
        try:
            url = f"http://127.0.0.1:{port}"
            _wait_for(url)
            yield url, _listener(port)
        finally:
            server.stop(SIGTERM)


def _wait_for(url: str) -> None:
    deadline = time.monotonic() + UP_WITHIN_S
    while True:
        try:
            httpx.get(f"{url}/health", timeout=5).raise_for_status()
            return
        except httpx.TransportError:
            assert time.monotonic() < deadline, f"{url} does not come up"
            time.sleep(0.1)


def _listener(port: int) -> psutil.Process:
    """Return the child of ours that listens on a port."""
    for child in psutil.Process().children(recursive=True):
        if any(one.laddr.port == port for one in child.net_connections("inet") if one.status == psutil.CONN_LISTEN):
            return child
    raise AssertionError(f"nobody listens on {port}")


def _embed(url: str, texts: Sequence[str]) -> Vectors:
    parts = []
    for start in range(0, len(texts), 64):
        body = {"model": MODEL, "input": list(texts[start : start + 64])}
        answer = httpx.post(f"{url}/v1/embeddings", json=body, timeout=120).raise_for_status().json()
        parts.append(np.array([item["embedding"] for item in answer["data"]], np.float32))
    return np.concatenate(parts)


if __name__ == "__main__":
    main()
