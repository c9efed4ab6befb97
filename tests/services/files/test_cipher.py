from __future__ import annotations

import base64
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cordee.config.sections.services import Encryption
from cordee.services.base.database import DatabaseError
from cordee.services.files.cipher import (
    PIECE_BYTES,
    SEALED_BYTES,
    DamagedError,
    Keyring,
    Lock,
    keyring,
    pieces_of,
    stored_size,
)
from cordee.services.files.records import Blob

KEY = b"k" * 32
SIZES = st.one_of(st.integers(0, 40), st.sampled_from([PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES]))


@settings(max_examples=40, deadline=None)
@given(SIZES)
def test_what_is_sealed_opens_and_has_the_size_it_should(size: int):
    content = bytes(range(256)) * (size // 256 + 1)
    content = content[:size]
    sealed = Lock(KEY).seal(content, 0, has_last=True)
    assert len(sealed) == stored_size(size)
    assert Lock(KEY).open(sealed, 0, pieces_of(size)) == content


def test_no_piece_can_be_changed_moved_left_out_or_cut_off():
    lock, content = Lock(KEY), b"x" * (2 * PIECE_BYTES + 5)
    sealed, count = lock.seal(content, 0, has_last=True), 3
    first, second = sealed[:SEALED_BYTES], sealed[SEALED_BYTES : 2 * SEALED_BYTES]
    for forged, pieces in (
        (bytes([sealed[0] ^ 1]) + sealed[1:], count), (second + first + sealed[2 * SEALED_BYTES :], count),
        (first + sealed[2 * SEALED_BYTES :], 2), (first + second, 2), (sealed[:-1], count),
    ):  # fmt: skip
        with pytest.raises(DamagedError):
            lock.open(forged, 0, pieces)
    assert lock.open(second, 1, count) == b"x" * PIECE_BYTES


def test_a_key_opens_only_under_the_name_and_key_it_was_sealed_with():
    ring = Keyring([KEY])
    _, wrapped = ring.new_lock("blob_a")
    assert ring.lock_of(Blob("blob_a", 1, ring.newest, wrapped)) is not None
    assert ring.lock_of(Blob("blob_a", 1, None, None)) is None
    with pytest.raises(DamagedError):
        ring.lock_of(Blob("blob_b", 1, ring.newest, wrapped))
    with pytest.raises(DamagedError, match="earlier_key_files"):
        Keyring([b"z" * 32]).lock_of(Blob("blob_a", 1, ring.newest, wrapped))
    assert Keyring([b"z" * 32, KEY]).lock_of(Blob("blob_a", 1, ring.newest, wrapped)) is not None


def test_the_key_comes_from_a_file_the_environment_or_is_made(tmp_path: Path):
    made = keyring(Encryption(), tmp_path, {})
    assert keyring(Encryption(), tmp_path, {}).newest == made.newest
    assert ((tmp_path / "services" / "files.key").stat().st_mode & 0o777) == 0o600
    named = keyring(Encryption(key_env="K"), tmp_path, {"K": base64.b64encode(KEY).decode()})
    (tmp_path / "key").write_bytes(KEY)
    assert keyring(Encryption(key_file=str(tmp_path / "key")), tmp_path, {}).newest == named.newest
    for bad in ("", "x", base64.b64encode(b"short").decode()):
        with pytest.raises(DatabaseError, match="environment variable K"):
            keyring(Encryption(key_env="K"), tmp_path, {"K": bad})
    with pytest.raises(DatabaseError, match="cannot be read"):
        keyring(Encryption(key_file=str(tmp_path / "none")), tmp_path, {})
