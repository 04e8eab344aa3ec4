"""Dictionaries in files as SAELens saves them, and the way of any files through our conversion and back."""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from schema.records import DictionarySpec
from schema.settings import Settings
from workers.dictionary import LoadedDictionary, load_dictionary
from workers.formats.files import Wanted
from workers.formats.readers import convert
from workers.formats.writing import write_converted
from workers.subject import Subject


def saelens_config(d_in: int, d_sae: int, hook: str, architecture: str = "standard", **more: Any) -> dict[str, Any]:
    """Return a cfg.json of SAELens 6 that says what must be said, and more; `metadata` is added to, not replaced."""
    metadata = {"sae_lens_version": "6.54.0", "hook_name": hook} | more.pop("metadata", {})
    return {"architecture": architecture, "d_in": d_in, "d_sae": d_sae, "metadata": metadata} | more


def save_saelens(folder: Path, config: dict[str, Any], tensors: dict[str, Tensor]) -> Path:
    """Save a folder of SAELens, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cfg.json").write_text(json.dumps(config))
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "sae_weights.safetensors")
    return folder


def converted(source: Path | str, subject_folder: Path, subject: Subject, out: Path, **wanted: Any) -> LoadedDictionary:
    """Return a dictionary that was converted, written to a folder and loaded again.

    subject_folder, subject: the same one, in files and loaded.
    wanted:                  what a user says of the dictionary, as `Wanted` has it.
    """
    settings = Settings()
    write_converted(convert(str(source), Wanted(str(subject_folder), **wanted), settings), out, settings)
    spec = DictionarySpec.model_validate_json((out / "spec.json").read_text())
    weights = out / "weights.safetensors"
    return load_dictionary(spec, subject, weights if weights.is_file() else None)
