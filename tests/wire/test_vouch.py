from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cordee.wire.vouch import CHARACTERS_MAX, LIFE_S, TO_GATEWAYS, TO_SERVICES, Vouched, vouch, vouched

SECRET = b"s" * 32
CALLER = Vouched("acme", "key_1", "user_1", frozenset({"inference", "files.read"}))
NOW = 1_800_000_000.0


def test_what_was_vouched_for_is_read_back() -> None:
    assert vouched(vouch(CALLER, TO_SERVICES, SECRET, NOW), TO_SERVICES, SECRET, NOW + 1) == CALLER


@given(
    tenant=st.text(max_size=50), subject=st.text(max_size=50), scopes=st.frozensets(st.text(max_size=10), max_size=5)
)
def test_any_names_survive_the_header(tenant: str, subject: str, scopes: frozenset[str]) -> None:
    caller = Vouched(tenant, "key", subject, scopes)
    value = vouch(caller, TO_GATEWAYS, SECRET, NOW)
    assert value.isascii()
    assert "\n" not in value
    assert vouched(value, TO_GATEWAYS, SECRET, NOW) == caller


@pytest.mark.parametrize(
    ("aim", "secret", "at"),
    [
        (TO_GATEWAYS, SECRET, NOW),
        (TO_SERVICES, b"t" * 32, NOW),
        (TO_SERVICES, SECRET, NOW + LIFE_S),
        (TO_SERVICES, SECRET, NOW - 2 * LIFE_S),
    ],
)
def test_the_other_way_another_secret_and_another_time_are_refused(aim: str, secret: bytes, at: float) -> None:
    assert vouched(vouch(CALLER, TO_SERVICES, SECRET, NOW), aim, secret, at) is None


@given(st.integers(0, 10_000), st.characters(min_codepoint=33, max_codepoint=126))
def test_a_changed_character_is_refused(at: int, put: str) -> None:
    value = vouch(CALLER, TO_SERVICES, SECRET, NOW)
    at %= len(value)
    changed = value[:at] + put + value[at + 1 :]
    found = vouched(changed, TO_SERVICES, SECRET, NOW)
    assert found is None or (found == CALLER and changed[:at] + changed[at + 1 :] == value[:at] + value[at + 1 :])


@pytest.mark.parametrize(
    "value", ["", "v1", "v1..", "v1.é.x", "v2.e30.e30", "v1." + "e" * CHARACTERS_MAX, "v1.@@.@@", "v1.\0.\n"]
)
def test_garbage_is_refused(value: str) -> None:
    assert vouched(value, TO_SERVICES, SECRET, NOW) is None
