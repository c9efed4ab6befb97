"""Decides what a request body asks for: validated parameters, and for our own workers the prompt as token ids.

Whatever cannot be answered is refused here, before any worker hears of it.
"""

from __future__ import annotations

import secrets
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from msgspec import UNSET, Raw, UnsetType

from cordee.domain.call import Deadlines, Grammar, Priority, Sampling, Task, Work
from cordee.http.request import Request
from cordee.ports import Vocabulary
from cordee.wire import grammar
from cordee.wire.errors import Invalid
from cordee.wire.grammar import Asked
from cordee.wire.requests import ChatRequest, CompletionRequest, Message
from cordee.wire.talk import Talk
from cordee.wire.talk import talk as read_talk
from cordee.wire.template import Template
from cordee.wire.tool_turns import Turns

ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})
PIECE_BYTES_MAX = 64  # no vocabulary in use has many longer tokens: more text than this a token cannot fit
COMPLETION_TOKENS = 16  # the documented default of the completions endpoint
ASIDE_CHARS = 8192  # longer prompts are tokenised beside the event loop
TIMEOUT_S_MAX = 86_400.0
PRIORITY = b"x-cordee-priority"
TIERS = {
    "auto": None, "scale": None, "default": Priority.STANDARD, "flex": Priority.BATCH, "priority": Priority.INTERACTIVE,
}  # fmt: skip
TOTAL = b"x-request-timeout"
FIRST_TOKEN, BETWEEN_TOKENS = b"x-cordee-first-token-timeout", b"x-cordee-between-tokens-timeout"
SEEDS = 1 << 63
UNSUPPORTED = (
    "functions", "function_call", "modalities", "audio", "prediction",
    "web_search_options", "moderation",
)  # fmt: skip
HARMLESS = {
    "functions": (b"null", b"[]"),
    "function_call": (b"null", b'"none"', b'"auto"'),
    "modalities": (b"null", b'["text"]'),
}
OLD_NAMES = {"functions": "tools", "function_call": "tool_choice"}


@dataclass(frozen=True, slots=True)
class Model:
    """What the gateway needs to know to speak for a local model. `constrains`: its workers can be held to a grammar. `tasks`: values
    of domain.call.Task that they can do. `adapter`: the LoRA adapter that is asked for with it, "" for none."""

    name: str
    vocabulary: Vocabulary
    template: Template
    constrains: bool = True
    tasks: tuple[str, ...] = (Task.GENERATE.value,)
    adapter: str = ""


def deadlines(request: Request, default: Deadlines) -> Deadlines:
    """The caller's own: X-Request-Timeout, in seconds, bounds the whole answer, X-Cordee-First-Token-Timeout and
    X-Cordee-Between-Tokens-Timeout the waits in it. Raises Invalid."""
    headers = request.headers
    total, first, between = headers.get(TOTAL), headers.get(FIRST_TOKEN), headers.get(BETWEEN_TOKENS)
    if total is None and first is None and between is None:
        return default
    total_s = default.total_s if total is None else _seconds(total, "X-Request-Timeout")
    first_s = default.first_token_s if first is None else _seconds(first, "X-Cordee-First-Token-Timeout")
    between_s = default.between_tokens_s if between is None else _seconds(between, "X-Cordee-Between-Tokens-Timeout")
    return Deadlines(total_s, min(total_s, first_s), min(total_s, between_s))


def _seconds(value: bytes, header: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds <= TIMEOUT_S_MAX or not value.replace(b".", b"", 1).isdigit():
        raise Invalid(f"the header {header} is a number of seconds above 0, up to {TIMEOUT_S_MAX:.0f}", header)
    return seconds


def wish(headers: Mapping[bytes, bytes]) -> Priority:
    """The caller's X-Cordee-Priority. Raises Invalid."""
    value = headers[PRIORITY]
    try:
        return Priority[value.decode("ascii", "replace").upper()]
    except KeyError:
        names = ", ".join(p.name.lower() for p in Priority)
        raise Invalid(f"the header X-Cordee-Priority is one of {names}", "X-Cordee-Priority") from None


def lowered(got: Priority) -> bytes:
    """The header line that says so where a call got less than it asked for."""
    return b"x-cordee-priority: %s\r\n" % got.name.lower().encode()


def tier(name: str | None) -> Priority | None:
    """What OpenAI's `service_tier` asks for; None: nothing. Raises Invalid."""
    if name is None:
        return None
    if name not in TIERS:
        raise Invalid(f"'service_tier' is one of {', '.join(TIERS)}", "service_tier")
    return TIERS[name]


def asked(body: ChatRequest | CompletionRequest, model: Model) -> Asked | None:
    """What the answer has to be; None: any text. Raises Invalid."""
    if body.response_format is UNSET and body.structured_outputs is UNSET:
        return None
    found = grammar.asked(body.response_format, body.structured_outputs)
    if found is not None and not model.constrains:
        name = found.param.partition(".")[0]
        raise Invalid(f"{name!r} is not supported by this model", name, code="unsupported_parameter")
    return found


def chat_text_size(body: ChatRequest) -> int:
    size = sum(len(text_of(message, at)) for at, message in enumerate(body.messages))
    return size if body.tools is UNSET else size + len(bytes(body.tools))


def talk(body: ChatRequest, model: Model, answer: Asked | None) -> Talk | None:
    """How to speak with the model, where its answers are more than text. `answer`: what they are to be. Raises Invalid."""
    return read_talk(body, model.template, answer, constrains=model.constrains, model=model.name)


def chat_work(
    body: ChatRequest, model: Model, context: int, rng: Random, held_to: Grammar | None = None, talk: Talk | None = None
) -> Work:  # fmt: skip
    """Raises Invalid."""
    for name in UNSUPPORTED:
        refuse_unsupported(name, getattr(body, name))
    if body.top_logprobs is not None and not body.logprobs:
        raise Invalid("'top_logprobs' needs 'logprobs': true", "top_logprobs")
    messages: list[dict[str, Any]] = []
    turns: Turns | None = None  # where tools were called
    for at, message in enumerate(body.messages):
        if message.role not in ROLES:
            raise Invalid(f"'messages[{at}].role' is one of {', '.join(sorted(ROLES))}", f"messages[{at}].role")
        role = "system" if message.role == "developer" else message.role
        messages.append({"role": role, "content": text_of(message, at)})
        if message.role == "tool" or message.tool_calls:
            if not model.template.uses_tools:
                raise Invalid(f"model {model.name!r} does not call tools", f"messages[{at}]")
            turns = turns or Turns(model.template.family.id_chars, as_text=model.template.wants_text)
            messages[-1] |= turns.fields(message, at)
        if talk is not None and (thoughts := message.reasoning_content or message.reasoning):
            messages[-1]["reasoning_content"] = thoughts
    template, marker = model.template, f"\ufdd0{secrets.token_hex(8)}\ufdd1"
    if talk is None:
        prompt = template.encode(messages, marker)
    else:
        prompt = template.tokens(talk.put(template.render(messages, marker, talk.tools, talk.options)), marker)
    logprobs = (body.top_logprobs or 0) if body.logprobs else None
    limit = body.max_completion_tokens or body.max_tokens
    return _work(body, prompt, limit, logprobs, model, context, rng, "messages", held_to)


def completion_text(body: CompletionRequest) -> str | array[int]:
    """The one prompt: text or token ids. Raises Invalid."""
    prompt: Any = body.prompt
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str | list):
        prompt = prompt[0]
    if isinstance(prompt, str):
        return prompt
    if isinstance(prompt, list) and all(type(token) is int and 0 <= token < 1 << 32 for token in prompt):
        return array("I", prompt)
    if isinstance(prompt, list):
        raise Invalid("'prompt' is one text or one list of token ids; send one request a prompt", "prompt")
    raise Invalid("you must provide 'prompt'", "prompt", code="missing_required_parameter")


def completion_work(
    body: CompletionRequest, model: Model, context: int, rng: Random, held_to: Grammar | None = None
) -> Work:  # fmt: skip
    """Raises Invalid."""
    if body.suffix:
        raise Invalid(f"model {model.name!r} cannot insert before a suffix", "suffix")
    if body.best_of is not None and body.best_of != (body.n or 1):
        raise Invalid("'best_of' is not supported; leave it out or set it to 'n'", "best_of")
    if body.echo and body.logprobs is not None:
        # The prompt would be in the text and not among the log-probabilities: whoever adds them up would add the wrong ones.
        raise Invalid("'echo' gives no log-probabilities of the prompt; POST /v1/score does", "echo")
    text = completion_text(body)
    if isinstance(text, str):
        prompt = model.vocabulary.encode(text, special=True, start=True)
    else:
        if any(token >= model.vocabulary.size for token in text):
            raise Invalid(f"'prompt' holds a token id beyond the vocabulary of {model.vocabulary.size}", "prompt")
        prompt = text
    limit = body.max_tokens or COMPLETION_TOKENS
    return _work(body, prompt, limit, body.logprobs, model, context, rng, "prompt", held_to)


def stops(body: ChatRequest | CompletionRequest) -> tuple[str, ...]:
    if body.stop is None:
        return ()
    return (body.stop,) if isinstance(body.stop, str) else tuple(body.stop)


def refuse_oversize(chars: int, context: int, param: str) -> None:
    """Text that cannot fit whatever its tokens are is not worth tokenising."""
    if chars > context * PIECE_BYTES_MAX:
        raise too_long(f"more than {context * PIECE_BYTES_MAX} characters", context, param)


def refuse_too_many(n: int, sequences_max: int) -> None:
    """More choices than the largest worker answers at once would wait for room that never comes, and hold up the queue."""
    if n > sequences_max:
        raise Invalid(f"'n' is at most {sequences_max} here: no worker answers more choices at once", "n")


def too_long(what: str, context: int, param: str) -> Invalid:
    return Invalid(
        f"this model's context is {context} tokens, and the prompt has {what}; shorten it",
        param,
        code="context_length_exceeded",
    )


def text_of(message: Message, at: int) -> str:
    """The text of one turn. Raises Invalid for a part that is none."""
    content = message.content
    if isinstance(content, str):
        return content
    if content is None:
        # Nothing is what an assistant says beside calls of tools; from anybody else it is a field that was forgotten.
        if message.role != "assistant":
            param = f"messages[{at}].content"
            raise Invalid(f"you must provide {param!r}", param, code="missing_required_parameter")
        return message.refusal or ""
    texts = []
    for number, part in enumerate(content):
        if part.get("type") != "text" or not isinstance(part.get("text"), str):
            param = f"messages[{at}].content[{number}]"
            raise Invalid(f"{param!r} is not text, and this model reads nothing else", param)
        texts.append(part["text"])
    return "".join(texts)


def refuse_unsupported(name: str, value: Raw | UnsetType) -> None:
    if value is UNSET:
        return
    raw = bytes(value).replace(b" ", b"")
    if raw and raw != b"null" and raw not in HARMLESS.get(name, ()):
        instead = f"; use {OLD_NAMES[name]!r}" if name in OLD_NAMES else ""
        raise Invalid(f"{name!r} is not supported by this model{instead}", name, code="unsupported_parameter")


def _work(
    body: ChatRequest | CompletionRequest, prompt: array[int], max_tokens: int | None, logprobs: int | None, model: Model,
    context: int, rng: Random, param: str, held_to: Grammar | None,
) -> Work:  # fmt: skip
    if not prompt:
        raise Invalid(f"{param!r} is empty", param)
    room = context - len(prompt)
    if room < 1:
        raise too_long(f"{len(prompt)}", context, param)
    return Work(
        prompt,
        max_tokens=room if max_tokens is None else min(max_tokens, room),
        n=body.n or 1,
        adapter=model.adapter,
        cache_salt=body.cache_salt or "",
        grammar=held_to,
        sampling=Sampling(
            temperature=_or(body.temperature, 1.0),
            top_k=max(0, body.top_k or 0),
            top_p=_or(body.top_p, 1.0),
            min_p=_or(body.min_p, 0.0),
            repetition_penalty=_or(body.repetition_penalty, 1.0),
            presence_penalty=_or(body.presence_penalty, 0.0),
            frequency_penalty=_or(body.frequency_penalty, 0.0),
            logit_bias=_bias(body.logit_bias, model.vocabulary.size) if body.logit_bias else (),
            seed=(body.seed if body.seed is not None else rng.getrandbits(62)) % SEEDS,
            logprobs=logprobs,
            min_tokens=body.min_tokens or 0,
            ignore_eos=bool(body.ignore_eos),
        ),
    )


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


def _bias(given: dict[str, float], size: int) -> tuple[tuple[int, float], ...]:
    pairs = []
    for key, value in given.items():
        if not (key.isascii() and key.isdigit() and len(key) < len(str(size)) + 1 and int(key) < size):
            raise Invalid(f"'logit_bias' maps token ids from 0 to {size - 1} to a bias", "logit_bias")
        pairs.append((int(key), value))
    return tuple(pairs)
