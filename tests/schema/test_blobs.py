"""Content-addressed files: what is kept, and that nothing is left of what failed."""

import errno
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from schema.blobs import Blobs, open_blobs
from schema.errors import NotFound, StorageFull, TooLarge, Unavailable
from schema.settings import Settings

DATA = b"weights of a dictionary" * 100
SHA = hashlib.sha256(DATA).hexdigest()


def files_under(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs((tmp_path / "blobs").as_uri(), tmp_path / "unused")


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[Blobs]:
    yield Blobs(f"memory://{tmp_path.name}", tmp_path / "local")
    files = fsspec.filesystem("memory")
    if files.exists(f"/{tmp_path.name}"):
        files.rm(f"/{tmp_path.name}", recursive=True)


def test_a_blob_lies_under_its_sha256(blobs: Blobs, tmp_path: Path) -> None:
    ref = blobs.put_stream([DATA[:100], b"", DATA[100:]], limit_bytes=len(DATA))
    assert ref == (SHA, len(DATA))
    assert files_under(tmp_path) == [tmp_path / "blobs" / SHA[:2] / SHA[2:4] / SHA]
    assert blobs.exists(SHA)
    assert blobs.path(SHA).read_bytes() == DATA
    with blobs.open(SHA) as file:
        assert file.read() == DATA


def test_the_same_bytes_are_stored_once(blobs: Blobs, tmp_path: Path) -> None:
    assert blobs.put(DATA) == blobs.put(DATA)
    assert len(files_under(tmp_path)) == 1


def test_one_byte_over_the_limit_is_refused_and_leaves_nothing(blobs: Blobs, tmp_path: Path) -> None:
    with pytest.raises(TooLarge, match=r"at least 2,300 bytes came; the limit is 2,299 bytes"):
        blobs.put_stream([DATA], limit_bytes=len(DATA) - 1)
    assert files_under(tmp_path) == []


def test_the_limit_stops_an_endless_stream(blobs: Blobs, tmp_path: Path) -> None:
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield bytes(1000)

    with pytest.raises(TooLarge):
        blobs.put_stream(endless(), limit_bytes=10_000)
    assert taken == 11
    assert files_under(tmp_path) == []


def test_a_stream_that_breaks_leaves_nothing(blobs: Blobs, tmp_path: Path) -> None:
    def cut() -> Iterator[bytes]:
        yield DATA
        raise ConnectionResetError("peer went away")

    with pytest.raises(ConnectionResetError):
        blobs.put_stream(cut(), limit_bytes=2**30)
    assert files_under(tmp_path) == []


def test_a_staged_file_that_is_not_kept_leaves_nothing(blobs: Blobs, tmp_path: Path) -> None:
    with blobs.staged([DATA], 2**30) as staged:
        assert staged.path.read_bytes() == DATA
    assert not blobs.exists(SHA)
    assert files_under(tmp_path) == []


def test_a_full_disk_names_the_folder_and_leaves_nothing(
    blobs: Blobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    message = rf"the disk that holds {tmp_path}/blobs is full \([\d,]+ bytes left\); free some"
    with pytest.raises(StorageFull, match=message):
        blobs.put(DATA)
    assert files_under(tmp_path) == []


def test_a_remote_store_that_is_full_says_so(remote: Blobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "put_file", full)
    with pytest.raises(StorageFull, match=tmp_path.name):
        remote.put(DATA)
    assert files_under(tmp_path) == []


def test_other_disk_errors_are_not_called_full(blobs: Blobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="Input/output error"):
        blobs.put(DATA)
    assert files_under(tmp_path) == []


def test_a_missing_blob_is_not_found(blobs: Blobs, remote: Blobs) -> None:
    for store in (blobs, remote):
        assert not store.exists(SHA)
        with pytest.raises(NotFound, match=SHA):
            store.path(SHA)
        with pytest.raises(NotFound, match=SHA):
            store.open(SHA)


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "ab", SHA.upper(), SHA[:-1] + "/"])
def test_what_is_no_digest_is_never_a_path(blobs: Blobs, name: str) -> None:
    with pytest.raises(NotFound, match="not the sha256 of a blob"):
        blobs.path(name)


def test_a_remote_blob_is_fetched_once(remote: Blobs, tmp_path: Path) -> None:
    ref = remote.put(DATA)
    assert files_under(tmp_path) == []
    first = remote.path(ref.sha256)
    assert first.read_bytes() == DATA
    assert first == remote.path(ref.sha256)
    assert files_under(tmp_path) == [first]


def test_a_damaged_remote_blob_is_not_handed_out(remote: Blobs, tmp_path: Path) -> None:
    ref = remote.put(DATA)
    files = fsspec.filesystem("memory")
    (key,) = files.find(f"/{tmp_path.name}")
    files.pipe_file(key, b"other bytes")
    with pytest.raises(NotFound, match="damaged"):
        remote.path(ref.sha256)
    assert files_under(tmp_path) == []


def test_settings_say_where_blobs_are(tmp_path: Path) -> None:
    ref = open_blobs(Settings(data_dir=tmp_path)).put(DATA)
    assert files_under(tmp_path) == [tmp_path / "blobs" / SHA[:2] / SHA[2:4] / ref.sha256]
    with open_blobs(Settings(blobs_url=(tmp_path / "blobs").as_uri())).open(SHA) as file:
        assert file.read() == DATA


def test_a_store_has_one_id_and_gives_back_what_is_put(blobs: Blobs, remote: Blobs) -> None:
    for store in (blobs, remote):
        store.probe()
        assert store.identity() == store.identity()
    assert blobs.identity() != remote.identity()


def test_a_store_that_gives_back_other_bytes_is_unavailable(remote: Blobs, tmp_path: Path) -> None:
    remote.probe()
    files = fsspec.filesystem("memory")
    (key,) = files.find(f"/{tmp_path.name}")
    files.pipe_file(key, b"other bytes")
    with pytest.raises(Unavailable, match="gives back other bytes than were put"):
        remote.probe()


@pytest.mark.parametrize("url", ["file:///proc/nowhere", "nothing://there"])
def test_a_store_that_cannot_be_used_is_unavailable(url: str, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="can't be used: "):
        open_blobs(Settings(blobs_url=url, data_dir=tmp_path)).identity()
    with pytest.raises(Unavailable, match="can't be used: "):
        open_blobs(Settings(blobs_url=url, data_dir=tmp_path)).probe()
