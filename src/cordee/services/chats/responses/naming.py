"""The ids of a response's items derive from the response's own: whoever goes on with an answer after a crash names its items as the one
before did, so that a client which has half of an answer knows the rest as the same one's.

An item's id keeps the milliseconds of the response's and adds the item's number to its random digits: ids of one response differ, sort
by their order, and are as hard to guess as the response's.
"""

from __future__ import annotations

from collections.abc import Callable

RESPONSE = "resp"
_TIME_DIGITS = 12
_RANDOM_DIGITS = 20


def item_id(response_id: str, number: int, prefix: str) -> str:
    """Of the item of this number, counted through input and output from 1."""
    digits = response_id.partition("_")[2]
    drawn = (int(digits[_TIME_DIGITS:], 16) + number) % 16**_RANDOM_DIGITS
    return f"{prefix}_{digits[:_TIME_DIGITS]}{drawn:0{_RANDOM_DIGITS}x}"


def names(response_id: str, behind: int = 0) -> Callable[[str], str]:
    """Names items one after the other, behind so many that have names."""
    number = behind

    def name(prefix: str) -> str:
        nonlocal number
        number += 1
        return item_id(response_id, number, prefix)

    return name


def seed_of(response_id: str) -> int:
    """Of the sampling, so that an answer that has to be made again comes out the same where the model allows it."""
    return int(response_id[-15:], 16)
