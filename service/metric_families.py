"""What Prometheus is told: tallies in, metric families out. Asks nobody for anything."""

from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from schema.processes import BEAT, Seen
from schema.stages import QUEUE_NAMES, Stage
from schema.store.calls import LATENCY_BOUNDS_S
from schema.store.tallies import CallTally, Tallies, Waiting

ALIVE_S = 60.0
"""A process that said nothing for so long does not count."""
_TOKENS = ("prompt", "cached", "completion")


def families(tallies: Tallies) -> Iterator[Metric]:
    """Yield the families of everything that is tallied."""
    yield from _of_jobs(tallies)
    yield _gauge("runs", "Runs by state", "state", tallies.runs)
    yield _gauge(
        "features", "Features by the status of their label; an estimate past 100,000", "status", tallies.features
    )
    yield from _of_calls(tallies.calls)
    reserved = GaugeMetricFamily("glossarium_llm_reserved_dollars", "What LLM calls in flight may cost at most")
    reserved.add_metric([], tallies.reserved_dollars)
    yield reserved
    yield from _of_processes(tallies.processes)


def _of_jobs(tallies: Tallies) -> Iterator[Metric]:
    jobs = GaugeMetricFamily(
        "glossarium_jobs", "Jobs by stage, counted to 100,000 ready ones", labels=["stage", "state"]
    )
    oldest = GaugeMetricFamily("glossarium_oldest_job_seconds", "How long a stage's first job waits", labels=["stage"])
    for stage in Stage:
        waiting = tallies.ready.get(stage, Waiting(0, 0.0))
        jobs.add_metric([stage, "ready"], waiting.n_jobs)
        jobs.add_metric([stage, "leased"], tallies.leased.get(stage, 0))
        oldest.add_metric([stage], waiting.oldest_s)
    yield from (jobs, oldest)
    lost = {str(stage): tallies.lost.get(stage, 0) for stage in Stage}
    dead = {str(stage): tallies.dead.get(stage, 0) for stage in Stage}
    yield _counter("lease_losses", "Leases that ran out: a worker died or hung", "stage", lost)
    yield _counter("jobs_given_up", "Jobs that were given up", "stage", dead)


def _of_calls(tallied: list[CallTally]) -> Iterator[Metric]:
    calls = _counter_of("llm_calls", "LLM calls that were made", ["profile", "purpose", "status"])
    hits = _counter_of(
        "llm_cache_hits", "LLM calls that were answered from the cache", ["profile", "purpose", "status"]
    )
    for (profile, purpose, status, from_cache), ours in _grouped(tallied, 4):
        family = hits if from_cache else calls
        family.add_metric([profile, purpose, status], sum(one.calls for one in ours))
    yield from (calls, hits)
    made = [one for one in tallied if not one.from_cache]
    requests = _counter_of("llm_requests", "HTTP requests to LLMs, retries and repairs included", ["profile"])
    tokens = _counter_of("llm_tokens", "Tokens; cached ones are among the prompt's", ["profile", "kind"])
    dollars = _counter_of("llm_dollars", "Spent, as far as prices are known", ["profile"])
    unpriced = _counter_of("llm_unpriced_calls", "Calls whose price is not known", ["profile"])
    latency = HistogramMetricFamily("glossarium_llm_latency_seconds", "Of a call, retries included", labels=["profile"])
    for (profile,), ours in _grouped(made, 1):
        requests.add_metric([profile], sum(one.attempts for one in ours))
        for kind in _TOKENS:
            tokens.add_metric([profile, kind], sum(getattr(one, f"{kind}_tokens") for one in ours))
        dollars.add_metric([profile], sum(one.dollars for one in ours))
        unpriced.add_metric([profile], sum(one.unpriced for one in ours))
        latency.add_metric([profile], _buckets(ours), sum(one.seconds for one in ours))
    yield from (requests, tokens, dollars, unpriced, latency)


def _of_processes(seen: list[Seen]) -> Iterator[Metric]:
    alive = [process.kind for process in seen if process.age_s < ALIVE_S]
    yield _gauge("workers", "Workers that are there", "queue", {queue: alive.count(queue) for queue in QUEUE_NAMES})
    age = GaugeMetricFamily("glossarium_beat_age_seconds", "Since a worker last heard beat")
    for process in seen:
        if process.kind == BEAT:
            age.add_metric([], process.age_s)
    yield age


def _buckets(ours: list[CallTally]) -> list[tuple[str, float]]:
    """Return the cumulated counts by upper bound, the last of which is all."""
    counts = [sum(one.calls for one in ours if one.bucket == number) for number in range(len(LATENCY_BOUNDS_S) + 1)]
    bounds = [*map(str, LATENCY_BOUNDS_S), "+Inf"]
    return [(bound, float(n)) for bound, n in zip(bounds, accumulate(counts), strict=True)]


def _grouped(tallied: Iterable[CallTally], n: int) -> Iterable[tuple[tuple[Any, ...], list[CallTally]]]:
    """Return tallies by their first n fields."""
    groups: dict[tuple[Any, ...], list[CallTally]] = {}
    for one in tallied:
        groups.setdefault(one[:n], []).append(one)
    return groups.items()


def _gauge(name: str, told: str, label: str, values: dict[str, int]) -> Metric:
    family = GaugeMetricFamily(f"glossarium_{name}", told, labels=[label])
    for value, n in sorted(values.items()):
        family.add_metric([value], n)
    return family


def _counter(name: str, told: str, label: str, values: dict[str, int]) -> Metric:
    family = _counter_of(name, told, [label])
    for value, n in sorted(values.items()):
        family.add_metric([value], n)
    return family


def _counter_of(name: str, told: str, labels: list[str]) -> CounterMetricFamily:
    return CounterMetricFamily(f"glossarium_{name}", told, labels=labels)
