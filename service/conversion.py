"""Files of a dictionary to the canonical form, by the worker side in a process of its own: the service has no torch."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from schema.errors import InvalidInput, Unavailable
from schema.health import Inspection
from schema.neurons import KINDS, neurons_spec
from schema.records import DictionarySpec
from schema.settings import load_settings
from schema.subjects import subject_facts

PATH_HELP = "Files of a dictionary, hf:ORG/REPO/PATH@REVISION, or `neurons` or `heads` of a layer."


class Conversion(NamedTuple):
    """A converted dictionary, and in a line what it was. No weights of neurons and heads.

    labels: lines of `schema.wire.ImportedLabel`, where its authors call its features something.
    """

    spec: DictionarySpec
    weights: Path | None
    found: str
    labels: Path | None = None


class Listed(NamedTuple):
    """A dictionary below a folder or a release: where it is from there, and what converts it."""

    name: str
    path: str


def convert(path: str, folder: Path, options: Mapping[str, object]) -> Conversion:
    """Return what a path, a reference or a word is, converted in a folder.

    options: of `python -m workers.formats`, without dashes; None leaves one out.
    Raises:  InvalidInput with the converter's own words; Unavailable without a hub.
    """
    if path in KINDS:
        facts = subject_facts(str(options["subject"]), load_settings())
        chosen: dict[str, Any] = {name: options.get(name) for name in ("layer", "site", "name", "revision")}
        return Conversion(neurons_spec(path, facts, **chosen), None, "")
    return _converted(folder, _run(path, folder, options))


def convert_or_list(path: str, folder: Path, options: Mapping[str, object]) -> Conversion | list[Listed]:
    """Return what `convert` does or, of a folder or a reference with dictionaries below it, which these are."""
    if path in KINDS:
        return convert(path, folder, options)
    found = _run(path, folder, options, "--list")
    listing = folder / "listing.json"
    if listing.is_file():
        return [Listed(**one) for one in json.loads(listing.read_text("utf-8"))]
    return _converted(folder, found)


def inspect(path: str, folder: Path, options: Mapping[str, object]) -> Inspection:
    """Return what is known of a dictionary without submitting it, converted in a folder. Raises as `convert`."""
    _run(path, folder, options, "--inspect")
    return Inspection.model_validate_json((folder / "inspection.json").read_bytes())


def _run(path: str, folder: Path, options: Mapping[str, object], *flags: str) -> str:
    argv = [sys.executable, "-m", "workers.formats", "--out", str(folder), *flags, *_as_arguments(options), "--", path]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        reason = lines[-1].removeprefix("error: ") if lines else f"{path} could not be converted"
        raise Unavailable(reason) if done.returncode == 1 and len(lines) == 1 else InvalidInput(reason)
    return done.stdout.strip()


def _as_arguments(options: Mapping[str, object]) -> Sequence[str]:
    return [f"--{name.replace('_', '-')}={value}" for name, value in options.items() if value is not None]


def _converted(folder: Path, found: str) -> Conversion:
    spec = DictionarySpec.model_validate_json((folder / "spec.json").read_bytes())
    labels = folder / "labels.jsonl"
    return Conversion(spec, folder / "weights.safetensors", found, labels if labels.is_file() else None)
