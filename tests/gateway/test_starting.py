"""A gateway that has no worker yet: its model is not unknown, it is not there yet."""

from __future__ import annotations

import json

from tests.gateway.doubles import Gateway

CHAT = {"model": "m", "messages": [{"role": "user", "content": "x"}]}


def test_a_model_whose_workers_have_not_come_yet_is_to_be_asked_again_and_not_unknown() -> None:
    with Gateway() as gateway:
        gateway.call(lambda: gateway._roster.pools.clear())
        status, headers, body = gateway.ask(CHAT)
        assert (status, json.loads(body)["error"]["code"]) == (503, "no_replica")
        assert int(headers["retry-after"]) >= 1
        assert gateway.ask({"model": "m", "prompt": "x"}, "/v1/completions")[0] == 503
        assert gateway.ask({**CHAT, "model": "nobody"})[0] == 404
