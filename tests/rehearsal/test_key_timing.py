"""How long a gateway takes to refuse a key says nothing of the keys there are: nearly right ones and any others, side by side.

Both kinds come in one random order, so whatever else the machine does falls on both alike. Compared by the two-sample Kolmogorov–Smirnov
statistic, at a level where chance alone would be seen once in a million runs.
"""

from __future__ import annotations

import base64
import gc
import hashlib
import math
import random
import secrets
import time
from pathlib import Path

import pytest

from cordee.adapters.credentials import Credentials
from cordee.adapters.keys import FileDirectory
from cordee.wire.credentials import Key, Page, Principal, Tenant

pytestmark = pytest.mark.rehearsal
SAMPLES = 100_000  # of each kind
CHANCE = 1e-6
PREFIX = "sk-cordee-"
UNKNOWN = 8  # characters of a nearly right key that are not right


def _key() -> str:
    return PREFIX + base64.urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode()


def _statistic(one: list[int], other: list[int]) -> float:
    """The greatest distance between the two distributions."""
    merged = sorted([(value, 0) for value in one] + [(value, 1) for value in other])
    seen, greatest = [0, 0], 0.0
    for position, (value, kind) in enumerate(merged):
        seen[kind] += 1
        if position + 1 == len(merged) or merged[position + 1][0] != value:
            greatest = max(greatest, abs(seen[0] / len(one) - seen[1] / len(other)))
    return greatest


def test_a_nearly_right_key_is_refused_in_the_same_time_as_any_other(tmp_path: Path) -> None:
    credentials = Credentials(FileDirectory(tmp_path, {}), 16)
    right = _key()
    known = Key("key_1", hashlib.sha256(right.encode()).hexdigest(), "tenant_1", "user_1", ["inference"])
    owner = Principal("user_1", "tenant_1", ["inference"], "m")
    page = Page("e", 0, 1, "i", "a", keys=[known], principals=[owner], tenants=[Tenant("tenant_1")])
    credentials.known.take(page, time.time())
    assert credentials.identify(right.encode()) is not None
    # Made in the order in which they are asked, and both by the same steps: where they lie in memory is the same, too.
    kinds = [0, 1] * SAMPLES
    random.Random(1).shuffle(kinds)
    asked = [(kind, ((_key(), right)[kind][:-UNKNOWN] + _key()[-UNKNOWN:]).encode()) for kind in kinds]
    taken: tuple[list[int], list[int]] = ([], [])
    gc.disable()
    try:
        for kind, key in asked:
            began = time.perf_counter_ns()
            found = credentials.identify(key)
            ended = time.perf_counter_ns()  # before anything that knows of which kind it was
            taken[kind].append(ended - began)
            assert found is None
    finally:
        gc.enable()
    greatest = math.sqrt(-math.log(CHANCE / 2) / 2) * math.sqrt(2 / SAMPLES)
    found_greatest = _statistic(*taken)
    print(f"greatest distance {found_greatest:.5f}, by chance {greatest:.5f}")
    assert found_greatest < greatest
