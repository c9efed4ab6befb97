"""Which requests pass, and how many: limits count them, models' scope is not asked for, and nobody takes all places."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from cordee.domain.caller import Allowances, Caller
from cordee.domain.passages import PASSAGES, Service
from cordee.gateway.limits.allow import Allow, AllowRules
from cordee.gateway.passage.passages import PassageRules, Passages
from cordee.gateway.passage.ways import Way, Ways
from cordee.gateway.paths import Paths
from cordee.http.exchange import Answer
from cordee.http.request import Request
from cordee.memory.clock import VirtualClock
from cordee.policy.budget import Calendar

CALLER = Caller("k", "acme")


class Exchange:
    """As much of one as a passage needs."""

    def __init__(self) -> None:
        self.answered: Answer | None = None
        self.listener: object = None

    def answer(self, answer: Answer) -> None:
        self.answered = answer


def request(method: bytes = b"GET", path: bytes = b"/v1/files", **headers: bytes) -> Request:
    made = Request(method, "1.1", {name.replace("_", "-").encode(): value for name, value in headers.items()}, True)
    made.path = path
    return made


def run(what: Callable[[Passages], None], rules: PassageRules | None = None) -> Passages:
    async def main() -> Passages:
        clock = VirtualClock()
        allow = Allow(AllowRules(), Calendar(0.0, 0.0))
        ways = Ways(["unix:/nowhere/s.sock"], clock, 1.0, 1.0)
        passages = Passages(rules or PassageRules(), ways, b"s" * 32, lambda: allow, clock, lambda: 0.0)
        what(passages)
        return passages

    return asyncio.run(main())


def ask(passages: Passages, asked: Request, caller: Caller | None) -> Answer | None:
    paths, exchange = Paths(), Exchange()
    passages.add_to(paths)
    paths.find(asked.method, asked.path)(asked, exchange, caller)  # type: ignore[arg-type]  # as much of one as is needed
    return exchange.answered


def test_every_passage_is_found_with_every_method_and_what_is_below_it():
    def look(passages: Passages) -> None:
        for passage in PASSAGES:
            path = passage.path.encode() + (b"x/y" if passage.path.endswith("/") else b"")
            found = passages.find(request(path=path))
            assert found is not None
            assert found.service is passage.service
            assert passages.is_for_anybody(request(path=path), found) is (passage.service is Service.ACCOUNTS)
        for path in (b"/v1/chat/completions", b"/v1/filesystem", b"/v1", b"/", b"/v1/models", b"/oauth"):
            assert passages.find(request(path=path)) is None

    run(look)


@pytest.mark.parametrize(
    ("path", "headers", "streams"),
    [
        (b"/v1/files", {"content_length": b"65536"}, False),
        (b"/v1/files", {"content_length": b"65537"}, True),
        (b"/v1/files", {"transfer_encoding": b"chunked"}, True),
        (b"/v1/files", {}, False),
        (b"/v1/auth/login", {"content_length": b"70000"}, False),
    ],
)
def test_a_large_body_is_passed_on_as_it_comes_where_it_is_known_who_asks(path, headers, streams):
    asked = request(b"POST", path, **headers)

    def look(passages: Passages) -> None:
        passages.find(asked)

    run(look)
    assert (asked.inflow is not None) is streams


def test_requests_are_counted_against_the_limit_of_their_key_and_those_that_become_calls_are_counted_there():
    def look(passages: Passages) -> None:
        rare = Caller("k", "acme", allowances=Allowances(requests_per_minute=1, tokens_per_minute=1))
        assert ask(passages, request(b"POST", b"/v1/responses"), rare) is None
        assert ask(passages, request(), rare) is None
        refused = ask(passages, request(), rare)
        assert refused is not None
        assert refused.status == 429
        assert b"retry-after" in refused.headers

    run(look)


def test_one_key_cannot_take_the_places_of_all_and_all_have_so_many():
    def look(passages: Passages) -> None:
        for _ in range(2):
            assert ask(passages, request(), CALLER) is None
        refused = ask(passages, request(), CALLER)
        assert refused is not None
        assert refused.status == 503
        assert b"retry-after" in refused.headers
        assert ask(passages, request(), Caller("other", "acme")) is None
        assert ask(passages, request(), Caller("third", "acme")) is not None

    run(look, PassageRules(open_max=3, open_per_key_max=2))


def test_what_was_asked_by_who_may_ask_no_more_ends():
    def look(passages: Passages) -> None:
        ask(passages, request(), CALLER)
        other = Caller("other", "acme")
        ask(passages, request(), other)
        passages.end_those(lambda caller: caller is CALLER)
        assert [carry.caller for carry in passages.open] == [other]

    run(look)


@pytest.mark.parametrize(
    "address", ["", "/path", "https://h:1", "http://", "http://h/path", "http://u@h", "http://h?q=1"]
)
def test_an_address_that_is_none_is_refused(address):
    with pytest.raises(ValueError, match="neither unix:/PATH nor http://HOST:PORT"):
        Way(address)
