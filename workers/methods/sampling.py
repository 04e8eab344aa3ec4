"""Random numbers by counter: every number is a pure function of its keys.

A draw does not depend on batch shape, sharding, order or platform, because there is no state to advance: the keys are
absorbed one by one by the output function of splitmix64 (Steele, Lea & Flood, OOPSLA 2014), whose avalanche makes
neighbouring keys independent. Not for secrets.
"""

import hashlib
import struct
from typing import overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Key = int | float | str
IntArray = NDArray[np.integer]
Words = NDArray[np.uint64]

_MASK = (1 << 64) - 1
_START = 0x243F6A8885A308D3  # the first 64 fractional bits of pi: a start that hides no choice
_GAMMA = 0x9E3779B97F4A7C15  # splitmix64: 2^64 / golden ratio
_MULTIPLIERS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)  # splitmix64
_SHIFTS = (30, 27, 31)  # splitmix64


# For mypy, without any argument the overloads would overlap; keys are never left out.
@overload
def uniform(*keys: Key) -> float: ...  # type: ignore[overload-overlap]
@overload
def uniform(*keys: Key | IntArray) -> NDArray[np.float64]: ...  # type: ignore[overload-overlap]
@overload
def uniform(*keys: Key | Tensor) -> Tensor: ...
def uniform(*keys: Key | IntArray | Tensor) -> float | NDArray[np.float64] | Tensor:
    """Return numbers in the open interval (0, 1) that depend on the keys alone.

    keys:    numbers, texts, or integer arrays that broadcast; arrays are all of numpy or all of torch. The integer 1
             and the float 1.0 are different keys, and so are (1, 2) and (2, 1).
    Returns: float64, shaped like the broadcast keys, on the device of the tensors; a plain float without arrays.
    """
    # 52 bits and a half are exact in float64: never 0, never 1.
    if any(isinstance(key, Tensor) for key in keys):
        return (_shift_right(mix_tensors(*keys), 12).double() + 0.5) * 2.0**-52  # type: ignore[arg-type]
    drawn = ((mix(*keys) >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52  # type: ignore[arg-type]
    return drawn if any(isinstance(key, np.ndarray) for key in keys) else float(drawn)


def mix(*keys: Key | IntArray) -> Words:
    """Return 64 well mixed bits for every element of the broadcast keys."""
    state = np.asarray(_START, dtype=np.uint64)
    for key in keys:
        word = key.astype(np.uint64) if isinstance(key, np.ndarray) else np.uint64(_word(key))
        state = _finalise(np.asarray(state ^ word))
    return state


def mix_tensors(*keys: Key | Tensor) -> Tensor:
    """Return the bits of `mix` as int64, for keys of which at least one is an integer tensor."""
    state: int | Tensor = _signed(_START)
    for key in keys:
        word = key.long() if isinstance(key, Tensor) else _signed(_word(key))
        mixed = state ^ word
        state = _finalise_tensor(mixed) if isinstance(mixed, Tensor) else _signed(int(_finalise(_scalar(mixed))))
    if not isinstance(state, Tensor):
        raise TypeError("mix_tensors needs at least one tensor among its keys; use mix")
    return state


def _word(key: Key) -> int:
    if isinstance(key, str):
        digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        return int.from_bytes(digest, "little")
    if isinstance(key, float):
        return int.from_bytes(struct.pack("<d", key), "little") ^ _GAMMA
    return int(key) & _MASK


def _finalise(word: Words) -> Words:
    first, second, third = (np.uint64(shift) for shift in _SHIFTS)
    with np.errstate(over="ignore"):  # Wrapping at 2^64 is the point; numpy warns of it in zero-dimensional arrays.
        word = word + np.uint64(_GAMMA)
        word = (word ^ (word >> first)) * np.uint64(_MULTIPLIERS[0])
        word = (word ^ (word >> second)) * np.uint64(_MULTIPLIERS[1])
        return np.asarray(word ^ (word >> third))


def _finalise_tensor(word: Tensor) -> Tensor:
    word = word + _signed(_GAMMA)
    word = (word ^ _shift_right(word, _SHIFTS[0])) * _signed(_MULTIPLIERS[0])
    word = (word ^ _shift_right(word, _SHIFTS[1])) * _signed(_MULTIPLIERS[1])
    return word ^ _shift_right(word, _SHIFTS[2])


def _shift_right(word: Tensor, n_bits: int) -> Tensor:
    # torch shifts int64 arithmetically; the mask makes it a logical shift.
    return torch.bitwise_and(torch.bitwise_right_shift(word, n_bits), (1 << (64 - n_bits)) - 1)


def _signed(word: int) -> int:
    return word - (1 << 64) if word >> 63 else word


def _scalar(signed: int) -> Words:
    return np.asarray(signed & _MASK, dtype=np.uint64)
