from __future__ import annotations

import pytest

from cordee.wire.ratelimit import duration, lines


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0s"), (0, "0s"), (0.0121, "13ms"), (0.9999, "1000ms"), (1, "1s"), (59.2, "1m0s"),
     (60, "1m0s"), (360, "6m0s"), (361.5, "6m2s"), (3600, "1h0m0s"), (90_061, "25h1m1s")],
)  # fmt: skip
def test_durations_are_written_as_openai_writes_them(seconds, text):
    assert duration(seconds) == text


def test_a_limit_is_three_lines():
    assert lines("requests", 60, 59.9, 1.0) == (
        b"x-ratelimit-limit-requests: 60\r\nx-ratelimit-remaining-requests: 59\r\nx-ratelimit-reset-requests: 1s\r\n"
    )
