"""Which replicas may continue each other's answers: a hash of everything that the next token depends on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

VERSION = 1  # of our own sampling: raise it when the same logits would give another token
LENGTH = 32  # hexadecimal digits: 128 bits, beyond any chance of meeting
FILES_REMEMBERED = 16  # whose hashes are not computed again


def fingerprint(parts: Mapping[str, object]) -> str:
    """A name for these parts; their order does not count."""
    digest = hashlib.sha256(f"sampling={VERSION}\n".encode())
    for key in sorted(parts):
        digest.update(f"{key}={parts[key]!r}\n".encode())
    return digest.hexdigest()[:LENGTH]


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal, computed once in this process for as long as the file is not touched. Raises OSError."""
    found = path.stat()
    return _sha256(path, found.st_ino, found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=FILES_REMEMBERED)
def _sha256(path: Path, inode: int, size: int, changed_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
