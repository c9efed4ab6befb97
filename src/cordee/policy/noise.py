"""Randomness without state: a number in [0, 1) that depends on a seed and a position and on nothing else.

A sequence that moves to another worker needs no generator state to go on exactly. The mixing is SplitMix64 (Steele, Lea
and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014), whose outputs pass the usual batteries.
"""

from __future__ import annotations

MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15  # 2⁶⁴ over the golden ratio: SplitMix64's step
FIRST_FACTOR = 0xBF58476D1CE4E5B9
SECOND_FACTOR = 0x94D049BB133111EB
FLOAT_BITS = 53  # of the 64, what a double holds exactly


def mixed(value: int) -> int:
    """SplitMix64's finaliser: 64 bits in, 64 well-mixed bits out."""
    value &= MASK
    value = ((value ^ (value >> 30)) * FIRST_FACTOR) & MASK
    value = ((value ^ (value >> 27)) * SECOND_FACTOR) & MASK
    return value ^ (value >> 31)


def bits(seed: int, position: int) -> int:
    """64 bits for this seed and position. Seeds count modulo 2⁶⁴.

    The seed is mixed before the position is added, else the streams of neighbouring seeds would be shifted copies.
    """
    return mixed(mixed(seed + GOLDEN) + (position + 1) * GOLDEN)


def uniform(seed: int, position: int) -> float:
    """A number in [0, 1) for this seed and position."""
    return float(bits(seed, position) >> (64 - FLOAT_BITS)) / (1 << FLOAT_BITS)
