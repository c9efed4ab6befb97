"""`cordee keys` shows a key once, lists what there is, and takes keys away."""

from __future__ import annotations

import argparse

import pytest

from cordee.adapters.keys import FileDirectory
from cordee.cli import keys
from cordee.domain.call import Priority, Sensitivity
from cordee.domain.caller import Allowances, Budget, Period


@pytest.fixture
def cordee(tmp_path):
    def run(*argv: str) -> int:
        parser = argparse.ArgumentParser()
        keys.add(parser.add_subparsers())
        args = parser.parse_args(["keys", *argv, "--data", str(tmp_path)])
        code: int = args.run(args)
        return code

    return run


def test_a_key_is_printed_alone_and_works_until_it_is_revoked(cordee, tmp_path, capsys):
    assert cordee("create", "alice", "--concurrent", "4", "--tenant", "sales") == 0
    key = capsys.readouterr().out.strip()
    caller = FileDirectory(tmp_path, {}).identify(key.encode())
    assert caller is not None
    assert (caller.tenant, caller.allowances.concurrent_calls) == ("sales", 4)
    assert cordee("list") == 0
    listed = capsys.readouterr().out
    assert caller.key_id in listed
    assert key not in listed
    assert cordee("revoke", caller.key_id) == 0
    assert FileDirectory(tmp_path, {}).identify(key.encode()) is None


def test_a_wrong_request_ends_with_1_and_the_cure(cordee, capsys):
    assert cordee("revoke", "key-nope") == 1
    assert "`cordee keys list` shows the ids" in capsys.readouterr().err
    assert cordee("create", "bob", "--requests-per-minute", "0") == 1
    assert "leave it away for no limit" in capsys.readouterr().err


def test_no_keys_are_no_error(cordee, capsys):
    assert cordee("list") == 0
    assert "cordee keys create NAME" in capsys.readouterr().out


def test_a_key_knows_its_class_its_budgets_and_whether_it_may_leave(cordee, tmp_path, capsys):
    flags = (
        "--priority-max",
        "batch",
        "--tokens-per-day",
        "5000",
        "--money-per-month",
        "2.5",
        "--tokens-per-minute",
        "100",
    )
    assert cordee("create", "nightly", *flags, "--local-only", "--sensitivity", "confidential") == 0
    caller = FileDirectory(tmp_path, {}).identify(capsys.readouterr().out.strip().encode())
    assert caller is not None
    assert (caller.priority, caller.priority_max) == (Priority.BATCH, Priority.BATCH)
    assert caller.local_only
    assert caller.sensitivity is Sensitivity.CONFIDENTIAL
    assert caller.allowances == Allowances(
        tokens_per_minute=100, budgets=(Budget(Period.DAY, tokens=5000), Budget(Period.MONTH, money=2.5))
    )


def test_limits_of_keys_and_tenants_can_be_changed_and_lifted(cordee, tmp_path, capsys):
    cordee("create", "alice", "--tenant", "sales", "--concurrent", "4")
    key = capsys.readouterr().out.strip().encode()
    caller = FileDirectory(tmp_path, {}).identify(key)
    assert caller is not None
    assert cordee("limits", "--key", caller.key_id, "--requests-per-minute", "60") == 0
    assert cordee("limits", "--tenant", "sales", "--tokens-per-hour", "1000") == 0
    caller = FileDirectory(tmp_path, {}).identify(key)
    assert caller is not None
    assert caller.allowances == Allowances(requests_per_minute=60)
    assert caller.shared == Allowances(budgets=(Budget(Period.HOUR, tokens=1000),))
    assert cordee("list") == 0
    assert "tenant sales: 1000 tokens/hour" in capsys.readouterr().out
    assert cordee("limits", "--tenant", "sales") == 0
    caller = FileDirectory(tmp_path, {}).identify(key)
    assert caller is not None
    assert caller.shared == Allowances()


@pytest.mark.parametrize(
    "argv",
    [
        ("create", "a", "--priority", "interactive", "--priority-max", "batch"),
        ("create", "a", "--tokens-per-day", "0"),
        ("create", "a", "--money-per-day", "-1"),
        ("create", "a", "--money-per-day", "nan"),
        ("limits", "--key", "key-nope", "--concurrent", "1"),
        ("limits", "--tenant", "", "--concurrent", "1"),
    ],
)
def test_limits_that_cannot_be_meant_are_refused(cordee, capsys, argv):
    assert cordee(*argv) == 1
    assert capsys.readouterr().err.startswith("cordee: ")
