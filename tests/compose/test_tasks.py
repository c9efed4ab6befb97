"""What a model is for stands in its header."""

from __future__ import annotations

import pytest

from cordee.compose.tasks import tasks_in
from cordee.kernels.gguf import Header, Value


@pytest.mark.parametrize(
    ("metadata", "tasks"),
    [
        ({"general.architecture": "llama"}, ("generate", "score")),
        ({"general.architecture": "llama", "llama.pooling_type": 0}, ("generate", "score")),
        ({"general.architecture": "qwen3", "qwen3.pooling_type": 3}, ("embed",)),
        ({"general.architecture": "bert"}, ("embed",)),
        ({"general.architecture": "bert", "bert.pooling_type": 1}, ("embed",)),
        ({"general.architecture": "bert", "bert.pooling_type": 4}, ("rank",)),
        ({}, ("generate", "score")),
    ],
)
def test_a_header_says_what_its_model_can_do(metadata: dict[str, Value | None], tasks: tuple[str, ...]) -> None:
    assert tasks_in(Header(3, metadata, (), 32, 0)) == tasks
