"""Batches that do not fit are halved: a process of its own really runs out of memory."""

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.workers.cramped import TOO_LARGE, WORK
from workers.memory import USUAL, Sizes, sizes_within


@pytest.fixture(scope="module")
def cramped() -> dict[str, Any]:
    argv = [sys.executable, "-m", "tests.workers.cramped"]
    done = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=240)
    return dict(json.loads(done.stdout.splitlines()[-1])) | {"log": done.stdout}


@pytest.mark.parametrize(
    ("work", "size"), [("changes", "tokens"), ("calibrations", "tokens"), ("texts", "rows"), ("jacobians", "traced")]
)
def test_work_that_runs_out_of_memory_is_done_again_in_halves(cramped: dict[str, Any], work: str, size: str) -> None:
    halved, usual = cramped[work]["sizes"][size], getattr(TOO_LARGE, size)
    assert halved < usual
    assert usual % halved == 0
    assert {name: value for name, value in cramped[work]["sizes"].items() if name != size} == {
        name: value for name, value in TOO_LARGE._asdict().items() if name != size
    }
    assert cramped[work]["same"]
    assert f"before={usual}" in cramped["log"]


@pytest.mark.parametrize("work", WORK)
def test_provenance_tells_the_sizes_that_were_found(cramped: dict[str, Any], work: str) -> None:
    sizes, fingerprint = cramped[work]["sizes"], cramped[work]["fingerprint"]
    assert (fingerprint["tokens_per_forward"], fingerprint["rows_per_batch"]) == (sizes["tokens"], sizes["rows"])


def test_a_row_that_does_not_fit_is_an_error_that_says_what_it_needs_and_what_there_is(cramped: dict[str, Any]) -> None:
    refused = cramped["refused"]
    assert refused["sizes"]["tokens"] == 100
    assert refused["error"].startswith("one row of tiny-llama (tokens=100) with ")
    assert " MiB free: " in refused["error"]
    assert "you tried to allocate" in refused["error"]


def test_a_gpu_starts_with_powers_of_two_in_half_of_its_free_memory() -> None:
    assert sizes_within(2**40, 2**18) == USUAL["cuda"] == Sizes(65536, 512, 1152)
    assert sizes_within(2**33, 2**18) == Sizes(16384, 128, 1152)
    assert sizes_within(2**33 - 1, 2**18) == Sizes(8192, 64, 1152)
    assert sizes_within(2**33, 270_000) == Sizes(8192, 64, 1152)
    assert sizes_within(0, 2**18) == Sizes(1, 1, 1)
