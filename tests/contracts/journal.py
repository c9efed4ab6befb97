"""What every Journal does, whatever stands behind it. `Contract` is subclassed by a test of each; its fixture `journal` gives an
empty one with room for three keys of a tenant."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from cordee.domain.kept import Conflict, Fresh, Full, KeptBytes, KeptCall, KeptTokens, Receipt, Same
from cordee.ports import Journal

LONG_S = 60.0
KEYS_MAX = 3
CALL = KeptCall(
    "aabb01", "acme", "k1", "/v1/chat/completions", "d1", b'{"model":"m"}', stream=True, seed=7, created=1_700_000_000,
    model="m", fingerprint="fp_1", owner="g1",
)  # fmt: skip
TOKENS = KeptTokens((b"\x01\x00\x00\x00", b""), (1, 2))
BYTES = KeptBytes(200, b"content-type: application/json\r\n", b'{"a":\x00}', stream=False)
RECEIPT = Receipt(
    "aabb01", "acme", 1_700_000_000.5, "served", "m", replicas=("w1", "w2"), tokens_out=3, first_token_s=0.1
)


@pytest.mark.anyio
class Contract:
    """`pass_time(s)`: lets what was kept for less than that be forgotten."""

    async def test_of_all_who_come_back_for_a_call_one_accounts_for_it(self, journal: Journal) -> None:
        await journal.begin(CALL, LONG_S)
        found = await journal.find(CALL.id)
        assert found is not None
        assert (found.accountant, found.is_accounted) == (CALL.owner, False)
        adopted = await asyncio.gather(*(journal.adopt(CALL.id, found.accountant, f"g{n}") for n in range(2, 8)))
        assert sum(adopted) == 1
        await journal.alive("g2", LONG_S)
        found = await journal.find(CALL.id)
        assert found is not None
        assert (found.accountant, found.is_accounted, found.charged) == ("g2", True, None)

    async def test_whoever_has_accounted_for_a_call_leaves_it_to_the_next_one(self, journal: Journal) -> None:
        await journal.begin(CALL, LONG_S)
        await journal.note(CALL.id, charged=50)
        await journal.note(CALL.id, charged=20)  # an older word that came later
        found = await journal.find(CALL.id)
        assert found is not None
        assert (found.accountant, found.is_accounted, found.charged) == ("", False, 50)
        assert not await journal.adopt(CALL.id, CALL.owner, "g3")
        assert await journal.adopt(CALL.id, "", "g3")
        assert await journal.adopt("forgotten", "g1", "g3")

    async def test_a_key_stands_for_the_first_request_under_it(self, journal: Journal) -> None:
        assert await journal.reserve("acme", "k", "d1", "c1", LONG_S) == Fresh()
        assert await journal.reserve("acme", "k", "d1", "c2", LONG_S) == Same("c1")
        assert await journal.reserve("acme", "k", "d2", "c3", LONG_S) == Conflict()

    async def test_the_key_of_another_tenant_is_another_key(self, journal: Journal) -> None:
        assert await journal.reserve("acme", "k", "d1", "c1", LONG_S) == Fresh()
        assert await journal.reserve("other", "k", "d2", "c2", LONG_S) == Fresh()

    async def test_of_many_at_once_one_takes_the_key(self, journal: Journal) -> None:
        taken = await asyncio.gather(*(journal.reserve("acme", "k", "d", f"c{n}", LONG_S) for n in range(20)))
        assert sum(isinstance(one, Fresh) for one in taken) == 1
        first = next(f"c{n}" for n, one in enumerate(taken) if isinstance(one, Fresh))
        assert {one for one in taken if not isinstance(one, Fresh)} == {Same(first)}

    async def test_a_key_that_is_released_is_free_again(self, journal: Journal) -> None:
        await journal.reserve("acme", "k", "d1", "c1", LONG_S)
        await journal.release("acme", "k", "c1")
        assert await journal.reserve("acme", "k", "d2", "c2", LONG_S) == Fresh()

    async def test_a_key_is_released_only_by_the_call_it_stands_for(self, journal: Journal) -> None:
        await journal.reserve("acme", "k", "d1", "c1", LONG_S)
        await journal.release("acme", "k", "c2")
        await journal.release("other", "k", "c1")
        assert await journal.reserve("acme", "k", "d1", "c3", LONG_S) == Same("c1")

    async def test_a_tenant_has_as_many_keys_as_it_may_have(self, journal: Journal) -> None:
        for number in range(KEYS_MAX):
            assert await journal.reserve("acme", f"k{number}", "d", "c", LONG_S) == Fresh()
        assert await journal.reserve("acme", "more", "d", "c", LONG_S) == Full()
        assert await journal.reserve("other", "more", "d", "c", LONG_S) == Fresh()
        await journal.release("acme", "k0", "c")
        assert await journal.reserve("acme", "more", "d", "c", LONG_S) == Fresh()

    async def test_a_key_is_forgotten_in_time_and_its_place_is_free(
        self, journal: Journal, pass_time: Callable[[float], None]
    ) -> None:
        for number in range(KEYS_MAX):
            await journal.reserve("acme", f"k{number}", "d1", "c1", 0.05)
        pass_time(0.06)
        assert await journal.reserve("acme", "k0", "d2", "c2", LONG_S) == Fresh()

    async def test_a_call_is_found_as_it_was_begun(self, journal: Journal) -> None:
        await journal.begin(CALL, LONG_S)
        found = await journal.find(CALL.id)
        assert found is not None
        assert found.call == CALL
        assert (found.replica, found.charged, found.answer) == ("", None, None)

    async def test_an_unknown_call_is_not_found(self, journal: Journal) -> None:
        assert await journal.find("nobody") is None

    async def test_remarks_about_a_call_are_found_with_it(self, journal: Journal) -> None:
        await journal.begin(CALL, LONG_S)
        await journal.note(CALL.id, replica="w1")
        await journal.note(CALL.id, charged=12)
        await journal.note(CALL.id, replica="w2")
        found = await journal.find(CALL.id)
        assert found is not None
        assert (found.replica, found.charged) == ("w2", 12)

    async def test_a_remark_about_an_unknown_call_makes_none(self, journal: Journal) -> None:
        await journal.note("nobody", replica="w1")
        await journal.complete("nobody", TOKENS, LONG_S)
        assert await journal.find("nobody") is None

    @pytest.mark.parametrize("answer", [TOKENS, BYTES, None])
    async def test_an_answer_is_found_as_it_was_given(
        self, journal: Journal, answer: KeptTokens | KeptBytes | None
    ) -> None:
        await journal.begin(CALL, LONG_S)
        await journal.complete(CALL.id, answer, LONG_S)
        found = await journal.find(CALL.id)
        assert found is not None
        assert found.answer == answer

    async def test_a_call_is_forgotten_when_asked_and_in_time(
        self, journal: Journal, pass_time: Callable[[float], None]
    ) -> None:
        await journal.begin(CALL, LONG_S)
        await journal.forget(CALL.id)
        assert await journal.find(CALL.id) is None
        await journal.begin(CALL, LONG_S)
        await journal.complete(CALL.id, TOKENS, 0.05)
        pass_time(0.06)
        assert await journal.find(CALL.id) is None

    async def test_a_call_is_owned_while_its_gateway_lives(
        self, journal: Journal, pass_time: Callable[[float], None]
    ) -> None:
        await journal.begin(CALL, LONG_S)
        await journal.alive(CALL.owner, LONG_S)
        found = await journal.find(CALL.id)
        assert found is not None
        assert found.is_owned
        await journal.alive(CALL.owner, 0.05)
        pass_time(0.06)
        found = await journal.find(CALL.id)
        assert found is not None
        assert not found.is_owned

    async def test_receipts_are_found_by_call_oldest_first(self, journal: Journal) -> None:
        later, other = replace(RECEIPT, resumed=True), replace(RECEIPT, id="aabb02")
        await journal.add_receipts([RECEIPT, other], LONG_S)
        await journal.add_receipts([later], LONG_S)
        assert list(await journal.receipts(RECEIPT.id)) == [RECEIPT, later]
        assert list(await journal.receipts(other.id)) == [other]
        assert list(await journal.receipts("nobody")) == []

    async def test_receipts_are_forgotten_in_time(self, journal: Journal, pass_time: Callable[[float], None]) -> None:
        await journal.add_receipts([RECEIPT], 0.05)
        pass_time(0.06)
        assert list(await journal.receipts(RECEIPT.id)) == []
