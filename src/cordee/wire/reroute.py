"""The same request for another model: only `model` changes, every other value stays as it was written."""

from __future__ import annotations

import msgspec

_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


def with_model(body: bytes, model: str) -> bytes:
    """Raises msgspec.DecodeError where the body is no JSON object."""
    values = _decode(body)
    values["model"] = msgspec.Raw(_encode(model))
    return _encode(values)
