"""The models endpoint."""

from __future__ import annotations

from collections.abc import Sequence

from cordee.domain.presence import Standing
from cordee.domain.record import record
from cordee.wire.shape import encode

OWNER = "cordee"


@record
class Listed:
    """A model as it is listed. `standing` is told where it is known, in a field of our own: one of our models may not be loaded.
    `parent`: of a model with an adapter, the one that it is laid over."""

    name: str
    standing: Standing | None = None
    is_on_demand: bool = False
    parent: str = ""


def listing(models: Sequence[Listed], created: int) -> bytes:
    return encode({"object": "list", "data": [_model(one, created) for one in models]})


def one(model: Listed, created: int) -> bytes:
    return encode(_model(model, created))


def _model(model: Listed, created: int) -> dict[str, object]:
    found: dict[str, object] = {"id": model.name, "object": "model", "created": created, "owned_by": OWNER}
    if model.parent:
        found |= {"root": model.parent, "parent": model.parent}
    if model.standing is not None:
        why = {"why": model.standing.why} if model.standing.why else {}
        found["cordee"] = {"state": model.standing.presence.value, "on_demand": model.is_on_demand, **why}
    return found
