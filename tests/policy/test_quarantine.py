from __future__ import annotations

from array import array

import pytest

from cordee.domain.call import Call, Sampling, Work
from cordee.domain.outcome import Why
from cordee.policy.quarantine import Quarantine, QuarantineRules, fingerprint

MARK, OTHER = b"a" * 16, b"b" * 16


def call(prompt: list[int], seed: int = 1, model: str = "m", tenant: str = "t") -> Call:
    return Call(
        "id", model, tenant, "/v1/completions", False, 0.0, work=Work(array("I", prompt), 8, 1, Sampling(seed=seed))
    )


def forwarded(body: bytes) -> Call:
    return Call("id", "m", "t", "/v1/chat/completions", False, 0.0, body=body)


def test_a_fingerprint_is_what_is_asked_not_who_asks_or_with_what_seed() -> None:
    assert fingerprint(call([1, 2], seed=1)) == fingerprint(call([1, 2], seed=2, tenant="u"))
    assert fingerprint(call([1, 2])) != fingerprint(call([1, 3]))
    assert fingerprint(call([1, 2])) != fingerprint(call([1, 2], model="n"))
    assert fingerprint(forwarded(b"x")) != fingerprint(forwarded(b"y"))


def test_a_proven_request_is_refused_until_its_time_is_over() -> None:
    quarantine = Quarantine(QuarantineRules(for_s=10.0))
    assert not quarantine.is_watching
    quarantine.prove(0.0, MARK, "t")
    refused = quarantine.ask(9.9, MARK)
    assert refused is not None
    assert (refused.why, refused.retry_after_s) == (Why.QUARANTINED, None)
    assert quarantine.ask(9.9, OTHER) is None
    assert quarantine.ask(10.0, MARK) is None
    assert not quarantine.is_watching


def test_suspicion_alone_refuses_nobody() -> None:
    quarantine = Quarantine(QuarantineRules())
    quarantine.suspected(MARK)
    assert quarantine.is_watching
    assert quarantine.ask(0.0, MARK) is None
    quarantine.left(MARK)
    assert not quarantine.is_watching


@pytest.mark.parametrize(("apart_s", "isolated"), [(10.0, True), (3700.0, False)])
def test_a_tenant_is_isolated_after_its_third_death_within_an_hour(apart_s: float, isolated: bool) -> None:
    quarantine = Quarantine(QuarantineRules(tenant_deaths_max=3))
    quarantine.prove(0.0, MARK, "t")
    assert not quarantine.is_isolated(0.0, "t")
    quarantine.prove(apart_s, OTHER, "t")
    assert quarantine.is_isolated(apart_s, "t") == isolated
    assert not quarantine.is_isolated(apart_s, "u")


def test_only_so_many_are_remembered_the_newest_first() -> None:
    quarantine = Quarantine(QuarantineRules(entries_max=2))
    for number in range(5):
        quarantine.prove(float(number), bytes([number]) * 16, f"t{number}")
    assert [mark[0] for mark, _ in quarantine.refused(5.0)] == [3, 4]
