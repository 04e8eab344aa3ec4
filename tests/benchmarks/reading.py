"""The input side: the exemplar pass, and its memory."""

import resource
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator

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
    short, long = (_peak_bytes(n_tokens) for n_tokens in (_SHORT, _LONG))
    against = f"itself on {_SHORT:,} tokens instead of {_LONG:,}"
    yield at_most("exemplar pass, peak memory", long / 2**20, short / 2**20, 1.05, "MiB", against)


def many_features() -> Iterator[Row]:
    """Yield the peak memory of a pass over 65,536 features, beyond the subject and the weights, against 1.5 GiB."""
    peak, held = (_peak_bytes(n_tokens, _MANY) for n_tokens in (_SHORT, 0))
    name = f"exemplar pass, {_MANY:,} features, beyond subject and weights"
    yield at_most(name, (peak - held) / _GIB, 1.5, 1.0, "GiB", "1.5 GiB")


def _peak_bytes(n_tokens: int, n_features: int | None = None) -> int:
    argv = [sys.executable, "-m", "tests.benchmarks.reading", str(n_tokens), *([str(n_features)] if n_features else [])]
    return int(subprocess.run(argv, check=True, capture_output=True, text=True).stdout.split()[-1])


def _in_a_process_of_its_own(n_tokens: int, n_features: int | None = None) -> None:
    """Print the peak memory of a pass, in bytes; without tokens that of the subject and the weights."""
    of = random_dictionary(n_features) if n_features else opened()
    if n_tokens:
        accumulator = empty(of)
        collect(accumulator, of, groups(n_tokens))  # streamed as in a worker: the corpus itself is not what grows
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)  # noqa: T201


if __name__ == "__main__":
    _in_a_process_of_its_own(*map(int, sys.argv[1:]))
