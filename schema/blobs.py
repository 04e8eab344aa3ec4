"""Content-addressed files: weights, corpora, partial merges and exports, each under `ab/cd/<sha256>`.

Any fsspec URL holds them. What comes in is staged in a local file first, so that it can be checked before it counts:
nothing is found under its digest until it is whole, and nothing is left of what failed. Who refers to which blob, and
which are referred to by nobody, this room does not know.
"""

import errno
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, NamedTuple, cast

import fsspec
from fsspec.implementations.local import LocalFileSystem

from schema.errors import GlossariumError, NotFound, StorageFull, TooLarge, Unavailable
from schema.settings import Settings

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_CHUNK = 1 << 20
_PROBE = b"glossarium doctor"


class BlobRef(NamedTuple):
    """A stored blob."""

    sha256: str
    n_bytes: int


class Staged(NamedTuple):
    """A whole file that is not kept yet."""

    path: Path
    sha256: str
    n_bytes: int


class Blobs:
    """A content-addressed store behind an fsspec URL; remote blobs are cached under `local`."""

    def __init__(self, url: str, local: Path) -> None:
        """Open the store at `url`; `local` is a folder for what is on its way in or was fetched."""
        self._files, root = fsspec.core.url_to_fs(url)
        self._root = str(root).rstrip("/")
        self._is_local = isinstance(self._files, LocalFileSystem)
        self._local = Path(self._root) if self._is_local else local

    @contextmanager
    def staged(self, chunks: Iterable[bytes], limit_bytes: int) -> Iterator[Staged]:
        """Write chunks to a file that is gone afterwards unless `keep` took it.

        Raises: TooLarge over the limit; StorageFull when the disk is.
        """
        path = self._local / "incoming" / uuid.uuid4().hex
        try:
            yield self._receive(path, chunks, limit_bytes)
        finally:
            path.unlink(missing_ok=True)

    def keep(self, staged: Staged) -> BlobRef:
        """Move a staged file to its digest's place and return where it is.

        Raises: StorageFull when the disk is.
        """
        target = self._key(staged.sha256)
        with _full_disk(self._root):
            if self._is_local:
                _settle(staged.path, Path(target))
            elif not self._files.exists(target):
                self._files.makedirs(target.rsplit("/", 1)[0], exist_ok=True)
                self._files.put_file(str(staged.path), target)
        return BlobRef(staged.sha256, staged.n_bytes)

    def put_stream(self, chunks: Iterable[bytes], limit_bytes: int) -> BlobRef:
        """Store chunks and return where they are.

        Raises: TooLarge over the limit; StorageFull when the disk is. Nothing is left behind then.
        """
        with self.staged(chunks, limit_bytes) as staged:
            return self.keep(staged)

    def put(self, data: bytes) -> BlobRef:
        """Store bytes that are in memory and return where they are."""
        return self.put_stream([data], len(data))

    def identity(self) -> str:
        """Return the id of the store, which whoever asks first makes: two that see the same id share the store.

        Raises: Unavailable if it can't be read or written.
        """
        place = f"{self._root}/identity"
        with _usable(self._root):
            if not self._files.exists(place):
                self._files.makedirs(self._root, exist_ok=True)
                self._files.pipe_file(place, uuid.uuid4().hex.encode())
            return str(self._files.cat_file(place).decode())

    def probe(self) -> None:
        """Put a few bytes and read them again.

        Raises: Unavailable if the store can't be used, or gives back others; StorageFull when the disk is.
        """
        with _usable(self._root), self.open(self.put(_PROBE).sha256) as file:
            read = file.read()
        if read != _PROBE:
            raise Unavailable(f"{self._root} gives back other bytes than were put")

    def exists(self, sha256: str) -> bool:
        """Return whether the blob is there."""
        return bool(self._files.exists(self._key(sha256)))

    def open(self, sha256: str) -> IO[bytes]:
        """Return the blob, opened for reading.

        Raises: NotFound if there is no such blob.
        """
        try:
            return cast(IO[bytes], self._files.open(self._key(sha256), "rb"))
        except FileNotFoundError as exc:
            raise self._missing(sha256) from exc

    def path(self, sha256: str) -> Path:
        """Return a local file with the blob's bytes, fetched once where the store is remote.

        Raises: NotFound if there is no such blob; StorageFull when the disk is.
        """
        if self._is_local:
            path = Path(self._key(sha256))
            if not path.is_file():
                raise self._missing(sha256)
            return path
        cached = self._local / "fetched" / _relative(sha256)
        if not cached.is_file():
            self._fetch(sha256, cached)
        return cached

    def _receive(self, path: Path, chunks: Iterable[bytes], limit_bytes: int) -> Staged:
        digest, n_bytes = hashlib.sha256(), 0
        with _full_disk(str(self._local)):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                for chunk in chunks:
                    n_bytes += len(chunk)
                    if n_bytes > limit_bytes:
                        raise TooLarge(f"at least {n_bytes:,} bytes came; the limit is {limit_bytes:,} bytes")
                    digest.update(chunk)
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
        return Staged(path, digest.hexdigest(), n_bytes)

    def _fetch(self, sha256: str, cached: Path) -> None:
        with (
            self.open(sha256) as source,
            self.staged(_chunks_of(source), 2**62) as staged,
            _full_disk(str(self._local)),
        ):
            if staged.sha256 != sha256:
                raise NotFound(f"blob {sha256} is damaged in {self._root}: its bytes have sha256 {staged.sha256}")
            _settle(staged.path, cached)

    def _key(self, sha256: str) -> str:
        return f"{self._root}/{_relative(sha256)}"

    def _missing(self, sha256: str) -> NotFound:
        return NotFound(f"no blob {sha256} in {self._root}")


def open_blobs(settings: Settings) -> Blobs:
    """Return the store that the settings name.

    Raises: Unavailable if nothing here knows such a store.
    """
    with _usable(settings.blobs):
        return Blobs(settings.blobs, settings.data_dir / "blobs")


def _relative(sha256: str) -> str:
    if len(sha256) != 64 or not set(sha256) <= set("0123456789abcdef"):
        raise NotFound(f"{sha256[:80]!r} is not the sha256 of a blob: 64 characters 0-9a-f")
    return f"{sha256[:2]}/{sha256[2:4]}/{sha256}"


def _settle(source: Path, target: Path) -> None:
    """Rename a synced file to its place and make the new name survive a power cut."""
    target.parent.mkdir(parents=True, exist_ok=True)
    source.replace(target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _chunks_of(file: IO[bytes]) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK):
        yield chunk


@contextmanager
def _usable(place: str) -> Iterator[None]:
    """Turn what a store fails with into Unavailable, which names the place."""
    try:
        yield
    except GlossariumError:
        raise
    except Exception as exc:  # any store that fsspec knows, with any errors of its own
        raise Unavailable(f"{place} can't be used: {type(exc).__name__}: {exc}") from exc


@contextmanager
def _full_disk(folder: str) -> Iterator[None]:
    """Turn "no space left" into StorageFull, which names the folder."""
    try:
        yield
    except OSError as exc:
        if exc.errno not in _FULL:
            raise
        raise StorageFull(
            f"the disk that holds {folder} is full{_room(folder)}; free some space and try again"
        ) from exc


def _room(folder: str) -> str:
    with suppress(OSError):
        return f" ({shutil.disk_usage(folder).free:,} bytes left)"
    return ""
