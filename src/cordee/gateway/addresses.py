"""Nothing is fetched because a request names its address: another server would do it from where it stands, inside our network.

Models of ours read text alone. What is passed on to other servers may hold images, sounds and files, but as contents, in `data:` URLs:
whoever resolves a name, follows a redirect or reads a backslash otherwise than we would is not asked to (CVE-2025-6242,
CVE-2026-24779). Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cordee.wire.errors import Invalid
from cordee.wire.requests import Message

CONTENT = "data:"
_ADDRESS, _ADDRESSES = "url", "_url"


def refuse_addresses(messages: Sequence[Message]) -> None:
    """Raises Invalid for a part of a turn that names something elsewhere."""
    for at, message in enumerate(messages):
        if not isinstance(message.content, list):
            continue
        for number, part in enumerate(message.content):
            if _names_elsewhere(part):
                param = f"messages[{at}].content[{number}]"
                what = f"{param!r} names an address, from which nothing is fetched here; send the content itself as a data: URL"
                raise Invalid(what, param, code="invalid_url")


def _names_elsewhere(part: dict[str, Any]) -> bool:
    waiting: list[Any] = [part]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            for name, value in one.items():
                is_address = name == _ADDRESS or name.endswith(_ADDRESSES)
                if is_address and isinstance(value, str) and not value.startswith(CONTENT):
                    return True
                waiting.append(value)
        elif isinstance(one, list):
            waiting += one
    return False
