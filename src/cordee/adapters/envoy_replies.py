"""What the edge answers itself, in OpenAI's shape: when no gateway can, and when a request is not HTTP."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Tree = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Reply:
    """What Envoy answers itself when the status is between `low` and `high`, and one of `flags` is set where any are named."""

    low: int
    high: int
    type: str
    code: str
    message: str
    retry_after_s: int | None = None
    flags: tuple[str, ...] = ()


# Envoy's response flags: the upstream connection ended (UC), or the upstream reset the stream (UR), after the request was sent.
LOST = ("UC", "UR")


REPLIES = (
    _Reply(503, 503, "server_error", "gateway_lost", "The gateway died before it had answered. Try again.", 1, LOST),
    _Reply(
        503, 503, "server_error", "no_gateway", "No gateway can be reached at the moment. Try again in a second.", 1
    ),
    _Reply(408, 408, "invalid_request_error", "request_timeout", "The request was not received in time."),
    _Reply(413, 413, "invalid_request_error", "request_too_large", "The request body is too large."),
    _Reply(431, 431, "invalid_request_error", "headers_too_large", "The request headers are too large."),
    _Reply(400, 499, "invalid_request_error", "malformed_request", "The request is not valid HTTP."),
    _Reply(500, 599, "server_error", "gateway_error", "The gateway ended the connection before it had answered."),
)  # the first that fits is taken


def error_body(reply: Mapping[str, str | None]) -> str:
    """OpenAI's error object."""
    return json.dumps({"error": {**reply, "param": None}}) + "\n"


def local_replies() -> Tree:
    return {"mappers": [_mapper(reply) for reply in REPLIES]}


def _mapper(reply: _Reply) -> Tree:
    body = error_body({"message": reply.message, "type": reply.type, "code": reply.code})
    filters = [_status("GE", reply.low), _status("LE", reply.high)]
    if reply.flags:
        filters.append({"response_flag_filter": {"flags": list(reply.flags)}})
    mapper: Tree = {
        "filter": {"and_filter": {"filters": filters}},
        "body_format_override": {
            "text_format_source": {"inline_string": body.replace("%", "%%")},
            "content_type": "application/json",
        },
    }
    if reply.retry_after_s is not None:
        mapper["headers_to_add"] = [
            {
                "header": {"key": "retry-after", "value": str(reply.retry_after_s)},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }
        ]
    return mapper


def _status(operator: str, value: int) -> Tree:
    key = f"edge.reply.{operator.lower()}.{value}"  # Envoy wants a runtime key; nobody sets it
    comparison = {"op": operator, "value": {"default_value": value, "runtime_key": key}}
    return {"status_code_filter": {"comparison": comparison}}
