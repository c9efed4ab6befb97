"""Clients' connections are counted where an operator looks."""

from __future__ import annotations

from cordee.gateway.health.connections import connections
from cordee.http.request import Limits
from tests.http.serving import Serving, conversation, read_answer


def test_open_connections_and_pauses_are_shown():
    with Serving(Limits()) as serving, conversation(serving, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n") as client:
        assert read_answer(client)[0] == 200
        shown = {sample.name: sample.value for family in connections(serving.server) for sample in family.samples}
        assert shown == {"cordee_connections": 1, "cordee_accept_pauses_total": 0}
