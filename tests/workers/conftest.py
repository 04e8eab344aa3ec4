"""One thread for torch: the subjects here are tiny, and threads that wait for one another cost more than they give."""

import logging
from pathlib import Path

import pytest
import structlog
import torch

from schema.settings import load_settings

torch.set_num_threads(1)
structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))


@pytest.fixture(scope="session")
def cache_dir() -> Path:
    """Return where the converted bundled subject is kept."""
    return load_settings().cache_dir
