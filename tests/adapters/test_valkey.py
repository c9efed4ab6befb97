"""Which Valkey is run, with which settings, and what is said where there is none."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from cordee.adapters import valkey


def test_the_server_of_the_package_is_found() -> None:
    assert valkey.binary().is_file()


def test_without_the_package_the_cure_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(valkey.StoreMissingError, match=r"store\.url"):
        valkey.binary()


def test_it_listens_on_its_owners_socket_only_and_keeps_what_was_promised() -> None:
    words = valkey.command(Path("/v"), Path("/run/s.sock"), Path("/data"), 1000)
    options = dict(zip(words[1::2], words[2::2], strict=True))
    assert (options["--port"], options["--unixsocket"], options["--unixsocketperm"]) == ("0", "/run/s.sock", "700")
    assert (options["--maxmemory"], options["--maxmemory-policy"], options["--appendonly"]) == (
        "1000",
        "noeviction",
        "yes",
    )
