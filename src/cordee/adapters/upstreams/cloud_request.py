"""What of a call goes to a provider: its own name for the model, the fields it understands, a limit to what it may answer.

Everything else stays here. The limit is what makes the price of a call known before it leaves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
from msgspec import Raw

from cordee.adapters.upstreams.dialect import COMPLETIONS, MAX_TOKENS, ImpossibleError, encode, fields_of
from cordee.adapters.upstreams.providers import Provider
from cordee.domain.call import Call, Syntax

OURS_ONLY = frozenset({Syntax.REGEX, Syntax.LARK})  # providers take schemas and no other grammars
OUTPUTS = b'"structured_outputs"'  # which no provider knows, and an answer without it would be another one
TEMPLATE_TOKENS = 64  # that a provider's chat template may add to what was sent


@dataclass(frozen=True, slots=True)
class Rules:
    """`models`: the provider's names by ours. `tokens_max`: of an answer that sets no limit itself. `thinks`: it may."""

    provider: Provider
    models: Mapping[str, str]
    tokens_max: int
    thinks: bool = False


def may_take(call: Call, rules: Rules) -> bool:
    """Whether the provider could answer this call as it was meant. Looks at nothing that costs much."""
    if call.model not in rules.models or not call.body or call.path not in rules.provider.paths:
        return False
    work = call.work
    if work is None:
        return OUTPUTS not in call.body
    if work.grammar is not None and (work.grammar.syntax in OURS_ONLY or OUTPUTS in call.body):
        return False
    sampling = work.sampling
    return call.path != COMPLETIONS and not (  # ids and log probabilities are those of our own vocabulary
        sampling.logprobs is not None or sampling.logit_bias or sampling.ignore_eos or sampling.min_tokens
    )


def most_tokens(call: Call, rules: Rules) -> tuple[int, int]:
    """The most that a call can be charged for: a token has at least one byte, and an answer has a limit."""
    work = call.work
    if work is not None:
        limit, n = _asked(fields_of(call.body)) or rules.tokens_max, work.n
    else:
        fields = fields_of(call.body)
        limit, n = _asked(fields) or rules.tokens_max, _number(fields, "n") or 1
    return len(call.body) + TEMPLATE_TOKENS, limit * n


def request(call: Call, rules: Rules) -> bytes:
    """The body that goes out."""
    provider = rules.provider
    given = fields_of(call.body)
    fields = {name: value for name, value in given.items() if name in provider.fields}
    fields["model"] = Raw(encode(rules.models[call.model]))
    fields[provider.limit] = Raw(encode(_asked(given) or rules.tokens_max))
    if call.stream:
        fields["stream_options"] = Raw(b'{"include_usage":true}')
    if provider.limit == "max_completion_tokens":
        fields["enable_thinking"] = Raw(encode(rules.thinks))
    return encode(fields)


def going_on(call: Call, rules: Rules, said: str, tokens: int) -> bytes:
    """The body that asks for the rest of one of our own calls, of which `said` has left, in about so many `tokens` (at least: an
    answer is rather too long than cut short). Raises ImpossibleError."""
    if call.work is None or call.work.n > 1:
        raise ImpossibleError("it had several choices")
    fields = fields_of(request(call, rules))
    messages = msgspec.json.decode(fields["messages"], type=list[Raw])
    fields["messages"] = Raw(encode([*messages, {"role": "assistant", "content": said, "partial": True}]))
    limit = msgspec.json.decode(fields[rules.provider.limit], type=int)
    fields[rules.provider.limit] = Raw(encode(max(1, limit - tokens)))
    return encode(fields)


def wants_usage(call: Call) -> bool:
    """The client itself asked for the usage at the end of its stream."""
    options = fields_of(call.body).get("stream_options")
    return options is not None and b'"include_usage":true' in bytes(options).replace(b" ", b"")


def _asked(fields: Mapping[str, Raw]) -> int | None:
    return next((value for value in (_number(fields, name) for name in MAX_TOKENS) if value is not None), None)


def _number(fields: Mapping[str, Raw], name: str) -> int | None:
    return msgspec.json.decode(fields[name], type=int | None) if name in fields else None
