"""Tar files as streams: written and read member by member, in the memory of one.

Only plain files with short names, as we write them: a link, a device, an extended header or a name that leads elsewhere
is refused before anything is made of it. The standard library would read an extended header of any size into memory.
"""

import tarfile
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from schema.errors import BadArchive

_BLOCK = 512
END = bytes(2 * _BLOCK)
"""What follows the last member."""

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-+@=")


class Source(Protocol):
    """Bytes that come one after the other; fewer than asked for only at the end."""

    def read(self, n: int, /) -> bytes:
        """Return the next n bytes."""
        ...


class Member(NamedTuple):
    """A file in a tar. It must be read before the next one is asked for; what is left is passed over."""

    name: str
    size: int
    source: "_Content"

    def read(self, n: int) -> bytes:
        """Return the next n bytes; b"" at the end. Raises BadArchive where the tar ends too early."""
        return self.source.read(n)

    def whole(self, most: int) -> bytes:
        """Return all of it. Raises BadArchive if it is larger than `most` bytes."""
        if self.size > most:
            raise BadArchive(f"member={self.name!r} has {self.size:,} bytes; at most {most:,} are read")
        return self.read(self.size)

    def chunks(self, size: int = 1 << 20) -> Iterator[bytes]:
        """Yield what is left of it."""
        while chunk := self.read(size):
            yield chunk


def header(name: str, size: int) -> bytes:
    """Return what comes before a member's bytes; the same name and size, the same header."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, 0o644
    return entry.tobuf(tarfile.GNU_FORMAT)


def padding(size: int) -> bytes:
    """Return what comes after a member's bytes."""
    return bytes(-size % _BLOCK)


def member(name: str, content: bytes) -> bytes:
    """Return a whole member."""
    return header(name, len(content)) + content + padding(len(content))


def members(source: Source, *, what: str = "file") -> Iterator[Member]:
    """Yield the members of a tar, in order.

    what:  how to call the file in messages.

    Raises: BadArchive where it is no tar, is cut, or holds anything but plain files.
    """
    at = 0
    while True:
        block = source.read(_BLOCK)
        if block == bytes(_BLOCK):
            return
        if len(block) < _BLOCK:
            raise BadArchive(f"{what} is cut: it ends after {at + len(block):,} bytes, without the end of a tar")
        entry = _entry(block, at, what)
        content = _Content(source, entry.size, f"{what} is cut within member={entry.name!r}")
        yield Member(entry.name, entry.size, content)
        content.skip()
        at += _BLOCK + entry.size + -entry.size % _BLOCK


def check_name(name: str) -> str:
    """Return a member's name if it is a plain relative path, below the folder that it is unpacked to.

    Raises: BadArchive for `..`, an absolute path, and characters that a file of ours never has in its name.
    """
    parts = name.split("/")
    if not all(part and not part.startswith(".") and set(part) <= _PLAIN for part in parts):
        raise BadArchive(f"member={name[:200]!r}; a name must be relative, without `..`, of letters, digits and `._-`")
    return name


def safe(name: str) -> str:
    """Return a name as a part of a file's name, at most 60 characters: what could lead elsewhere becomes `_`."""
    plain = "".join(character if character in _PLAIN else "_" for character in name)
    return plain.lstrip(".")[:60] or "_"


def _entry(block: bytes, at: int, what: str) -> tarfile.TarInfo:
    try:
        entry = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
    except (tarfile.TarError, UnicodeDecodeError) as exc:
        kind = "is not a tar" if at == 0 else f"is damaged after {at:,} bytes"
        raise BadArchive(f"{what} {kind} ({exc})") from exc
    if not entry.isreg():
        kind = "a link" if entry.issym() or entry.islnk() else f"of type {entry.type!r}"
        raise BadArchive(f"member={entry.name[:200]!r} is {kind}; only plain files are taken")
    if entry.size < 0:
        raise BadArchive(f"member={entry.name[:200]!r} says that it has {entry.size} bytes")
    check_name(entry.name)
    return entry


class _Content:
    """The bytes of one member."""

    def __init__(self, source: Source, size: int, cut: str) -> None:
        self._source, self._left, self._padding, self._cut = source, size, -size % _BLOCK, cut

    def read(self, n: int) -> bytes:
        wanted = min(n, self._left)
        found = self._source.read(wanted) if wanted else b""
        if len(found) < wanted:
            raise BadArchive(f"{self._cut}: {self._left - len(found):,} bytes are missing")
        self._left -= wanted
        return found

    def skip(self) -> None:
        """Pass over what is left, and what fills the last block."""
        while self._left:
            self.read(1 << 20)
        if len(self._source.read(self._padding)) < self._padding:
            raise BadArchive(self._cut)
