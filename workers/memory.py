"""How much of a subject's work is done at once: as much as memory holds, and half of it again whenever that fails.

The shape of a batch decides results in their last digits, so a computation that ran out of memory is done again as a
whole at the smaller size, and sizes are part of the provenance. Knows no subject: only a device and sizes.
"""

import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import structlog
import torch

from schema.errors import OutOfMemory
from schema.graph import ROWS_PER_BLOCK

log = structlog.get_logger(__name__)

T = TypeVar("T")
Size = Literal["tokens", "rows", "traced"]
"""A field of `Sizes`."""


class Sizes(NamedTuple):
    """Tokens of one forward, rows of a batch that generates, and tokens of a forward whose graph is kept."""

    tokens: int
    rows: int
    traced: int


# On 2 cores with AMX throughput peaks near 1,000 tokens; a GPU wants more to be busy. Every started batch of generation
# is paid for in full; a row costs 0.65 at 32 rows, 0.24 at 160, 0.20 at 256 (ms of matrix products for 10 blocks of the
# bundled subject, one core with AMX).
USUAL = {"cpu": Sizes(1152, ROWS_PER_BLOCK, 1152), "cuda": Sizes(65536, 512, 1152)}


class AtOnce:
    """The sizes in which this process computes with one subject. They only ever shrink."""

    def __init__(self, name: str, device: torch.device, bytes_per_token: int) -> None:
        self._name = name
        self._device = device
        self.sizes = USUAL.get(device.type, USUAL["cpu"])
        if device.type == "cuda":
            self.sizes = sizes_within(_free_bytes(device), bytes_per_token)

    def fit(self, size: Size, least: int, compute: Callable[[], T]) -> T:
        """Return what `compute` returns, done anew at half the size each time that memory runs out.

        least:  the size at which a batch has one row.
        Raises: OutOfMemory if that does not fit either.
        """
        while True:
            try:
                return compute()
            except (RuntimeError, MemoryError) as exc:
                if not _ran_out(exc):
                    raise
                self._halve(size, least, exc)
            # Only here nothing refers to the failed batch any more.
            if self._device.type == "cuda":
                torch.cuda.empty_cache()

    def _halve(self, size: Size, least: int, exc: Exception) -> None:
        """Make a size smaller. Raises OutOfMemory, from exc, if it is the least already."""
        reason = str(exc).partition("\n")[0] or type(exc).__name__
        before, free = getattr(self.sizes, size), f"{_free_bytes(self._device) / 2**20:,.0f} MiB"
        if before <= least:
            raise OutOfMemory(f"one row of {self._name} ({size}={least}) with {free} free: {reason}") from exc
        self.sizes = self.sizes._replace(**{size: max(least, before // 2)})
        log.warning("batch halved", subject=self._name, size=size, before=before, free=free, reason=reason)


def sizes_within(free_bytes: int, bytes_per_token: int) -> Sizes:
    """Return a GPU's sizes for its free memory: powers of two that fill at most half of it, and the usual at most."""
    tokens = max(1, free_bytes // (2 * bytes_per_token))
    tokens = min(USUAL["cuda"].tokens, 1 << (tokens.bit_length() - 1))
    rows = max(1, tokens * USUAL["cuda"].rows // USUAL["cuda"].tokens)
    return Sizes(tokens, rows, min(tokens, USUAL["cuda"].traced))


def _ran_out(exc: Exception) -> bool:
    """Return whether memory ran out: only on CUDA does torch have a type for it."""
    allocators = ("DefaultCPUAllocator", "std::bad_alloc")
    return isinstance(exc, MemoryError | torch.OutOfMemoryError) or any(name in str(exc) for name in allocators)


def _free_bytes(device: torch.device) -> int:
    """Return how much memory this process can still have."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    page = os.sysconf("SC_PAGE_SIZE")
    free = os.sysconf("SC_AVPHYS_PAGES") * page
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return free
    return min(free, limit - int(Path("/proc/self/statm").read_text("ascii").split()[0]) * page)
