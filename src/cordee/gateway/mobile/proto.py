"""Publishes what a gRPC client is generated from: GET /proto/cordee/v1/chat.proto, without a key."""

from __future__ import annotations

from importlib.resources import files

from cordee.domain.caller import Caller
from cordee.gateway.paths import Paths
from cordee.gateway.replies import TEXT
from cordee.http.exchange import Answer, Exchange
from cordee.http.request import Request

PATH = b"/proto/cordee/v1/chat.proto"


def publish(paths: Paths) -> None:
    text = files("cordee.wire.v1").joinpath("chat.proto").read_bytes()

    def act(request: Request, exchange: Exchange, caller: Caller | None) -> None:
        exchange.answer(Answer(200, TEXT, text))

    paths.add(b"GET", PATH, act, open=True)
