"""Tensors of PyTorch's own files (.pt, .bin), which are pickles: read in a limited process of their own.

See `unpickle`, which runs there.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from torch import Tensor

from schema.errors import BadWeights
from workers.formats.files import read_tensors

SUFFIXES = (".pt", ".pth", ".bin")
_SECONDS = 600
_KEPT = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "HOME", "TMPDIR", "SYSTEMROOT")


def read_pickle(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a .pt file by name; a bare tensor is called `tensor`. Raises BadWeights."""
    if not path.is_file():
        raise BadWeights(f"file={path.name!r} is missing in {path.parent}; was the download finished?")
    with tempfile.TemporaryDirectory(prefix="glossarium-") as folder:
        out = Path(folder) / "tensors.safetensors"
        _unpickle(path, out)
        return read_tensors(out)  # they stay readable when the file's name is gone


def _unpickle(path: Path, out: Path) -> None:
    argv = [sys.executable, "-m", "workers.formats.unpickle", str(path), str(out)]
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ} | {"OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            argv,
            capture_output=True,
            text=True,
            check=False,
            timeout=_SECONDS,
            env=environment,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as exc:
        raise BadWeights(f"file={path.name!r}; could not be read in {_SECONDS} s") from exc
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        reason = lines[-1] if done.returncode == 2 and lines else f"its reader ended with code {done.returncode}"
        raise BadWeights(f"file={path.name!r}; {reason}")
