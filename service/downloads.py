"""Downloads of exports: streamed to a file or a folder beside its place, which is renamed when all of it has come."""

import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from schema.errors import Conflict, NotFound
from schema.store.exports import BATCH
from schema.wire import ExportFormat
from service.interchange import tars

Progress = Callable[[int], None]
"""Called with how many features have come, as far as the format lets one tell."""

FOLDERS: frozenset[ExportFormat] = frozenset({"delphi", "neuronpedia"})
"""Formats that are sent as a tar and unpacked to a folder."""

_BY_LINES: frozenset[ExportFormat] = frozenset({"csv", "json"})
_PER_NUMBER: dict[ExportFormat, int] = {"delphi": 1, "neuronpedia": BATCH, "archive": 1}
_NUMBER = re.compile(r"(?:features/|batch-|_latent)([0-9]+)\.(?:txt|jsonl\.gz|jsonl\.zst)$")


@contextmanager
def placed(out: Path) -> Iterator[Path]:
    """Lend a path to write to, and put what lies there in its place at the end; nothing is left of what fails.

    Raises: Conflict if the place is taken, NotFound if its folder is not there.
    """
    if out.exists() or out.is_symlink():
        raise Conflict(f"{out} exists; name another place with --out")
    if not out.parent.is_dir():
        raise NotFound(f"no folder {out.parent}")
    with tempfile.TemporaryDirectory(prefix=f".{out.name[:50]}.", dir=out.parent) as scratch:
        whole = Path(scratch) / "whole"
        yield whole
        if out.exists() or out.is_symlink():
            raise Conflict(f"{out} exists by now; name another place with --out")
        whole.rename(out)


def receive(format_: ExportFormat, parts: Iterator[bytes], whole: Path, progress: Progress) -> None:
    """Write a download to a path: a folder where the format is one, else a file, synced to the disk.

    Raises: BadArchive where a tar holds what it may not, or ends too early.
    """
    if format_ in FOLDERS:
        _unpack(format_, _Parts(parts, None), whole, progress)
        return
    with whole.open("xb") as file:
        if format_ == "archive":
            for member in tars.members(_Parts(parts, file), what="the export"):
                if number := _number(member.name):
                    progress(number)
        else:
            n_lines = 0
            for part in parts:
                file.write(part)
                n_lines += part.count(b"\n")
                progress(n_lines if format_ in _BY_LINES else 0)
        file.flush()
        os.fsync(file.fileno())


def _unpack(format_: ExportFormat, source: tars.Source, folder: Path, progress: Progress) -> None:
    folder.mkdir()
    parents: set[str] = set()
    for member in tars.members(source, what="the export"):  # which names no file outside
        parent = member.name.rpartition("/")[0]
        if parent not in parents:
            (folder / parent).mkdir(parents=True, exist_ok=True)
            parents.add(parent)
        with open(f"{folder}/{member.name}", "xb", buffering=0) as file:
            for chunk in member.chunks():
                file.write(chunk)
        progress(_number(member.name) * _PER_NUMBER[format_])


def _number(name: str) -> int:
    """Return the last number in a member's name: a feature, or a batch of them; 0 where it has none."""
    found = _NUMBER.search(name)
    return int(found[1]) if found else 0


class _Parts:
    """Parts that come, as a source to read from; what is read is also written to a file."""

    def __init__(self, parts: Iterator[bytes], copy: IO[bytes] | None) -> None:
        self._parts, self._copy, self._held = parts, copy, bytearray()

    def read(self, n: int, /) -> bytes:
        """Return the next n bytes, fewer at the end."""
        while len(self._held) < n and (part := next(self._parts, None)) is not None:
            self._held += part
        taken = bytes(self._held[:n])
        del self._held[:n]
        if self._copy is not None:
            self._copy.write(taken)
        return taken
