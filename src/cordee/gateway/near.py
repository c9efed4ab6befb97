"""What some strategies want to know about a call: where its caller is, and how its prompt begins. Asked only where it matters."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from hashlib import blake2b
from itertools import islice
from typing import Any

from cordee.domain.call import BYTES_PER_TOKEN
from cordee.domain.caller import Caller
from cordee.http.request import Request
from cordee.policy.route import Router
from cordee.wire.errors import Invalid
from cordee.wire.requests import ChatRequest, CompletionRequest, Message

REGION = b"x-cordee-region"
REGION_BYTES_MAX = 63
OPENING_MAX = 4  # messages of a conversation, and parts of a message, that are looked at


def region(request: Request, caller: Caller) -> str:
    """The request's X-Cordee-Region, else that of the key; "" where neither says. Raises Invalid."""
    value = request.headers.get(REGION)
    if value is None:
        return caller.region
    if not 1 <= len(value) <= REGION_BYTES_MAX or not value.replace(b"-", b"").isalnum():
        raise Invalid(
            f"the header X-Cordee-Region is a name of letters, digits and -, up to {REGION_BYTES_MAX} of them",
            "X-Cordee-Region",
        )
    return value.decode().lower()


def of_call(router: Router, body: ChatRequest | CompletionRequest, prompt: array[int]) -> int:
    """What this pool wants to know of how a call begins; 0: nothing."""
    tokens = router.prefix_tokens
    if not tokens:
        return 0
    if isinstance(body, ChatRequest) and not router.is_by_prefix:
        return of_opening(body.messages, tokens)
    return of_prompt(prompt, tokens)


def of_opening(messages: Sequence[Message], tokens: int) -> int:
    """Equal for all turns of one conversation, however short its first one was, and rarely for two conversations: what stands before its
    first user message and that message decide, of each so much as so many tokens are. Never 0."""
    said = []
    for message in islice(messages, OPENING_MAX):
        said.append(_text(message.content)[: tokens * BYTES_PER_TOKEN])
        if message.role == "user":
            break
    return _hash("\0".join(said).encode(errors="surrogatepass"))


def _text(content: str | list[dict[str, Any]] | None) -> str:
    if isinstance(content, str):
        return content
    texts = (part.get("text") for part in islice(content or (), OPENING_MAX))
    return "".join(text for text in texts if isinstance(text, str))


def of_prompt(prompt: array[int], tokens: int) -> int:
    """Equal for prompts whose first tokens are equal; never 0."""
    return _hash(prompt[:tokens].tobytes())


def of_body(body: bytes, tokens: int) -> int:
    """The same for a request that is forwarded as it came: its first bytes stand for the prompt's, so clients that write the
    parameters of their requests in one order are told apart by their messages."""
    start = body.find(b'"messages"')
    start = start if start >= 0 else max(0, body.find(b'"prompt"'))
    return _hash(body[start : start + tokens * BYTES_PER_TOKEN])


def _hash(data: bytes) -> int:
    return int.from_bytes(blake2b(data, digest_size=8).digest()) | 1
