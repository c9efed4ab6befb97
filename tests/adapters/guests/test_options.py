import re
from pathlib import Path

import pytest

from cordee.adapters.guests.options import ALLOWED, ELSEWHERE, refused

DOCS = Path(__file__).parents[3] / "docs" / "servers.md"


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("vllm", ("--enforce-eager",)),
        ("vllm", ("--max-num-batched-tokens", "4096", "--seed=1")),
        ("vllm", ("--no-enable-prefix-caching", "--quantization", "fp8")),
        ("sglang", ("--chunked-prefill-size", "2048", "--disable-cuda-graph")),
    ],
)
def test_arguments_that_tune_are_given(kind, arguments):
    assert not list(refused(kind, arguments))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--trust-remote-code",), "none of those"),
        (("--host", "0.0.0.0"), "none of those"),  # noqa: S104
        (("--port=1",), "none of those"),
        (("--api-key", "k"), "none of those"),
        (("--middleware", "x.y"), "none of those"),
        (("--worker-cls=x",), "none of those"),
        (("--enable-log-requests",), "none of those"),
        (("--trust_remote_code",), "none of those"),
        (("--tensor-parallel-size", "2"), "setting of its own: tensor_parallel"),
        (("--max_model_len=5",), "setting of its own: context"),
        (("-tp", "2"), "short name"),
        (("evil",), "value of no option"),
        (("--seed=1", "evil"), "value of no option"),
        (("--seed", "1", "2"), "value of no option"),
    ],
)
def test_all_others_are_refused_with_the_reason(arguments, words):
    assert any(words in wrong for wrong in refused("vllm", arguments))


@pytest.mark.parametrize("kind", ["vllm", "sglang"])
def test_the_documentation_lists_exactly_those_that_are_given(kind):
    text = DOCS.read_text()
    listed = text[text.index(f"\n- {kind}: `--") + 1 :].split("\n- " if kind == "vllm" else "\n\n")[0]
    assert set(re.findall(r"`--([a-z0-9-]+)`", listed)) == ALLOWED[kind] - set(ELSEWHERE)
