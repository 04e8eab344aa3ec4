"""What a folder or a release holds: the dictionaries below it, each by a path of its own that converts."""

import json
import re
from pathlib import Path
from typing import NamedTuple

from workers.formats import hub
from workers.formats.readers import FOLDERS

LISTING = "listing.json"
# Any model has such a file; without its weights beside it, it is no sign of a dictionary.
_GENERIC = frozenset({"config.json"})
_PARTS = sorted({name for reader in FOLDERS for name in reader.files} - _GENERIC)


class Listed(NamedTuple):
    """A dictionary below a folder or a release: where it is from there, and the path or reference that converts."""

    name: str
    path: str


def list_dictionaries(path: str) -> list[Listed]:
    """Return the dictionaries below a folder or a reference, by name; none where it is one itself, or holds none.

    What has only some files of a dictionary is among them, so that it is named and not passed over.
    Raises: BadWeights, InvalidInput as `hub.list_folders`.
    """
    if hub.is_reference(path):
        found = hub.list_folders(hub.parse(path), [reader.files for reader in FOLDERS], _PARTS)
    else:
        top = Path(path).expanduser()
        below = _within(top) if top.is_dir() else []
        found = {place.relative_to(top).as_posix(): str(place) for place in below if place != top}
    return [Listed(name, found[name]) for name in sorted(found, key=_natural)]


def write_listing(path: str, out: Path) -> int:
    """Write which dictionaries are below a path to a folder, and return how many; none leave no file.

    Raises: as `list_dictionaries`.
    """
    found = list_dictionaries(path)
    (out / LISTING).unlink(missing_ok=True)
    if found:
        out.mkdir(parents=True, exist_ok=True)
        (out / LISTING).write_text(json.dumps([one._asdict() for one in found]), "utf-8")
    return len(found)


def _within(folder: Path) -> list[Path]:
    """Return the outermost dictionaries in a folder; where there is none, the folder itself if it has a part of one."""
    if any(reader.recognises(folder) for reader in FOLDERS):
        return [folder]
    below = [found for inside in sorted(folder.iterdir()) if _is_searched(inside) for found in _within(inside)]
    is_part = any((folder / name).is_file() for name in _PARTS)
    return below or ([folder] if is_part else [])


def _is_searched(place: Path) -> bool:
    return place.is_dir() and not place.is_symlink() and not place.name.startswith(".")


def _natural(name: str) -> list[str | int]:
    """Return what sorts layer_2 before layer_10."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"(\d+)", name))]
