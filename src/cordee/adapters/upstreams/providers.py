"""What is known of the providers outside: where they stand, what they understand, how they go on with an answer.

Alibaba Cloud Model Studio: https://www.alibabacloud.com/help/en/model-studio/compatibility-of-openai-with-dashscope (addresses),
…/partial-mode (going on), …/api-compatibility-upgrade-notice (max_completion_tokens bounds thoughts and answer together).
Other regions have addresses with a workspace in them; those are given as base_url.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from cordee.adapters.upstreams.dialect import CHAT, COMPLETIONS, Dialect
from cordee.domain.replica import Continuation

# What OpenAI's own clients send and every provider understands. What identifies a person (`user`, `metadata`) stays here, and
# so do the names of engine settings.
COMMON = frozenset(
    {
        "model", "messages", "prompt", "stream", "temperature", "top_p", "n", "stop", "seed", "presence_penalty",
        "frequency_penalty", "tools", "tool_choice", "parallel_tool_calls", "response_format", "logprobs", "top_logprobs",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Provider:
    """`fields` of a request go out, all others stay here; `limit` is what it calls the most tokens an answer may have."""

    paths: frozenset[str]
    fields: frozenset[str]
    limit: str
    dialect: Dialect
    continues: Continuation
    regions: Mapping[str, str] = field(default_factory=dict)


ALIBABA = Provider(
    paths=frozenset({CHAT}),
    fields=COMMON | {"top_k", "repetition_penalty"},
    limit="max_completion_tokens",
    dialect=Dialect.PARTIAL,
    continues=Continuation.TEXT,
    regions=MappingProxyType(
        {
            "cn-beijing": "https://dashscope.aliyuncs.com/compatible-mode/v1",
            "singapore": "https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
            "us-virginia": "https://dashscope-us.aliyuncs.com/compatible-mode/v1",
            "cn-hongkong": "https://cn-hongkong.dashscope.aliyuncs.com/compatible-mode/v1",
        }
    ),
)
OPENAI = Provider(
    paths=frozenset({CHAT, COMPLETIONS}),
    fields=COMMON,
    limit="max_tokens",
    dialect=Dialect.UNKNOWN,
    continues=Continuation.RESTART,
)
PROVIDERS = MappingProxyType({"alibaba": ALIBABA, "openai": OPENAI})
