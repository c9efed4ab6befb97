"""What can happen to a response: the types of events in `resp_…` streams and what each holds. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cordee.services.chats.log import Told, told
from cordee.wire.vouch import Vouched

BEGUN = "response.begun"  # {response, input, caller}
ENDED = "response.ended"  # {response}; of several the last one counts


def begun(response: Mapping[str, Any], given: Sequence[Mapping[str, Any]], caller: Vouched) -> Told:
    """`response`: as it is shown before its end; `given`: its input items; `caller`: on whose behalf it is made, also after a crash."""
    return told(
        BEGUN, {"response": dict(response), "input": [dict(item) for item in given], "caller": caller_fields(caller)}
    )


def ended(response: Mapping[str, Any]) -> Told:
    return told(ENDED, {"response": dict(response)})


def caller_fields(caller: Vouched) -> dict[str, Any]:
    """A caller as JSON."""
    return {"tenant": caller.tenant, "key": caller.key, "subject": caller.subject, "scopes": sorted(caller.scopes)}


def caller_of(fields: Mapping[str, Any]) -> Vouched:
    return Vouched(fields["tenant"], fields["key"], fields["subject"], frozenset(fields["scopes"]))
