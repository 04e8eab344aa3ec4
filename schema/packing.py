"""Records as small bytes: one compressed blob per feature and kind of evidence.

What a record repeats is brought together before it is compressed: lists of records become one list per field, lists
of lists become one list with lengths, texts are looked up in a table, and numbers are stored in the narrowest type that
holds them exactly, all low bytes before all high ones. Whatever does not fit these forms stays JSON. Reading back
validates nothing: only bytes that `pack` made are read.

A packed record is a version byte and a zstandard frame of: length of the header (4 bytes), header (JSON), columns.
"""

import json
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
import zstandard
from numpy.typing import NDArray

from schema.errors import GlossariumError
from schema.records import Record

VERSION = 1
_LEVEL = 12  # above, bytes hardly shrink further and packing slows down
_SHORTEST = 4  # lists of fewer numbers stay in the header
_FLOATS = ("<f2", "<f4", "<f8")
_INTEGERS = ("|u1", "<i2", "<i4", "<i8")

R = TypeVar("R", bound=Record)
