"""One thread for torch: the subjects here are tiny, and threads that wait for one another cost more than they give."""

from pathlib import Path

import pytest
import torch

from schema.settings import load_settings

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def cache_dir() -> Path:
    """Return where the converted bundled subject is kept."""
    return load_settings().cache_dir
