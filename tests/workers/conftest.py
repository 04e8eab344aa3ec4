"""One thread for torch: the subjects here are tiny, and threads that wait for one another cost more than they give."""

import logging
import os
from pathlib import Path

import pytest
import structlog
import torch

torch.set_num_threads(1)
structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where the converted bundled subject is kept: GLOSSARIUM_TEST_DATA, or a folder of this session."""
    kept = os.environ.get("GLOSSARIUM_TEST_DATA")
    return Path(kept) if kept else tmp_path_factory.mktemp("data")
