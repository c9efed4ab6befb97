"""Vectors on their way through a gateway: 32-bit floats as a worker sends them, without a library for numbers."""

from __future__ import annotations

import math
import sys
from array import array
from operator import mul

FLOAT_BYTES = 4


def floats(data: bytes) -> array[float]:
    """Of little-endian 32-bit floats."""
    found = array("f", data)
    if sys.byteorder == "big":
        found.byteswap()
    return found


def packed(values: array[float]) -> bytes:
    """The other way round."""
    if sys.byteorder == "big":
        values = values[:]
        values.byteswap()
    return values.tobytes()


def shortened(values: array[float], dimensions: int) -> array[float]:
    """The first `dimensions` numbers of a vector, of length one again: what models that were trained for it lose little by."""
    first = values[:dimensions]
    length = math.sqrt(dot(first, first))
    return array("f", [value / length for value in first]) if length > 0 else first


def dot(one: array[float], other: array[float]) -> float:
    """Of vectors of length one: the cosine of their angle."""
    return math.fsum(map(mul, one, other))
