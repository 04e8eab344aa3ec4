"""Where a corpus lies that was not uploaded: in this package, or under the operator's folder and nowhere else."""

from importlib.resources import files
from pathlib import Path

from schema.errors import BadCorpus

BUNDLED = "bundled"
OPERATOR = "operator:"
_SHOWN = 10


def bundled_path() -> Path:
    """Return the corpus that comes with this package."""
    return Path(str(files("schema") / "data" / "corpus.jsonl"))


def operator_path(name: str, folder: Path | None) -> Path:
    """Return the file or folder that `operator:NAME` names.

    Raises: BadCorpus if there is no operator's folder, no such name in it, or the name leads out of it.
    """
    if folder is None:
        raise BadCorpus(f"corpus={OPERATOR + name!r}; this installation has no corpora folder (GLOSSARIUM_CORPORA_DIR)")
    root = folder.resolve()
    if "\0" in name or not name.strip():
        raise BadCorpus(f"corpus={OPERATOR + name!r} names no file; {_known(root)}")
    path = (root / name).resolve()
    if root not in path.parents:
        raise BadCorpus(f"corpus={OPERATOR + name!r} leads out of the operator's corpora folder; {_known(root)}")
    if not path.exists():
        raise BadCorpus(f"corpus={OPERATOR + name!r} is not in the operator's corpora folder; {_known(root)}")
    return path


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files under a folder.

    Raises: BadCorpus if there are none.
    """
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    n_bytes = sum(file.stat().st_size for file in files)
    if n_bytes == 0:
        raise BadCorpus(f"corpus {path.name!r} is empty; a corpus needs at least one document with text")
    return n_bytes


def _known(root: Path) -> str:
    names = sorted(entry.name for entry in root.iterdir() if not entry.name.startswith(".")) if root.is_dir() else []
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"there are: {', '.join(names[:_SHOWN]) or 'none'}{more}"
