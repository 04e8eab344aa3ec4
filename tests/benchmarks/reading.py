"""The input side: the exemplar pass, and its memory."""

import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch

from tests.benchmarks.measure import Row, at_most, faster
from tests.benchmarks.setting import Group, forwards, groups, opened, random_dictionary
from workers.evidence import Reader, read_contexts
from workers.methods.exemplars import ExemplarAccumulator, ExemplarOptions
from workers.methods.vocabulary import nearest_neighbours
from workers.opened import Opened

_TOKENS = 400_000
_PARTS = 8  # of the corpus, that the sides read by turns, so that a slow minute hits both
_SHORT, _LONG = 20_000, 160_000
_MANY = 65_536
_GIB = 2**30


def exemplar_pass() -> Iterator[Row]:
    """Yield the speed of the pass against the bare forwards and encodings, on the same batches."""
    grouped = list(groups(_TOKENS))
    accumulator = empty(opened())
    ours = bare = 0.0
    for part in range(_PARTS):
        some = grouped[part::_PARTS]
        started = time.perf_counter()
        collect(accumulator, opened(), some)
        between = time.perf_counter()
        _read(some)
        ours, bare = ours + between - started, bare + time.perf_counter() - between
    n_tokens = sum(len(row.ids) for _, rows in grouped for row in rows)
    name = f"exemplar pass, {n_tokens:,} tokens"
    yield faster(name, (ours, bare), 0.80, "truncated forward and encode alone", n_tokens)


def _read(grouped: Iterable[Group]) -> None:
    subject, dictionary = opened()
    for batch in forwards(grouped):
        for _ in dictionary.encode_chunks(subject.read(batch, dictionary.read_site)):
            pass


def empty(of: Opened) -> ExemplarAccumulator:
    """Return an accumulator as a worker makes it."""
    everyone = torch.arange(of.dictionary.n_features)
    near = nearest_neighbours(of.dictionary.directions(everyone), everyone, 5).ids
    return ExemplarAccumulator.empty(of.dictionary.threshold, ExemplarOptions(), near)


def collect(accumulator: ExemplarAccumulator, of: Opened, grouped: Iterable[Group]) -> None:
    """Add contexts as a worker does."""
    for shape, rows in grouped:
        read_contexts(of.subject, [Reader(of.dictionary, accumulator)], rows, shape.length)


def exemplar_memory() -> Iterator[Row]:
    """Yield the peak memory of a pass over 8 times the tokens, each in a process of its own."""
    short, long = (_memory(n_tokens).peak for n_tokens in (_SHORT, _LONG))
    against = f"itself on {_SHORT:,} tokens instead of {_LONG:,}"
    yield at_most("exemplar pass, peak memory", long / 2**20, short / 2**20, 1.05, "MiB", against)


def many_features() -> Iterator[Row]:
    """Yield the peak memory of a pass over 65,536 features, beyond the subject and the weights, against 1.5 GiB."""
    used = _memory(_SHORT, _MANY)
    name = f"exemplar pass, {_MANY:,} features, beyond subject and weights"
    yield at_most(name, (used.peak - used.held) / _GIB, 1.5, 1.0, "GiB", "1.5 GiB")


class _Memory(NamedTuple):
    """Bytes that a process held before a pass, and at most during it."""

    held: int
    peak: int


def _memory(n_tokens: int, n_features: int | None = None) -> _Memory:
    argv = [sys.executable, "-m", "tests.benchmarks.reading", str(n_tokens), *([str(n_features)] if n_features else [])]
    printed = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
    return _Memory(*map(int, printed.split()))


def _in_a_process_of_its_own(n_tokens: int, n_features: int | None = None) -> None:
    """Print what is held when a pass begins, and its peak, in bytes."""
    of = random_dictionary(n_features) if n_features else opened()
    Path("/proc/self/clear_refs").write_text("5")  # the peak is now what is held: loading may have taken more
    held = _status("VmRSS")
    collect(empty(of), of, groups(n_tokens))  # streamed as in a worker: the corpus itself is not what grows
    print(held, _status("VmHWM"))  # noqa: T201


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


if __name__ == "__main__":
    _in_a_process_of_its_own(*map(int, sys.argv[1:]))
