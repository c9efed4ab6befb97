"""Whatever strikes around a gateway's death, a stream that is resumed is the stream that was not cut, token by token."""

from __future__ import annotations

import pytest

from bench.resume import measure
from bench.resume_faults import FAULTS
from tests.rehearsal.record import record

pytestmark = pytest.mark.rehearsal
STREAMS, TOKENS = 150, 80
ROWS = {"worker_killed": 19, "worker_frozen": 19}
ASKED = (
    "all resumed, or asked anew where the answer said from the start that it cannot be; none lost, doubled or changed"
)


@pytest.mark.parametrize("fault", FAULTS)
def test_every_resumed_stream_has_every_token_once(fault: str) -> None:
    figures, wrong = measure(fault, STREAMS, 1, TOKENS)
    record(ROWS.get(fault, 18), f"exactness: {FAULTS[fault].what}", ASKED, figures)
    assert wrong == []
    assert (figures["doubled"], figures["lost_or_changed"], figures["refused"]) == (0, 0, {})
    if fault != "store_frozen_before":
        assert figures["asked_anew"] == 0
