"""What is said of an adapter that cannot be laid over its base."""

from __future__ import annotations

from pathlib import Path

import pytest

from cordee.adapters.model_sources import ModelError
from cordee.compose.lora import loras
from cordee.config.sections.models import Adapter
from cordee.config.tree import Config
from cordee.kernels.gguf import Header
from tests.kernels.test_lora import BASE
from tests.lora_files import METADATA, adapter

OTHER = Header(3, {"general.architecture": "qwen2"}, BASE.tensors, 32, 0)


@pytest.mark.parametrize("content", [b"hello", None])
def test_the_reason_and_what_to_do_are_two_sentences(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "a.gguf"
    if content is None:
        adapter(path, OTHER, metadata={**METADATA, "general.architecture": "qwen2"})
    else:
        path.write_bytes(content)
    config = Config(adapters={"one": Adapter(path=str(path), base="m")})
    with pytest.raises(ModelError, match=r"^adapters\.one: .*[^.]\. Name a GGUF adapter made for it\.$"):
        loras(config, "m", BASE)
