"""A load for half an hour: whether memory grows, and whether connections and messages pile up."""

import json
import time
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
from rich.console import Console

from tests.chaos.arena import Arena, furnish

RESULT = Path("build/soak.json")
MOST_MB_PER_MINUTE = 1.0
WARM_UP = 0.3  # of the time: until every module is loaded and every pool has its size
EVERY_S = 2.0
N_FEATURES = 32


class Sample(NamedTuple):
    """What was seen at a moment: megabytes by process, connections to Postgres, and what Valkey holds."""

    at_s: float
    memory_mb: dict[str, float]
    connections: int
    valkey_clients: int
    valkey_mb: float
    messages: int


def soak(arena: Arena, minutes: float, console: Console) -> int:
    """Let runs follow one another for so long, write and print what was seen; return 1 if anything grows."""
    started, samples, n_runs = time.monotonic(), list[Sample](), 0
    run = None
    while (at_s := time.monotonic() - started) < minutes * 60:
        if run is None or arena.run(run.id).state == "done":
            dictionary, corpus = furnish(arena, N_FEATURES)
            run, n_runs = arena.submit(dictionary, corpus), n_runs + 1
        samples.append(_look(arena, at_s))
        time.sleep(EVERY_S)
    late = [sample for sample in samples if sample.at_s >= WARM_UP * minutes * 60]
    slopes = {name: slope(late, name) for name in late[-1].memory_mb}
    found = {
        "minutes": minutes,
        "runs": n_runs,
        "slopes_mb_per_minute": {name: round(value, 3) for name, value in slopes.items()},
        "connections": _range([sample.connections for sample in late]),
        "valkey_clients": _range([sample.valkey_clients for sample in late]),
        "valkey_mb": _range([sample.valkey_mb for sample in late]),
        "messages": _range([sample.messages for sample in late]),
        "samples": [sample._asdict() for sample in samples],
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    for name, value in found.items():
        if name != "samples":
            console.print(f"{name}: {value}", markup=False)
    return int(any(value > MOST_MB_PER_MINUTE for name, value in slopes.items() if name.startswith("worker")))


def slope(samples: list[Sample], name: str) -> float:
    """Return by how many megabytes a process grew in a minute, as the straight line through all samples says."""
    points = [(sample.at_s / 60, sample.memory_mb[name]) for sample in samples if name in sample.memory_mb]
    times, sizes = zip(*points, strict=True)
    return float(np.polyfit(times, sizes, 1)[0]) if len(points) > 2 else 0.0


def _look(arena: Arena, at_s: float) -> Sample:
    memory: dict[str, float] = defaultdict(float)
    for queue in ("subject", "llm", "control"):
        memory[f"worker-{queue}"] = sum(process.memory_info().rss for process in arena.workers(queue)) / 2**20
    for process in psutil.Process(arena.stack.pid).children(recursive=True):
        line = " ".join(process.cmdline())
        for name, mark in (("api", "service.app:start"), ("beat", "workers.app beat")):
            if mark in line:
                memory[name] += process.memory_info().rss / 2**20
    valkey = arena.valkey.client
    told = valkey.info()
    return Sample(
        at_s=round(at_s, 1),
        memory_mb={name: round(size, 1) for name, size in memory.items()},
        connections=arena.query("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'glossarium'")[0][0],
        valkey_clients=int(told["connected_clients"]),
        valkey_mb=round(told["used_memory"] / 2**20, 2),
        messages=sum(int(valkey.llen(queue)) for queue in ("subject", "llm", "control")),
    )


def _range(values: list[float] | list[int]) -> str:
    return f"{values[0]} at first, {min(values)} to {max(values)}, {values[-1]} at last"
