"""A store for gateways that are to share what they keep."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cordee.adapters import valkey
from tests.rig import until

STORE_BYTES = 64 << 20


@contextmanager
def running_store(directory: Path) -> Iterator[str]:
    """Its URL; it ends with the block."""
    where = directory / "store.sock"
    argv = valkey.command(valkey.binary(), where, directory, STORE_BYTES)
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, cwd=directory)
    try:
        until(where.exists, "the store listens")
        yield f"unix:{where}"
    finally:
        process.kill()
        process.wait()
