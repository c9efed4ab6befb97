from __future__ import annotations

from pathlib import Path

import pytest

from cordee.services.base.database import DatabaseError
from cordee.services.base.seal import SECRET_BYTES, Seal, secret_of


def test_what_is_sealed_opens_under_its_name_and_secret_only():
    seal = Seal(b"a" * SECRET_BYTES)
    sealed = seal.close("one", b"content")
    assert seal.open("one", sealed) == b"content"
    assert b"content" not in sealed
    for name, other in (("two", seal), ("one", Seal(b"b" * SECRET_BYTES))):
        with pytest.raises(DatabaseError, match="another secret"):
            other.open(name, sealed)


def test_the_secret_is_made_once_for_its_owner(tmp_path: Path):
    path = tmp_path / "kept" / "secret"
    made = secret_of(path)
    assert len(made) == SECRET_BYTES
    assert secret_of(path) == made
    assert path.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in path.parent.iterdir()] == ["secret"]


def test_half_a_secret_is_refused(tmp_path: Path):
    (tmp_path / "secret").write_bytes(b"short")
    with pytest.raises(DatabaseError, match="5 bytes instead of 32"):
        secret_of(tmp_path / "secret")
