"""Loads a subject once per process: the bundled one, a local folder, or a Hugging Face id.

Only safetensors are read, and no code that comes with a model is run. Whether an installation allows a subject is
schema.subjects.check_allowed's business.
"""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import structlog
import torch

from schema.errors import UnknownSubject
from schema.settings import Settings
from schema.subjects import BUNDLED, facts_of_config
from workers.bundled import convert_bundled
from workers.devices import choose_device, choose_dtype
from workers.subject import Subject

log = structlog.get_logger(__name__)

_LOADING = threading.Lock()


def load_subject(name: str, revision: str | None, settings: Settings) -> Subject:
    """Return a subject, loaded once per process.

    name:     `bundled:smollm2-135m-instruct`, a folder, or a Hugging Face id.
    revision: of a Hugging Face id; elsewhere None, or the revision that is expected to be found.
    Raises:   UnknownSubject if there is no such subject or revision, or its logits are no product with its head.
    """
    with _LOADING:
        return _load(name, revision, settings.cache_dir, settings.device, settings.dtype)


@lru_cache(maxsize=1)
def _load(name: str, revision: str | None, cache_dir: Path, device: str, dtype: str) -> Subject:
    place = choose_device(device)
    with _quiet():
        if name == BUNDLED:
            folder = convert_bundled(cache_dir)
            subject = _load_folder(name, folder, folder.name.rpartition("-")[2], place, choose_dtype(dtype, place))
        elif name.startswith("bundled:"):
            raise UnknownSubject(f"subject={name!r}; must be {BUNDLED}, a folder or a Hugging Face id")
        elif (folder := Path(name).expanduser()).is_dir():
            subject = _load_folder(name, folder, _revision_of(folder), place, choose_dtype(dtype, place))
        else:
            return _load_hub(name, revision, place, choose_dtype(dtype, place))
    if revision not in (None, subject.revision):
        raise UnknownSubject(f"revision={revision!r}; {name} is {subject.revision}")
    return subject


def _load_folder(name: str, folder: Path, revision: str, device: torch.device, dtype: torch.dtype) -> Subject:
    return _build(name, str(folder), revision, device, dtype, {"local_files_only": True})


def _load_hub(name: str, revision: str | None, device: torch.device, dtype: torch.dtype) -> Subject:
    return _build(name, name, revision, device, dtype, {"revision": revision} if revision else {})


def _build(
    name: str, source: str, revision: str | None, device: torch.device, dtype: torch.dtype, options: dict[str, Any]
) -> Subject:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    options = options | {"trust_remote_code": False}
    try:
        config = AutoConfig.from_pretrained(source, **options)
        facts = facts_of_config(name, config.to_dict())
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
        model: Any = AutoModelForCausalLM.from_pretrained(source, dtype=dtype, use_safetensors=True, **options)
    except (OSError, ValueError, KeyError) as exc:
        reason = str(exc).splitlines()[0] if str(exc) else type(exc).__name__
        raise UnknownSubject(f"subject={name!r}; must be a causal language model in safetensors: {reason}") from exc
    model = model.to(device).eval().requires_grad_(False)
    subject = Subject(model, tokenizer, facts, revision or str(getattr(model.config, "_commit_hash", "unknown")))
    log.info("subject_loaded", **subject.fingerprint)
    return subject


def _revision_of(folder: Path) -> str:
    """Return a hash of the files that decide what a folder's subject computes."""
    names = [*folder.glob("*.safetensors"), *(folder / n for n in ("config.json", "tokenizer.json"))]
    digest = hashlib.sha256()
    for path in sorted(path for path in names if path.is_file()):
        with path.open("rb") as file:
            digest.update(f"{path.name}:{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()[:16]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers from drawing progress bars and logging advice."""
    from transformers.utils import logging as transformers_logging

    logging = cast(Any, transformers_logging)
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
