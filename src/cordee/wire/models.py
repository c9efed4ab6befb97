"""The models endpoint."""

from __future__ import annotations

from collections.abc import Sequence

from cordee.wire.shape import encode

OWNER = "cordee"


def listing(names: Sequence[str], created: int) -> bytes:
    return encode({"object": "list", "data": [_model(name, created) for name in names]})


def one(name: str, created: int) -> bytes:
    return encode(_model(name, created))


def _model(name: str, created: int) -> dict[str, object]:
    return {"id": name, "object": "model", "created": created, "owned_by": OWNER}
