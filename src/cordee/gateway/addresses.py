"""Nothing is fetched because a request names its address: another server would do it from where it stands, inside our network.

Models of ours read text alone. What is passed on to other servers may hold images, sounds and files, but as contents, in `data:` URLs:
whoever resolves a name, follows a redirect or reads a backslash otherwise than we would is not asked to (CVE-2025-6242,
CVE-2026-24779). Hosts that the operator trusts may be named, over https, in one plain spelling that everybody reads alike. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence, Set
from typing import Any

from cordee.wire.errors import Invalid
from cordee.wire.requests import Message

CONTENT = "data:"
_ADDRESS, _ADDRESSES = "url", "_url"
_PLAIN = re.compile(
    r"https://([a-z0-9.-]+)(?:/[A-Za-z0-9/._~%+,=&?:@!$'()*;-]*)?"
)  # no user, no port, no backslash, no fragment
NOWHERE: Set[str] = frozenset()


def refuse_addresses(messages: Sequence[Message], hosts: Set[str] = NOWHERE) -> None:
    """Raises Invalid for a part of a turn that names something elsewhere than on one of `hosts`."""
    for at, message in enumerate(messages):
        if not isinstance(message.content, list):
            continue
        for number, part in enumerate(message.content):
            if _names_elsewhere(part, hosts):
                param = f"messages[{at}].content[{number}]"
                raise Invalid(f"{param!r} names an address, {_why(hosts)}", param, code="invalid_url")


def _why(hosts: Set[str]) -> str:
    if not hosts:
        return "from which nothing is fetched here; send the content itself as a data: URL"
    return "which is not a plain https:// address on a host that the operator allows; send the content itself as a data: URL"


def _names_elsewhere(part: dict[str, Any], hosts: Set[str]) -> bool:
    waiting: list[Any] = [part]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            for name, value in one.items():
                is_address = name == _ADDRESS or name.endswith(_ADDRESSES)
                if (
                    is_address
                    and isinstance(value, str)
                    and not (value.startswith(CONTENT) or _is_allowed(value, hosts))
                ):
                    return True
                waiting.append(value)
        elif isinstance(one, list):
            waiting += one
    return False


def _is_allowed(url: str, hosts: Set[str]) -> bool:
    found = _PLAIN.fullmatch(url) if hosts else None
    return found is not None and found[1] in hosts
