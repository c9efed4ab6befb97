"""For whom, for what and for how long a file is kept."""

from __future__ import annotations

from cordee.config.sections.services import Files
from cordee.services.base.errors import Problem
from cordee.services.base.principal import SYSTEM, Principal
from cordee.services.files.records import Owner, Purpose

READ, WRITE = "files.read", "files.write"
KEPT_S_MIN, KEPT_S_MAX = 3600, 2_592_000  # an hour to thirty days, as OpenAI has it
ANCHOR = "created_at"
_GIVEN = tuple(sorted(one.value for one in Purpose if one is not Purpose.BATCH_OUTPUT))


def owner_of(who: Principal) -> Owner:
    """Whose what they make is, and what they see: their own; with a key of the tenant alone, what was made with such keys."""
    return Owner(who.tenant, who.subject)


def purpose_of(who: Principal, value: str) -> Purpose:
    """Raises Problem (400). What batches put out only batches hand in."""
    try:
        purpose = Purpose(value)
    except ValueError:
        purpose = None
    if purpose is None or (purpose is Purpose.BATCH_OUTPUT and SYSTEM not in who.scopes):
        raise Problem(400, f"purpose: it is one of {', '.join(_GIVEN)}.", "purpose", "invalid_purpose")
    return purpose


def kept_s_of(settings: Files, purpose: Purpose, anchor: str | None, seconds: int | None) -> int | None:
    """For how many seconds a file is kept; None for always. Raises Problem (400)."""
    if anchor is None and seconds is None:
        return settings.batch_file_kept_s if purpose is Purpose.BATCH else None
    if anchor != ANCHOR:
        raise Problem(400, f"expires_after.anchor: it is {ANCHOR}.", "expires_after.anchor", "invalid_anchor")
    if seconds is None or not KEPT_S_MIN <= seconds <= KEPT_S_MAX:
        raise Problem(
            400, f"expires_after.seconds: it lies between {KEPT_S_MIN} and {KEPT_S_MAX}.",
            "expires_after.seconds", "invalid_seconds",
        )  # fmt: skip
    return seconds
