"""A real dictionary and a real corpus where a developer has them: the folder that GLOSSARIUM_DEV_DATA names."""

import os
from pathlib import Path

from schema.records import DictionarySpec
from schema.settings import Settings
from schema.subjects import BUNDLED
from workers.formats.files import Wanted
from workers.formats.readers import convert
from workers.formats.writing import write_converted

VARIABLE = "GLOSSARIUM_DEV_DATA"


def dev_data() -> Path | None:
    """Return the folder, None where none is named."""
    return Path(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None


def real_dictionary(folder: Path, scratch: Path, settings: Settings) -> tuple[DictionarySpec, Path]:
    """Return the spec and the weights of the folder's first dictionary of the bundled subject, converted in scratch."""
    source = next(folder.glob("*/cfg.json")).parent
    converted = convert(str(source), Wanted(BUNDLED), settings)
    write_converted(converted, scratch / "converted", settings)
    return converted.spec, scratch / "converted" / "weights.safetensors"


def real_corpus(folder: Path) -> Path:
    """Return the folder's corpus."""
    return folder / "corpus.jsonl.gz"
