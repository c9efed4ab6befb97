"""Tokens are charged once, whoever comes back for them."""

from __future__ import annotations

from cordee.policy.accounts import new_tokens, settled_before


def test_who_adopts_an_answer_charges_what_is_new_to_the_client_and_to_the_accounts() -> None:
    assert new_tokens(100, settled_before(None, 30, is_accounted=False)) == 70
    assert new_tokens(100, settled_before(50, 30, is_accounted=False)) == 50
    assert new_tokens(100, settled_before(50, 60, is_accounted=False)) == 40
    assert new_tokens(20, settled_before(50, 60, is_accounted=False)) == 0


def test_nothing_is_charged_where_somebody_else_accounts_for_the_answer() -> None:
    assert new_tokens(100, settled_before(None, 30, is_accounted=True)) == 0
    assert new_tokens(100, settled_before(50, 30, is_accounted=True)) == 0
