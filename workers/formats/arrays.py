"""Reads numpy files without running anything that is in them, and without believing what they say of their size.

Arrays of a .npy file come into memory when they are used. Those of an archive are whole in memory.
"""

import ast
import math
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import torch
from torch import Tensor

from schema.errors import BadWeights

_MAX_RATIO = 100  # of an archive's member to its compressed bytes: weights hardly compress at all
_MAX_HEADER_BYTES = 10_000  # numpy's own limit
_FLOATS = ("f2", "f4", "f8")


def read_array(path: Path) -> Tensor:
    """Return the array of a .npy file. Raises BadWeights unless it is of floats and fills the file."""
    with path.open("rb") as file:
        header = _header(file, path.name, path.stat().st_size)
    try:  # "c": what is done to the array never gets into the file
        return torch.from_numpy(np.load(path, mmap_mode="c", allow_pickle=False))
    except (OSError, ValueError) as exc:
        raise BadWeights(f"file={path.name!r}; must be a .npy array {header.shape} of numbers: {exc}") from exc


def read_archive(path: Path, names: Mapping[str, str]) -> dict[str, Tensor]:
    """Return arrays of a .npz file under the names that they are to have; no other member is opened.

    names:  what members may be called, without `.npy`, and what they are.
    Raises: BadWeights for members that are something else, and for those that are not known.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            unknown = sorted({m.filename for m in members} - {f"{name}.npy" for name in names})
            if unknown or len({m.filename for m in members}) < len(members):
                raise BadWeights(f"file={path.name!r}; unknown={', '.join(unknown)[:99]}; must have {', '.join(names)}")
            return {names[m.filename.removesuffix(".npy")]: _member(archive, m, path.name) for m in members}
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, EOFError) as exc:
        raise BadWeights(f"file={path.name!r}; must be a .npz archive of arrays: {exc}") from exc


class _Header(NamedTuple):
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str) -> Tensor:
    where = f"{name}/{member.filename}"
    if member.file_size > _MAX_RATIO * max(member.compress_size, _MAX_HEADER_BYTES):
        raise BadWeights(
            f"file={where!r}; {member.compress_size:,} bytes unpack to {member.file_size:,}; at most {_MAX_RATIO} "
            "times as many are unpacked"
        )
    with archive.open(member) as file:
        header = _header(file, where, member.file_size)
        array = np.empty(header.shape, header.dtype)
        _fill(file, array, where)
    return torch.from_numpy(array)


def _fill(file: IO[bytes], array: np.ndarray[tuple[int, ...], np.dtype[np.generic]], name: str) -> None:
    """Read a file's bytes into an array. Raises BadWeights where there are fewer."""
    view = array.reshape(-1).view(np.uint8).data
    at = 0
    while at < len(view):
        part = file.read(min(2**24, len(view) - at))
        if not part:
            raise BadWeights(f"file={name!r} ends after {at:,} of {len(view):,} bytes")
        view[at : at + len(part)] = part
        at += len(part)


def _header(file: IO[bytes], name: str, n_bytes: int) -> _Header:
    """Return what a .npy file says of its array, and leave the file where the values begin. Raises BadWeights."""
    magic = file.read(8)
    if magic[:6] != b"\x93NUMPY" or magic[6] not in (1, 2, 3):
        raise BadWeights(f"file={name!r}; must be a .npy array")
    width = 2 if magic[6] == 1 else 4
    length = int.from_bytes(file.read(width), "little")
    if length > _MAX_HEADER_BYTES:
        raise BadWeights(f"file={name!r}; its header has {length:,} bytes; at most {_MAX_HEADER_BYTES:,} are read")
    try:
        said = ast.literal_eval(file.read(length).decode("latin1"))
        shape, dtype = tuple(said["shape"]), np.dtype(said["descr"])
    except (SyntaxError, ValueError, TypeError, KeyError, MemoryError, RecursionError, struct.error) as exc:
        raise BadWeights(f"file={name!r}; its header is none of a .npy array: {type(exc).__name__}") from exc
    if dtype.hasobject:
        raise BadWeights(f"file={name!r}; dtype={dtype} is a pickle of Python objects, which is not read: save floats")
    if dtype.str[1:] not in _FLOATS or not dtype.isnative or said.get("fortran_order"):
        order = " in Fortran order" if said.get("fortran_order") else ""
        raise BadWeights(f"file={name!r}; dtype={dtype}{order} must be float16, float32 or float64, row after row")
    if not all(type(size) is int and size >= 0 for size in shape):
        raise BadWeights(f"file={name!r}; shape={shape} must be whole numbers")
    start = 8 + width + length
    if start + math.prod(shape) * dtype.itemsize != n_bytes:
        needed = start + math.prod(shape) * dtype.itemsize
        raise BadWeights(f"file={name!r} has {n_bytes:,} bytes; an array {list(shape)} of {dtype} needs {needed:,}")
    return _Header(shape, dtype)
