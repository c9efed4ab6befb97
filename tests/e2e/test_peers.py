"""Servers reached by URL, real processes: a stream that one of them breaks off goes on at the other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.rehearsal.provider import KEY, Provider, words
from tests.rig import Rig, until

pytestmark = pytest.mark.e2e

TEXT = "".join(words())


class Peers:
    """A gateway in front of two servers."""

    def __init__(self, rig: Rig, servers: list[Provider]) -> None:
        self.rig = rig
        self.servers = servers

    def be(self, **manner: Any) -> None:
        for server in self.servers:
            server.be(**manner)

    def seen(self) -> list[Any]:
        return [request for server in self.servers for request in server.seen()]


@pytest.fixture(scope="module")
def peers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peers]:
    directory: Path = tmp_path_factory.mktemp("peers")
    with Provider() as one, Provider() as two:
        entries = "".join(
            f'[[replica]]\nurl = "{server.url}"\nname = "{name}"\nkey_env = "PEER_KEY"\nmodels = {{m = "qwen-plus"}}\n'
            f'continues = "text"\n'
            for name, server in (("one", one), ("two", two))
        )
        (directory / "cordee.toml").write_text(f"[breaker]\nopen_s = 0.1\nopen_s_max = 0.2\n{entries}")
        with Rig(directory, workers=0, environment={"PEER_KEY": KEY}) as rig:
            until(lambda: rig.ready_replicas() == 2, "both servers are found")
            yield Peers(rig, [one, two])


@pytest.fixture(autouse=True)
def fresh(peers: Peers) -> None:
    for server in peers.servers:
        server.forget()
        server.be()


def body(**more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": "hi"}], **more}


def text_of(events: list[dict[str, Any]]) -> str:
    return "".join(choice["delta"].get("content") or "" for event in events for choice in event["choices"])


def test_the_model_has_our_name_here_and_its_own_there(peers):
    assert [model["id"] for model in json.loads(peers.rig.get("/v1/models"))["data"]] == ["m"]
    assert text_of(list(peers.rig.stream("/v1/chat/completions", body()))) == TEXT
    (request,) = peers.seen()
    assert request["body"]["model"] == "qwen-plus"
    assert request["headers"]["authorization"] == f"Bearer {KEY}"
    assert "x-cordee-via" in request["headers"]


def test_a_stream_that_breaks_at_one_server_and_then_at_the_other_is_one_stream_to_the_client(peers):
    peers.be(mode="break", after=7, once=True)
    found = list(peers.rig.stream("/v1/chat/completions", body()))
    assert text_of(found) == TEXT
    assert len({event["id"] for event in found}) == 1
    assert sum(choice["finish_reason"] is not None for event in found for choice in event["choices"]) == 1
    requests = sorted((request["body"] for request in peers.seen()), key=lambda request: len(str(request["messages"])))
    assert [len(request["messages"]) for request in requests] == [1, 2, 2]
    for request, said in zip(requests[1:], (7, 14), strict=True):
        assert request["messages"][-1] == {"role": "assistant", "content": "".join(words(said))}
        assert request["continue_final_message"] is True


@pytest.mark.parametrize("mode", ["no_done", "no_finish", "garbage", "html", "json", "error"])
def test_a_server_out_of_order_is_never_a_truncated_success(peers, mode):
    peers.servers[0].be(mode=mode)
    peers.servers[1].be()
    for _ in range(4):
        assert text_of(list(peers.rig.stream("/v1/chat/completions", body()))) == TEXT


def test_the_clients_mistakes_come_through(peers):
    peers.be(mode="refuse")
    status, answer = peers.rig.post("/v1/chat/completions", body())
    assert (status, answer["error"]["code"]) == (400, "invalid_parameter_error")
    assert len(peers.seen()) == 1


def test_a_key_that_is_not_taken_is_not_the_clients_business(peers):
    status, answer = peers.rig.post("/v1/moderations", body())
    assert status == 404, answer
    assert KEY not in peers.rig.log("gateway-1")
