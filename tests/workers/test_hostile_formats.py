"""Files that lie, break off or would run something: each is refused with its name, and nothing is left behind."""

import io
import json
import os
import pickle
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from schema.settings import Settings
from tests.dictionary_files import saelens_config, save_saelens
from tests.tiny import D_MODEL, make_subject
from workers.formats.__main__ import main

F = 16
SETTINGS = Settings()
Refused = Callable[..., str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a tiny subject."""
    return make_subject(tmp_path_factory.mktemp("subject") / "tiny")


@pytest.fixture
def refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Refused:
    """Return what expects a path to be refused in one line, with nothing left, and returns the line."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    monkeypatch.setenv("TMPDIR", str(scratch))

    def refuse(path: Path, *options: str) -> str:
        out = tmp_path / "out"
        assert main([str(path), "--subject", str(folder), "--out", str(out), *options]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1, error
        assert not out.exists() or not list(out.iterdir())
        assert set(scratch.iterdir()) == set()
        return error

    return refuse


def sae(place: Path, **changed: Any) -> Path:
    """Save a folder of SAELens with some tensors changed; None leaves one out."""
    tensors = {"W_enc": torch.ones(D_MODEL, F), "b_enc": torch.ones(F), "W_dec": torch.ones(F, D_MODEL)}
    tensors |= {"b_dec": torch.ones(D_MODEL)} | changed
    kept = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    return save_saelens(place, saelens_config(D_MODEL, F, "blocks.1.hook_resid_post"), kept)


def raw(place: Path, header: bytes, data: bytes = b"", length: int | None = None) -> Path:
    """Replace the weights of a folder by a header and data as they are."""
    sae(place)
    said = len(header) if length is None else length
    (place / "sae_weights.safetensors").write_bytes(said.to_bytes(8, "little") + header + data)
    return place


class Runs:
    """What runs a command when it is unpickled."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.witness}",)


# ---------------------------------------------------------------------------------------------- tensors


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"b_dec": None}, "missing=b_dec"),
        ({"extra": torch.ones(3)}, "unknown=extra"),
        ({"W_enc": torch.ones(F, D_MODEL)}, "W_enc=[16, 96] must be [96, 16]; it is transposed"),
        ({"W_dec": torch.ones(F, D_MODEL + 1)}, "W_dec=[16, 97] must be [16, 96]"),
        ({"b_enc": torch.ones(F, 1)}, "b_enc=[16, 1] must be [16]"),
        ({"W_dec": torch.ones(0, D_MODEL)}, "W_dec=[0, 96] must be [16, 96]"),
        ({"W_dec": torch.ones(F, D_MODEL).to(torch.float8_e4m3fn)}, "tensor=W_dec; dtype='F8_E4M3'"),
        ({"W_dec": torch.ones(F, D_MODEL, dtype=torch.int64)}, "tensor=W_dec; dtype=int64"),
        ({"W_dec": torch.ones(F, D_MODEL, dtype=torch.bool)}, "tensor=W_dec; dtype='BOOL'"),
        ({"W_dec": torch.full((F, D_MODEL), float("nan"))}, "w_dec[0, 0] is NaN or infinite"),
        ({"b_enc": torch.tensor([1.0] * (F - 1) + [float("inf")])}, "b_enc[15] is NaN or infinite"),
    ],
)
def test_tensors_that_do_not_fit_are_named(
    changed: dict[str, Any], said: str, refused: Refused, tmp_path: Path
) -> None:
    error = refused(sae(tmp_path / "sae", **changed))
    assert said in error
    if "NaN" not in said:
        assert "sae_weights.safetensors" in error


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"d_sae": F + 1}, "W_enc=[96, 16] must be [96, 17]"),
        ({"architecture": "jumprelu"}, "missing=threshold"),
        ({"metadata": {"sae_lens_version": "6.0.0", "hook_name": "blocks.9.hook_resid_post"}}, "layer=9"),
        ({"metadata": {"sae_lens_version": "6.0.0", "hook_name": "blocks.1.hook_mlp"}}, "hook_name="),
        ({"metadata": [1]}, "metadata='[1]'"),
        ({"d_in": -1}, "d_in=-1"),
        ({"d_sae": True}, "d_sae=True"),
    ],
)
def test_a_configuration_that_lies_is_named(
    config: dict[str, Any], said: str, refused: Refused, tmp_path: Path
) -> None:
    place = sae(tmp_path / "sae")
    (place / "cfg.json").write_text(json.dumps(json.loads((place / "cfg.json").read_text()) | config))
    assert said in refused(place)


def test_a_configuration_that_is_no_json_is_named(refused: Refused, tmp_path: Path) -> None:
    place = sae(tmp_path / "sae")
    for text in ("", "[1]", "{", "[" * 100_000, "\x00\xff"):
        (place / "cfg.json").write_text(text, "latin1")
        assert "file='cfg.json'; must be a JSON object" in refused(place)


# ---------------------------------------------------------------------------------------------- safetensors


@pytest.mark.parametrize(
    ("header", "data", "length", "said"),
    [
        (b"{}", b"", 101_000_000, "is truncated|must be safetensors"),
        (b"x" * 2_000_000, b"", None, "its header has 2,000,000 bytes; at most 1,000,000 are read"),
        (b"{", b"", None, "its header is no JSON"),
        (b"[]", b"", None, "its header is no JSON object"),
        (b"{}", b"1234", None, "has 4 bytes after its last tensor"),
        (b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', b"", None, "is truncated"),
        (
            b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}}',
            b"123456",
            None,
            "tensor=b; begins at byte",
        ),
        (b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}', b"1234", None, "must span 8 bytes"),
        (b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}', b"1234", None, "must be whole numbers"),
        (b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{}}', b"1234", None, "a name stands twice"),
        (b'{"../../x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', b"1234", None, "unknown=../../x"),
    ],
)
def test_headers_that_lie_are_named(
    header: bytes, data: bytes, length: int | None, said: str, refused: Refused, tmp_path: Path
) -> None:
    error = refused(raw(tmp_path / "sae", header, data, length))
    assert any(part in error for part in said.split("|")), error


def test_a_header_of_101_megabytes_is_not_read(refused: Refused, tmp_path: Path) -> None:
    place = raw(tmp_path / "sae", b"{}")
    with (place / "sae_weights.safetensors").open("wb") as file:
        file.write((101_000_000).to_bytes(8, "little"))
        file.truncate(102_000_000)
    assert "its header has 101,000,000 bytes; at most 1,000,000 are read" in refused(place)


def test_a_file_that_broke_off_says_so(refused: Refused, tmp_path: Path) -> None:
    place = sae(tmp_path / "sae")
    file = place / "sae_weights.safetensors"
    whole = file.read_bytes()
    for kept in (0, 7, 100, len(whole) - 1):
        file.write_bytes(whole[:kept])
        assert "sae_weights.safetensors" in refused(place)


def test_a_folder_that_was_half_downloaded_says_what_is_missing(refused: Refused, tmp_path: Path) -> None:
    place = sae(tmp_path / "sae")
    (place / "sae_weights.safetensors").unlink()
    assert "it has cfg.json but not sae_weights.safetensors: was the download finished?" in refused(place)
    (tmp_path / "llama").mkdir()
    (tmp_path / "llama" / "hyperparams.json").write_text("{}")
    assert "hook_point_in=None" in refused(tmp_path / "llama")


def test_a_folder_of_several_dictionaries_names_them(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "release").mkdir()
    for name in ("layer_1", "layer_2"):
        sae(tmp_path / "release" / name)
    assert "it holds 2 dictionaries; name one of layer_1, layer_2" in refused(tmp_path / "release")


def test_a_pointer_of_git_lfs_is_named(refused: Refused, tmp_path: Path) -> None:
    place = sae(tmp_path / "sae")
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9446832\n"
    (place / "sae_weights.safetensors").write_text(pointer)
    assert "sae_weights.safetensors'; this is a pointer of git LFS" in refused(place)


def test_what_is_neither_file_nor_folder_is_not_read(refused: Refused, tmp_path: Path) -> None:
    place = sae(tmp_path / "sae")
    (place / "sae_weights.safetensors").unlink()
    os.mkfifo(place / "sae_weights.safetensors")
    assert "it has cfg.json but not sae_weights.safetensors" in refused(place)
    os.mkfifo(tmp_path / "rows.npy")
    assert "no known format" in refused(tmp_path / "rows.npy", "--site", "resid_post.1")


# ---------------------------------------------------------------------------------------------- another format


def test_another_format_under_a_known_name_is_named(refused: Refused, tmp_path: Path) -> None:
    place = sae(tmp_path / "sae")
    file = place / "sae_weights.safetensors"
    torch.save({"W_enc": torch.ones(2, 2)}, file)
    assert "sae_weights.safetensors'; this is a pickle" in refused(place)
    np.savez(tmp_path / "a.npz", W_enc=np.ones(3))
    file.write_bytes((tmp_path / "a.npz").read_bytes())
    assert "this is a pickle (or a zip of one)" in refused(place)
    save_file({"encoder.weight": torch.ones(F, D_MODEL)}, file)
    assert "missing=W_enc, b_enc, W_dec, b_dec and unknown=encoder.weight" in refused(place)
    learnt = tmp_path / "learnt"
    learnt.mkdir()
    trainer = {"dict_class": "AutoEncoder", "activation_dim": D_MODEL, "dict_size": F, "layer": 1}
    (learnt / "config.json").write_text(json.dumps({"trainer": trainer}))
    save_file({"bias": torch.ones(2)}, learnt / "ae.pt")
    assert "file='ae.pt'; must be tensors saved by torch.save" in refused(learnt)


# ---------------------------------------------------------------------------------------------- pickles


def test_a_pickle_that_would_run_something_runs_nothing(refused: Refused, tmp_path: Path) -> None:
    witness = tmp_path / "it-ran"
    torch.save({"weight": Runs(witness)}, tmp_path / "a.pt")
    (tmp_path / "b.pt").write_bytes(pickle.dumps(Runs(witness)))
    for name in ("a.pt", "b.pt"):
        assert f"file='{name}'; " in (error := refused(tmp_path / name, "--site", "resid_post.1"))
        assert "a pickle that would run posix.system" in error or "pickles of anything else are not read" in error
    assert not witness.exists()


def test_a_pickle_of_something_else_is_named(refused: Refused, tmp_path: Path) -> None:
    for value, said in (([1, 2], "holds a list"), ({"a": 3}, "'a' is a int"), ({}, "holds a dict")):
        torch.save(value, tmp_path / "a.pt")
        assert said in refused(tmp_path / "a.pt", "--site", "resid_post.1")
    torch.save({"a": torch.ones(2, D_MODEL, dtype=torch.int8)}, tmp_path / "a.pt")
    assert "tensor=a; dtype=int8" in refused(tmp_path / "a.pt", "--site", "resid_post.1")


def test_a_pickle_that_asks_for_more_memory_than_its_size_allows_is_refused(refused: Refused, tmp_path: Path) -> None:
    """A stride of 0 makes 8 GiB of one number, and a compressed record unpacks to as much."""
    torch.save({"a": torch.zeros(1).expand(2**21, 2**10)}, tmp_path / "a.pt")
    assert (tmp_path / "a.pt").stat().st_size < 10_000
    assert "file='a.pt';" in refused(tmp_path / "a.pt", "--site", "resid_post.1")


# ---------------------------------------------------------------------------------------------- archives


def archive(place: Path, members: dict[str, bytes], compressed: bool = False) -> Path:
    """Save params.npz with members of any name and content."""
    place.mkdir(exist_ok=True)
    method = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with zipfile.ZipFile(place / "params.npz", "w", method) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return place


def npy(array: Any) -> bytes:
    """Return an array as the bytes of a .npy file."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"../../evil.npy": npy(np.ones(3))}, "unknown=../../evil.npy"),
        ({"/etc/passwd": b"x"}, "unknown=/etc/passwd"),
        ({"W_enc.npy": npy(np.array([{"a": 1}], dtype=object))}, "dtype=object is a pickle"),
        ({"W_enc.npy": b"no array"}, "must be a .npy array"),
        ({"W_enc.npy": npy(np.ones((3, 4), np.float32))[:-5]}, "needs"),
        ({"W_enc.npy": npy(np.ones((3, 4), np.int32))}, "dtype=int32"),
        ({"W_enc.npy": npy(np.asfortranarray(np.ones((3, 4), np.float32)))}, "Fortran order"),
        ({"W_enc.npy": npy(np.ones((D_MODEL, F), np.float32))}, "missing=b_enc, W_dec, b_dec, threshold"),
        ({}, "missing=W_enc"),
    ],
)
def test_archives_that_can_not_be_used_are_named(
    members: dict[str, bytes], said: str, refused: Refused, tmp_path: Path
) -> None:
    error = refused(archive(tmp_path / "gemma", members), "--site", "resid_post.1")
    assert said in error
    assert "params.npz" in error
    assert not (tmp_path / "evil.npy").exists()


def test_an_archive_that_unpacks_to_far_more_than_it_is_is_refused(refused: Refused, tmp_path: Path) -> None:
    bomb = npy(np.zeros((4096, 8192), np.float32))
    place = archive(tmp_path / "gemma", {"W_enc.npy": bomb}, compressed=True)
    assert (place / "params.npz").stat().st_size < 1_000_000
    assert "times as many are unpacked" in refused(place, "--site", "resid_post.1")


def test_an_array_that_lies_about_its_shape_is_refused_before_memory_is_asked_for(
    refused: Refused, tmp_path: Path
) -> None:
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000, 1000), }".ljust(117) + b"\n"
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + b"1234")
    assert "needs 4,000,000,000,1" in refused(tmp_path / "a.npy", "--site", "resid_post.1")
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\x00\x76\x00" + b"(" * 118)
    assert "its header is none of a .npy array" in refused(tmp_path / "a.npy", "--site", "resid_post.1")


# ---------------------------------------------------------------------------------------------- names and links


def test_a_link_to_a_dictionary_is_a_dictionary(folder: Path, tmp_path: Path) -> None:
    """Caches of hubs are made of links; what is read is what the user's own account may read."""
    place = sae(tmp_path / "sae")
    (tmp_path / "link").symlink_to(place)
    assert main([str(tmp_path / "link"), "--subject", str(folder), "--out", str(tmp_path / "out")]) == 0


def test_what_an_earlier_conversion_left_is_gone_when_the_next_one_fails(refused: Refused, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for name in ("spec.json", "weights.safetensors", "labels.jsonl"):
        (out / name).write_text("of another")
    refused(sae(tmp_path / "sae", b_enc=torch.full((F,), float("nan"))))
