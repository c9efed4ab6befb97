"""`cordee keys` shows a key once, lists what there is, and takes keys away."""

from __future__ import annotations

import argparse

import pytest

from cordee.adapters.keys import FileDirectory
from cordee.cli import keys


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
