"""The input side: the exemplar pass, its memory, and how small its evidence is."""

import resource
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator

import torch

from schema.packing import pack, unpack
from schema.records import Exemplars
from tests.benchmarks.measure import Row, at_most, faster, race
from tests.benchmarks.setting import N_FEATURES, Group, forwards, groups, opened
from workers.evidence import add_contexts
from workers.methods.exemplars import ExemplarAccumulator, ExemplarOptions
from workers.methods.vocabulary import nearest_neighbours
from workers.opened import chunks

_TIMES = 3.0  # our corpus, about 127,000 tokens
_SHORT, _LONG = 0.5, 4.0  # for memory: 8 times the tokens


def exemplar_pass() -> Iterator[Row]:
    """Yield the speed of the pass against the bare forwards and encodings, on the same batches."""
    grouped = list(groups(_TIMES))
    n_tokens = sum(len(row.ids) for _, rows in grouped for row in rows)

    def bare() -> None:
        subject, dictionary = opened()
        for batch in forwards(grouped):
            for _ in chunks(dictionary, subject.read(batch, dictionary.read_site)):
                pass

    seconds = race(lambda: _collect(grouped), bare, rounds=2)
    yield faster("exemplar pass", seconds, 0.80, "truncated forward and encode alone", n_tokens)


def _collect(grouped: Iterable[Group]) -> ExemplarAccumulator:
    everyone = torch.arange(N_FEATURES)
    dictionary = opened().dictionary
    near = nearest_neighbours(dictionary.directions(everyone), everyone, 5).ids
    accumulator = ExemplarAccumulator.empty(dictionary.threshold, ExemplarOptions(), near)
    for shape, rows in grouped:
        add_contexts(accumulator, opened(), rows, shape.length)
    return accumulator


def exemplar_memory() -> Iterator[Row]:
    """Yield the peak memory of a pass over 8 times the tokens, each in a process of its own."""
    short, long = (_peak_mib(times) for times in (_SHORT, _LONG))
    yield at_most("exemplar pass, peak memory", long, short, 1.05, "MiB", "itself on an eighth of the tokens")


def _peak_mib(times: float) -> float:
    argv = [sys.executable, "-m", "tests.benchmarks.reading", str(times)]
    return float(subprocess.run(argv, check=True, capture_output=True, text=True).stdout.split()[-1])


def evidence_size() -> Iterator[Row]:
    """Yield the bytes of packed exemplars a feature, and the time to read one back."""
    subject = opened().subject
    accumulator = _collect(groups(_TIMES))
    packed = [pack(accumulator.record(feature, subject.pieces)) for feature in range(0, N_FEATURES, 16)]
    started = time.perf_counter()
    for blob in packed:
        unpack(Exemplars, blob)
    read_ms = (time.perf_counter() - started) / len(packed) * 1e3
    mean = sum(map(len, packed)) / len(packed)
    yield at_most(f"exemplars, packed (read in {read_ms:.1f} ms)", mean, 5000.0, 1.0, "bytes", "5 kB a feature")


if __name__ == "__main__":
    # Streamed as in a worker, so that the corpus itself is not what grows.
    _collect(groups(float(sys.argv[1])))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)  # noqa: T201
