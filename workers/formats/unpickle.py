"""`python -m workers.formats.unpickle FILE OUT`: the tensors of a .pt file as safetensors, and nothing else of it.

Runs in a process of its own, so that what is in the file can harm nothing but this process: `weights_only` makes
tensors and plain containers alone, and memory, time, open files and what is written are limited before it is read.
Ends with code 2 and one line on stderr if the file can't be used.
"""

import pickle
import re
import resource
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from schema.errors import GlossariumError
from workers.formats.writing import save_tensors

_SPARE_BYTES = 2**30  # beside what the file holds: torch maps it while it copies
_SECONDS = 300
_MOST_TENSORS = 1000
_OF_BAD_FILES = (
    pickle.UnpicklingError,
    RuntimeError,
    ValueError,
    OSError,
    EOFError,
    LookupError,
    TypeError,
    AttributeError,
)
_WRAPPERS = ("state_dict", "model_state_dict", "model")  # of checkpoints that hold more than tensors


def main(source: Path, out: Path) -> int:
    """Return the exit code."""
    n_bytes = source.stat().st_size
    _limit(n_bytes)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded = torch.load(source, map_location="cpu", weights_only=True)
        save_tensors(out, {name: tensor.detach() for name, tensor in _tensors(loaded)})
    except MemoryError:
        return _refuse(f"it needs more than the memory that a file of {n_bytes:,} bytes may take")
    except (*_OF_BAD_FILES, GlossariumError) as exc:
        return _refuse(_reason(exc))
    return 0


def _limit(n_bytes: int) -> None:
    """Limit this process, whose torch is loaded by now."""
    mapped = _mapped_bytes()
    for what, limit in (
        (resource.RLIMIT_AS, mapped + 4 * n_bytes + _SPARE_BYTES),
        (resource.RLIMIT_CPU, _SECONDS),
        (resource.RLIMIT_FSIZE, 4 * n_bytes + 2**20),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(what)
        resource.setrlimit(what, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def _mapped_bytes() -> int:
    try:
        return int(Path("/proc/self/statm").read_text("ascii").split()[0]) * resource.getpagesize()
    except OSError:  # not Linux
        return 2**35


def _tensors(loaded: Any) -> Iterator[tuple[str, Tensor]]:
    if isinstance(loaded, Tensor):
        yield "tensor", loaded
        return
    for wrapper in _WRAPPERS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(wrapper), Mapping):
            loaded = loaded[wrapper]
    if not isinstance(loaded, Mapping) or not 0 < len(loaded) <= _MOST_TENSORS:
        raise ValueError(f"it holds a {type(loaded).__name__}; must be a tensor, or tensors by name")
    for name, tensor in loaded.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise ValueError(f"{str(name)[:80]!r} is a {type(tensor).__name__}; must be tensors by name")
        yield name, tensor


def _reason(exc: Exception) -> str:
    text = " ".join(str(exc).split())
    wanted = re.search(r"GLOBAL (\S+)", text)
    if wanted:
        return (
            f"it is a pickle that would run {wanted[1]}, which is refused: save its state_dict() alone, or safetensors"
        )
    if isinstance(exc, pickle.UnpicklingError | EOFError):
        return "must be tensors saved by torch.save; pickles of anything else are not read"
    return f"must be tensors saved by torch.save: {text[:300]}"


def _refuse(reason: str) -> int:
    sys.stderr.write(reason + "\n")
    return 2


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
