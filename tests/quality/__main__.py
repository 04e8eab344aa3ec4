"""Measure labels on the real dictionary of GLOSSARIUM_DEV_DATA, ours against the paper's best single method.

    python -m tests.quality --model FILE.gguf        # hours on two cores; stopped, it goes on where it was
    python -m tests.quality --model FILE.gguf --only judge pilot

Writes docs/quality.json and docs/quality.md from what is known so far.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from rich.console import Console

from schema.errors import StackError
from schema.records import Method
from schema.settings import Settings
from service.client import Client
from service.stack import Stack
from tests.dev_data import dev_data, real_corpus, real_dictionary
from tests.quality import arms, planted, writing
from tests.quality.running import Bed, result

FOLDER = Path("build/quality")
AT_ONCE = 128  # requests in flight: enough for full batches of each kind of prompt
LLM_PORT = 8089  # part of every recipe: with another one, everything would be made anew
STEPS = ("judge", "pilot", "compared", "judged", "stability")


def main() -> int:
    """Take the steps that were asked for, and write what is known."""
    parser = argparse.ArgumentParser(prog="python -m tests.quality", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="a GGUF file: describer, writer and judge")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the stack and what is known are kept")
    parser.add_argument("--only", nargs="+", choices=STEPS, default=STEPS)
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    os.environ.update(_llm_variables(options.model))
    with (
        _llm(options.model, options.folder),
        Stack(options.folder / "stack") as stack,
        Client(stack.api_url, timeout=120.0, key=stack.key) as client,
    ):
        bed = _bed(client, stack, options.folder)
        for step in options.only:
            _STEPS[step](bed)
    writing.write(options.folder, options.docs)
    return 0


def _judge(bed: Bed) -> None:
    planted.measure(Settings(embeddings_base_url=bed.embeddings_base_url), bed.folder)


def _pilot(bed: Bed) -> None:
    result(bed, arms.ours_pilot())
    result(bed, arms.paper_pilot())


def _compared(bed: Bed) -> None:
    result(bed, arms.ours())
    result(bed, arms.paper(_best(bed)))


def _judged(bed: Bed) -> None:
    result(bed, arms.ours(judged=True))
    result(bed, arms.paper(_best(bed), judged=True))


def _stability(bed: Bed) -> None:
    first, second = result(bed, arms.ours()), result(bed, arms.second_seed())
    writing.measure_stability(first, second, bed)


_STEPS: dict[str, Callable[[Bed], None]] = {
    "judge": _judge,
    "pilot": _pilot,
    "compared": _compared,
    "judged": _judged,
    "stability": _stability,
}


def _best(bed: Bed) -> Method:
    """Return the paper's single method that did best in the pilot."""
    return writing.best_of(result(bed, arms.paper_pilot()))


def _bed(client: Client, stack: Stack, folder: Path) -> Bed:
    """Return the bed, with the dictionary and the corpus submitted the first time."""
    data = dev_data()
    if data is None:
        raise StackError("GLOSSARIUM_DEV_DATA is not set; it names the folder with a dictionary and a corpus")
    spec, weights = real_dictionary(data, folder / "converted", Settings())
    if spec.n_features != arms.N_FEATURES:
        raise StackError(f"a dictionary of {spec.n_features} features; those compared are of {arms.N_FEATURES}")
    known = (found for found in client.dictionaries() if found.spec == spec and found.state == "ready")
    dictionary = next(known, None)
    if dictionary is None:
        dictionary = client.upload_weights(client.submit_dictionary(spec).id, weights)
    corpus = client.upload_corpus(real_corpus(data))
    urls = (stack.state.database_url, stack.state.embeddings_base_url)
    return Bed(client, *urls, dictionary.id, str(corpus.id), folder, Console())


def _llm_variables(model: Path) -> dict[str, str]:
    return {
        "LLM_BASE_URL": f"http://127.0.0.1:{LLM_PORT}/v1",
        "LLM_MODEL": model.stem,
        "GLOSSARIUM_LLM_CONCURRENCY": str(AT_ONCE),
        "GLOSSARIUM_LLM_TIMEOUT_S": "600",
    }


@contextmanager
def _llm(model: Path, folder: Path) -> Iterator[None]:
    """Serve a model for as long as the block lasts."""
    argv = [sys.executable, "-m", "tests.quality.llm_server", "--port", str(LLM_PORT), "--model", str(model)]
    # Large tensors come and go: memory that is given back is paged in again, an eighth of the time.
    kept = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**35), "MALLOC_ARENA_MAX": "1"}
    server = subprocess.Popen([*argv, "--folder", str(folder)], env=os.environ | kept)
    try:
        _wait(server)
        yield
    finally:
        server.terminate()
        server.wait(600)


def _wait(server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 300
    while server.poll() is None and time.monotonic() < deadline:
        try:
            if httpx.get(f"http://127.0.0.1:{LLM_PORT}/health", timeout=5).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    raise StackError("the LLM's server did not start")


if __name__ == "__main__":
    sys.exit(main())
