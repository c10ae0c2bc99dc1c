"""One array of whole numbers as numpy.save writes it; arrays of objects, which are pickles, are refused.

Source of the format: numpy/numpy, numpy/lib/format.py: a magic word, the version, the header's length, a header such as
{'descr': '<i4', 'fortran_order': False, 'shape': (10, 48, 8), }, then the elements.
"""

from __future__ import annotations

import re
import sys
from array import array
from typing import NamedTuple

from moeplan.core.errors import InputError

MAGIC = b"\x93NUMPY"
MOST_HEADER_BYTES = 4096
_HEADER = re.compile(
    r"\{\s*'descr':\s*'([<>|=]?)([a-zA-Z])(\d*)',\s*'fortran_order':\s*(True|False),\s*'shape':\s*\(([\d\s,]*)\),?\s*\}\s*"
)
CODES = {"u1": "B", "i1": "b", "u2": "H", "i2": "h", "u4": "I", "i4": "i", "u8": "Q", "i8": "q"}
AGAIN = "save it again with numpy.save, from an array of whole numbers"


class Array(NamedTuple):
    """An array in the order of its elements, the last dimension first."""

    shape: tuple[int, ...]
    elements: array[int]


def read_array(data: bytes, where: str) -> Array:
    """The array in `data`. InputError for what numpy did not write, for objects, and for an array that is cut short."""
    if not data.startswith(MAGIC):
        raise InputError(f"{where}: no array that numpy saved", hint=AGAIN)
    wide = data[6:7] != b"\x01"
    start = 12 if wide else 10
    length = int.from_bytes(data[8:start], "little")
    if length > MOST_HEADER_BYTES or len(data) < start + length:
        raise InputError(f"{where}: its header is cut short, or longer than that of any array of numbers", hint=AGAIN)
    header = _HEADER.fullmatch(data[start : start + length].decode("latin-1"))
    if header is None:
        raise InputError(f"{where}: its header is not that of a plain array", hint=AGAIN)
    order, kind, size, fortran, dimensions = header.groups()
    if kind == "O":
        raise InputError(f"{where}: refused: it holds objects, which only running what it says would read", hint=AGAIN)
    code = CODES.get(kind + size)
    if code is None or fortran == "True":
        raise InputError(f"{where}: elements {kind}{size}{', columns first' if fortran == 'True' else ''}", hint=AGAIN)
    shape = tuple(int(word) for word in dimensions.replace(",", " ").split())
    elements = array(code)
    expected = elements.itemsize
    for dimension in shape:
        expected *= dimension
    if len(data) - start - length != expected:
        raise InputError(
            f"{where}: {len(data) - start - length:,} of the {expected:,} bytes of an array {list(shape)}", hint=AGAIN
        )
    elements.frombytes(data[start + length :])
    if (order == ">") != (sys.byteorder == "big") and order in "<>":
        elements.byteswap()
    return Array(shape, elements)
