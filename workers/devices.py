"""Where tensors are and what they are made of: the device and the dtype that settings name, or that fit a machine."""

from functools import lru_cache
from pathlib import Path

import torch

_DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


def choose_device(setting: str) -> torch.device:
    """Return the device that a setting names; `auto` is the first CUDA device where there is one."""
    if setting == "auto":
        setting = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(setting)


def choose_dtype(setting: str, device: torch.device) -> torch.dtype:
    """Return the dtype that a setting names; `auto` is bfloat16 where the device computes it natively."""
    if setting in _DTYPES:
        return _DTYPES[setting]
    native = device.type == "cuda" or (device.type == "cpu" and cpu_has_bfloat16())
    return torch.bfloat16 if native else torch.float32


@lru_cache
def cpu_has_bfloat16() -> bool:
    """Return whether this processor has instructions for products in bfloat16."""
    try:
        flags = Path("/proc/cpuinfo").read_text("ascii", "replace")
    except OSError:  # not Linux
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags
