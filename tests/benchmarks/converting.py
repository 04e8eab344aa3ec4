"""Converting a dictionary: seconds and memory, against reading it whole and writing it whole."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.measure import Row, at_most
from tests.tiny import make_subject

_SAE = (16_384, 2_304)
_DIRECTIONS = (1_000_000, 512)
_PLAIN = """
import sys, torch
from safetensors.torch import load_file, save_file
t = load_file(sys.argv[1])
save_file({name: (x.T if name == "W_enc" else x).float().contiguous() for name, x in t.items()}, sys.argv[2])
"""
_CONVERT = """
from workers.formats.__main__ import main
assert main() == 0
"""
_NOTHING = "import workers.formats.__main__"
_SAY_PEAK = """
import re, pathlib
print(re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1])
"""


class _Cost(NamedTuple):
    seconds: float
    peak_bytes: int


def converting() -> Iterator[Row]:
    """Yield what it costs to convert a large SAE, and a million directions.

    What a process takes that only starts is not counted as memory of the dictionary.
    """
    with tempfile.TemporaryDirectory(prefix="glossarium-bench-") as scratch:
        folder = Path(scratch)
        started = _cost(_NOTHING)
        yield from _sae(folder, started)
        yield from _million(folder, started)


def _sae(folder: Path, started: _Cost) -> Iterator[Row]:
    n, d = _SAE
    subject = _subject(folder / "wide", d)
    file = _write_sae(folder / "sae", n, d)
    size = file.stat().st_size
    ours = _cost(*_converting(file.parent, subject, folder / "out"))
    plain = _cost(_PLAIN, str(file), str(folder / "plain.safetensors"))
    name = f"convert {n:,} × {d:,}"
    yield at_most(f"{name}, in all", ours.seconds, 10.0, 1.0, "s", "10 s")
    yield at_most(f"{name}, peak memory", ours.peak_bytes - started.peak_bytes, size, 2.0, "B", "its size")
    yield at_most(f"{name}, peak memory", ours.peak_bytes, plain.peak_bytes, 1.0, "B", "reading and writing it whole")


def _million(folder: Path, started: _Cost) -> Iterator[Row]:
    n, d = _DIRECTIONS
    subject = _subject(folder / "narrow", d)
    rows = np.lib.format.open_memmap(folder / "rows.npy", "w+", np.float32, (n, d))
    for low in range(0, n, 50_000):
        rows[low : low + 50_000] = _normal(low, 50_000, d)
    rows.flush()
    size = rows.nbytes
    del rows
    ours = _cost(*_converting(folder / "rows.npy", subject, folder / "out", "--site", "resid_post.1"))
    yield at_most(f"convert {n:,} × {d} directions, in all", ours.seconds, 60.0, 1.0, "s", "60 s")
    yield at_most("the same, peak memory", ours.peak_bytes - started.peak_bytes, size, 2.0, "B", "its size")


def _write_sae(place: Path, n: int, d: int) -> Path:
    place.mkdir()
    config = {"architecture": "standard", "d_in": d, "d_sae": n}
    config["metadata"] = {"sae_lens_version": "6.54.0", "hook_name": "blocks.1.hook_resid_post"}
    (place / "cfg.json").write_text(json.dumps(config))
    from safetensors.numpy import save_file

    tensors = {"W_enc": _normal(0, d, n), "b_enc": _normal(1, 1, n)[0]}
    tensors |= {"W_dec": _normal(2, n, d), "b_dec": _normal(3, 1, d)[0]}
    save_file(tensors, place / "sae_weights.safetensors")
    return place / "sae_weights.safetensors"


def _normal(seed: int, *shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def _subject(folder: Path, d: int) -> Path:
    """Return the folder of a subject that is wide enough, of which only the configuration is read."""
    make_subject(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"hidden_size": d, "head_dim": d // 4}))
    return folder


def _converting(path: Path, subject: Path, out: Path, *options: str) -> list[str]:
    return [_CONVERT, str(path), "--subject", str(subject), "--out", str(out), *options]


def _cost(code: str, *arguments: str) -> _Cost:
    """Return the seconds of a process that runs code, and the most memory that it held, mapped files among it.

    The process says so itself: what the system counts for a child includes its parent's at the fork.
    """
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code + _SAY_PEAK, *arguments], stdout=subprocess.PIPE, text=True, check=True
    )
    return _Cost(time.perf_counter() - began, int(done.stdout.split()[-1]) * 1024)
