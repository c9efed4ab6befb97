"""SIGHUP to a gateway that stands alone: new rules for new calls, the old ones where the file is wrong, and nobody notices."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.rig import Rig, oracle_text, until

pytestmark = pytest.mark.e2e
CHAT = {
    "model": "oracle",
    "max_tokens": 200,
    "seed": 5,
    "ignore_eos": True,
    "messages": [{"role": "user", "content": "hi"}],
}
LARGE = {**CHAT, "max_tokens": 3, "messages": [{"role": "user", "content": "x" * 4000}]}


def test_a_gateway_alone_takes_what_is_right_and_refuses_what_is_not(tmp_path: Path) -> None:
    file = tmp_path / "cordee.toml"
    with Rig(tmp_path, workers=1) as rig:
        stream = rig.stream("/v1/chat/completions", CHAT)
        events = [next(stream) for _ in range(3)]

        def answer() -> int:
            return rig.post("/v1/chat/completions", LARGE)[0]

        assert answer() == 200
        file.write_text("[gateway]\nbody_bytes_max = 2048\n")
        rig.gateways[0].send_signal(signal.SIGHUP)
        until(lambda: answer() == 413, "the new limit")

        file.write_text("[gateway]\nbody_bytes_max = 1048576\nbody_byte_max = 1\n")
        rig.gateways[0].send_signal(signal.SIGHUP)
        why = f"the one before goes on: {file}, line 3: there is no setting gateway.body_byte_max"
        until(lambda: why in rig.log("gateway-1"), "the refusal")
        assert answer() == 413

        file.write_text("[gateway]\nbody_bytes_max = 2048\nconnections_max = 5\n")
        rig.gateways[0].send_signal(signal.SIGHUP)
        until(lambda: "needs a restart: gateway.connections_max" in rig.log("gateway-1"), "what is held to be named")

        events += stream
        text = "".join(choice["delta"].get("content") or "" for event in events for choice in event["choices"])
        assert text == oracle_text(5, 200)
