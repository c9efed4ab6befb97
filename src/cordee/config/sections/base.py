"""What every table of the configuration is, and the kinds of values that several of them have."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

Positive = Annotated[float, Meta(gt=0, le=86_400 * 7)]
Share = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=1, le=4096)]
Some = Annotated[int, Meta(ge=0, le=1_000_000)]
PriorityName = Literal["interactive", "standard", "batch"]
ADDRESS_PATTERN = r"^(\[[0-9a-fA-F:]+\]|[0-9A-Za-z.-]+):[0-9]{1,5}$"
HostPort = Annotated[str, Meta(pattern=ADDRESS_PATTERN)]
StrategyName = Literal["least_load", "round_robin", "least_connections", "weighted", "geo", "prefix_affinity"]
Region = Annotated[str, Meta(min_length=1, max_length=63)]


class Section(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the configuration file."""
