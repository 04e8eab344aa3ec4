"""Every format, in the order in which a path is held against them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from schema.errors import BadWeights, InvalidInput
from schema.neurons import KINDS, neurons_spec
from schema.settings import Settings
from schema.subjects import subject_facts
from workers.formats import (
    axbench,
    dictionary_learning,
    directions,
    gemma_scope,
    hub,
    llama_scope,
    saelens,
    sparsify,
)
from workers.formats.files import Converted, Wanted
from workers.formats.writing import facts_here


class Reader(NamedTuple):
    """A format whose dictionaries are folders."""

    name: str
    files: tuple[str, ...]
    recognises: Callable[[Path], bool]
    convert: Callable[[Path, Wanted], Converted]


FOLDERS = tuple(
    Reader(module.NAME, module.FILES, module.recognises, module.convert)
    for module in (saelens, sparsify, dictionary_learning, llama_scope, gemma_scope, axbench)
)
_WORDS = {"neurons": "MLP neurons", "heads": "outputs of attention heads"}
_MOST_LISTED = 8


def convert(path: str, wanted: Wanted, settings: Settings) -> Converted:
    """Return what a path, a reference `hf:ORG/REPO/PATH@REVISION` or a word holds, in canonical form.

    Raises: InvalidInput of any kind, naming the file and what was expected; Unavailable without a hub.
    """
    wanted = replace(wanted, facts=facts_here(wanted.subject, settings))
    if path in KINDS:
        facts = subject_facts(wanted.subject, settings)
        spec = neurons_spec(
            path, facts, layer=wanted.layer, site=wanted.site, name=wanted.name, revision=wanted.revision
        )
        return Converted(spec, {}, _WORDS[path])
    if not hub.is_reference(path):
        return _scaled(_convert(Path(path).expanduser(), path, wanted), wanted)
    fetched = hub.fetch(hub.parse(path), [name for reader in FOLDERS for name in reader.files])
    named = replace(wanted, name=wanted.name or hub.short_name(path))
    converted = _scaled(_convert(fetched.path, path, named), wanted)
    return converted._replace(found=f"{converted.found} at {fetched.reference}")


def _convert(place: Path, said: str, wanted: Wanted) -> Converted:
    for reader in FOLDERS:
        folder = _folder_of(place, reader.files)
        if reader.recognises(folder):
            return reader.convert(folder, wanted)
    if directions.recognises(place):
        return directions.convert(place, wanted)
    raise BadWeights(f"path={said!r}: {_state(place)}; must be {', '.join(known_formats())}")


def _scaled(converted: Converted, wanted: Wanted) -> Converted:
    """Return a dictionary whose inputs are scaled as the user said, where its files say nothing of it."""
    encoder = converted.spec.encoder
    if wanted.norm_coefficient is None or encoder.normalize != "none":
        return converted
    if encoder.kind in ("linear", "neurons") or wanted.norm_coefficient <= 0:
        raise InvalidInput(f"norm_coefficient={wanted.norm_coefficient}; must be positive, of an encoder with weights")
    scaled = {"normalize": "expected_average_only_in", "norm_coefficient": wanted.norm_coefficient}
    spec = converted.spec.model_copy(update={"encoder": encoder.model_copy(update=scaled)})
    return converted._replace(spec=spec)


def known_formats() -> list[str]:
    """Return what may be submitted, in words."""
    listed = [f"{reader.name} ({' and '.join(reader.files)})" for reader in FOLDERS]
    return [*listed, directions.NAME, "a LoReFT or DAS rotation", "or the word neurons or heads"]


def _folder_of(place: Path, names: tuple[str, ...]) -> Path:
    """Return the folder of a dictionary, of which one file may be named."""
    for name in names:
        if place.is_file() and place.as_posix().endswith("/" + name):
            return place.parents[name.count("/")]
    return place


def _state(place: Path) -> str:
    """Return what is wrong with a path that no reader takes."""
    if not place.exists():
        return "no such path"
    if not place.is_dir():
        return "no known format"
    for reader in FOLDERS:
        there = [name for name in reader.files if (place / name).is_file()]
        if there:
            missing = ", ".join(name for name in reader.files if name not in there)
            return f"it has {', '.join(there)} but not {missing}: was the download finished?"
    inside = [folder.name for folder in sorted(place.iterdir()) if _is_dictionary(folder)]
    if inside:
        more = f" and {len(inside) - _MOST_LISTED} more" if len(inside) > _MOST_LISTED else ""
        return f"it holds {len(inside)} dictionaries; name one of {', '.join(inside[:_MOST_LISTED])}{more}"
    return "no known format"


def _is_dictionary(place: Path) -> bool:
    return any(reader.recognises(place) for reader in FOLDERS)
