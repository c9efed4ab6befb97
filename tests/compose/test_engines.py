from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import pytest

from cordee.adapters.model_sources import ModelError
from cordee.adapters.models import ModelFile
from cordee.compose.engines import check, open_oracle
from cordee.config.sections.processes import Oracle
from cordee.config.tree import Config
from tests.engine.doubles import ManualClock
from tests.kernels.gguf_files import sound


def test_the_oracles_fingerprint_does_not_depend_on_its_pace():
    slow = msgspec.structs.replace(Config(), oracle=Oracle(token_s=1.0, slots=5))
    other = msgspec.structs.replace(Config(), oracle=Oracle(context=100))
    one, two, three = (open_oracle(config, ManualClock()) for config in (Config(), slow, other))
    assert one.card == two.card
    assert one.card.fingerprint != three.card.fingerprint
    assert two.capacity.sequences == 5


def test_a_file_that_is_no_gguf_never_reaches_the_kernels(tmp_path: Path):
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF truncated")
    with pytest.raises(ModelError, match="not a whole GGUF file"):
        check(ModelFile("m", path, None), path)


def test_a_file_of_another_hash_is_refused_with_the_cure(tmp_path: Path):
    path = tmp_path / "m.gguf"
    path.write_bytes(sound())
    right = hashlib.sha256(path.read_bytes()).hexdigest()
    assert check(ModelFile("m", path, right), path) == right
    with pytest.raises(ModelError, match=rf"SHA-256 is {right}, must be 0000.*cordee models pull m"):
        check(ModelFile("m", path, "0000"), path)
