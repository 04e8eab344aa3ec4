"""Checks of weights files: good ones pass, and each kind of bad one is refused with the value and the limit."""

import json
import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import schema.weights
from schema.errors import BadWeights, GlossariumError, NotFinite, ShapeMismatch
from schema.records import DictionarySpec, Encoder
from schema.weights import check_weights, needed_tensors, read_header

F, D = 6, 4
_DTYPES = {"f4": "F32", "f2": "F16", "u2": "BF16", "f8": "F64"}


def write(path: Path, tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str] | None = None) -> Path:
    """Write safetensors by hand; uint16 stands for bfloat16."""
    header: dict[str, Any] = {} if metadata is None else {"__metadata__": metadata}
    data = b""
    for name, tensor in tensors.items():
        offsets = [len(data), len(data) + tensor.nbytes]
        header[name] = {"dtype": _DTYPES[tensor.dtype.str[1:]], "shape": list(tensor.shape), "data_offsets": offsets}
        data += tensor.tobytes()
    return write_raw(path, header, data)


def write_raw(path: Path, header: Any, data: bytes) -> Path:
    """Write a header as it is."""
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def relu(dtype: str = "<f4") -> dict[str, NDArray[Any]]:
    """Return the tensors of a relu dictionary."""
    return {"w_enc": np.ones((F, D), dtype), "b_enc": np.ones(F, dtype), "w_dec": np.ones((F, D), dtype)}


def spec(kind: str = "relu", write_site: str | None = None, **encoder: Any) -> DictionarySpec:
    """Return the spec of a small dictionary."""
    return DictionarySpec(
        name="d",
        subject="s",
        read_site="resid_post.1",
        write_site=write_site,
        encoder=Encoder.model_validate({"kind": kind} | encoder),
        n_features=F,
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where to write."""
    return tmp_path / "weights.safetensors"


@pytest.mark.parametrize("dtype", ["<f4", "<f2", "<u2"])
def test_finite_weights_that_fit_pass(path: Path, dtype: str) -> None:
    check_weights(write(path, relu(dtype), {"format": "pt"}), spec(), D, D)


@pytest.mark.parametrize("kind", ["relu", "topk", "batchtopk", "jumprelu", "gated", "linear"])
def test_each_encoder_needs_its_tensors_and_takes_no_others(path: Path, kind: str) -> None:
    tested = spec(kind, k=2)
    needed = needed_tensors(tested.encoder)
    shapes = {"w_dec": (F, D), "w_enc": (F, D), "b_dec": (D,), "w_skip": (D, D)}
    tensors = {n: np.ones(shapes.get(n, (F,)), "<f4") for n in sorted(needed.required | needed.optional)}
    check_weights(write(path, tensors), tested, D, D)
    check_weights(write(path, {n: tensors[n] for n in needed.required}), tested, D, D)
    for name in needed.required:
        with pytest.raises(BadWeights, match=f"missing={name}"):
            check_weights(write(path, {n: t for n, t in tensors.items() if n != name}), tested, D, D)
    with pytest.raises(BadWeights, match="unknown=extra"):
        check_weights(write(path, tensors | {"extra": np.ones(F, "<f4")}), tested, D, D)


def test_a_subtracted_decoder_bias_must_be_there(path: Path) -> None:
    with pytest.raises(BadWeights, match="missing=b_dec"):
        check_weights(write(path, relu()), spec(subtract_b_dec=True), D, D)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"w_dec": (F, D + 1)}, r"w_dec=\[6, 5\]; must be \[6, 4\]"),
        ({"w_dec": (D, F)}, r"w_dec=\[4, 6\]; must be \[6, 4\]"),
        ({"w_enc": (F * D,)}, r"w_enc=\[24\]; must be \[6, 4\]"),
        ({"b_enc": (F, 1)}, r"b_enc=\[6, 1\]; must be \[6\]"),
    ],
)
def test_shapes_that_do_not_fit_are_named(path: Path, changed: dict[str, tuple[int, ...]], message: str) -> None:
    tensors = relu() | {name: np.ones(shape, "<f4") for name, shape in changed.items()}
    with pytest.raises(ShapeMismatch, match=message):
        check_weights(write(path, tensors), spec(), D, D)


def test_a_transcoder_reads_and_writes_different_widths(path: Path) -> None:
    tensors = relu() | {"w_dec": np.ones((F, 7), "<f4"), "b_dec": np.ones(7, "<f4")}
    check_weights(write(path, tensors), spec(write_site="mlp_out.1"), D, 7)
    check_weights(path, spec(write_site="module:a"), None, None)
    with pytest.raises(ShapeMismatch, match="d_read=4, d_write=7"):
        check_weights(path, spec(write_site="mlp_out.1", subtract_b_dec=True), D, 7)


def test_unknown_widths_must_still_be_consistent(path: Path) -> None:
    check_weights(write(path, relu()), spec(), None, None)
    with pytest.raises(ShapeMismatch, match=r"w_enc=\[6, 9\]"):
        check_weights(write(path, relu() | {"w_enc": np.ones((F, 9), "<f4")}), spec(), None, None)


@pytest.mark.parametrize(
    ("dtype", "bad"), [("<f4", np.nan), ("<f4", np.inf), ("<f2", -np.inf), ("<u2", 0x7FC1), ("<u2", 0xFF80)]
)
def test_the_first_value_that_is_not_finite_is_named(path: Path, dtype: str, bad: float) -> None:
    tensors = relu(dtype)
    tensors["w_dec"][4, 2] = tensors["w_dec"][5, 0] = bad
    with pytest.raises(NotFinite, match=r"w_dec\[4, 2\] is NaN or infinite"):
        check_weights(write(path, tensors), spec(), D, D)


def test_the_index_is_right_beyond_the_first_chunk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema.weights, "_CHUNK", 5)
    tensors = relu()
    tensors["w_enc"][3, 1] = np.nan
    with pytest.raises(NotFinite, match=r"w_enc\[3, 1\]"):
        check_weights(write(path, tensors), spec(), D, D)


def test_the_largest_finite_values_pass(path: Path) -> None:
    tensors = relu("<u2")
    tensors["w_dec"][:] = 0x7F7F
    check_weights(write(path, tensors), spec(), D, D)


def test_a_pickle_and_a_zip_of_one_are_told_apart(path: Path) -> None:
    path.write_bytes(pickle.dumps({"w_dec": [1.0]}))
    with pytest.raises(BadWeights, match="this is a pickle"):
        read_header(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.pkl", b"x")
    with pytest.raises(BadWeights, match="this is a pickle"):
        read_header(path)


def test_a_header_whose_length_begins_like_a_pickle_is_read(path: Path) -> None:
    padding = ""
    while path.exists() is False or path.read_bytes()[:1] != b"\x80":
        write(path, relu(), {"padding": padding})
        padding += "x"
    check_weights(path, spec(), D, D)


@pytest.mark.parametrize("kept", [0, 3, 8, 40, 200, -1])
def test_a_truncated_file_says_so(path: Path, kept: int) -> None:
    whole = write(path, relu()).read_bytes()
    path.write_bytes(whole[:kept])
    with pytest.raises(BadWeights, match=r"truncated|first 8 bytes"):
        check_weights(path, spec(), D, D)


def test_bytes_after_the_last_tensor_are_refused(path: Path) -> None:
    path.write_bytes(write(path, relu()).read_bytes() + b"xyz")
    with pytest.raises(BadWeights, match="3 bytes after its last tensor"):
        check_weights(path, spec(), D, D)


def test_overlapping_tensors_are_refused(path: Path) -> None:
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    write_raw(path, {"a": entry, "b": entry | {"data_offsets": [4, 12]}}, b"\0" * 12)
    with pytest.raises(BadWeights, match="tensor=b; begins at byte"):
        read_header(path)


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F64", "shape": [1], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1.0], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [True], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [3], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1], "data_offsets": [0]},
        {"dtype": ["F32"], "shape": [1], "data_offsets": [0, 4]},
        {},
        "x",
    ],
)
def test_a_header_entry_that_makes_no_sense_names_the_tensor(path: Path, entry: Any) -> None:
    write_raw(path, {"w_dec": entry}, b"\0" * 8)
    with pytest.raises(BadWeights, match="tensor=w_dec"):
        read_header(path)


def test_a_header_that_claims_gigabytes_is_not_read(path: Path) -> None:
    path.write_bytes(struct.pack("<Q", 2**40) + b"{}")
    with pytest.raises(BadWeights, match="no header length"):
        read_header(path)


def test_a_name_that_stands_twice_is_refused(path: Path) -> None:
    text = b'{"a": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}, "a": {}}'
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    with pytest.raises(BadWeights, match="twice"):
        read_header(path)


@given(st.binary(max_size=300))
def test_any_bytes_pass_or_are_refused_by_name(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    path.write_bytes(data)
    with pytest.raises(GlossariumError):
        check_weights(path, spec(), D, D)


@pytest.mark.parametrize(
    ("kind", "encoder", "message"),
    [
        ("topk", {}, r"k=None; a topk encoder needs k in 1\.\.6"),
        ("topk", {"k": 7}, "k=7"),
        ("relu", {"normalize": "expected_average_only_in"}, "norm_coefficient=None"),
        ("gated", {"rescale_acts_by_decoder_norm": True}, "gated encoder does not use it"),
        ("neurons", {"normalize": "layer_norm"}, "neurons are read as they are"),
        ("neurons", {}, "have no weights file"),
    ],
)
def test_encoders_that_lack_what_they_need_are_refused(
    path: Path, kind: str, encoder: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadWeights, match=message):
        check_weights(write(path, relu()), spec(kind, **encoder), D, D)
