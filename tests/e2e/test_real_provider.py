"""One short call to Alibaba Cloud Model Studio itself; only with a key, because it costs a little."""

from __future__ import annotations

import os

import pytest

from tests.rig import Rig, until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        not os.environ.get("DASHSCOPE_API_KEY"), reason="set DASHSCOPE_API_KEY to ask the real provider"
    ),
]
REGION = os.environ.get("DASHSCOPE_REGION", "singapore")


def test_the_real_provider_answers_a_stream_and_says_what_it_counted(tmp_path):
    (tmp_path / "cordee.toml").write_text(f"""
        [overflow]
        spend_per_day = 0.05
        [[cloud]]
        name = "model-studio"
        provider = "alibaba"
        region = "{REGION}"
        key_env = "DASHSCOPE_API_KEY"
        models = {{outside = "qwen-plus"}}
        price_in = 1.0
        price_out = 3.0
    """)
    with Rig(tmp_path, workers=0) as rig:
        until(lambda: rig.metric("cordee_cloud_ready") == 1, "the door is open")
        body = {"model": "outside", "messages": [{"role": "user", "content": "Say yes."}], "max_tokens": 8}
        events = list(rig.stream("/v1/chat/completions", body))
        assert "".join(choice["delta"].get("content") or "" for event in events for choice in event["choices"])
        until(lambda: rig.metric("cordee_cloud_spend_total") > 0, "the bill")
