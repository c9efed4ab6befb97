"""A file that comes in by a form: what its fields have said of it so far."""

from __future__ import annotations

from cordee.config.sections.services import Files
from cordee.domain.record import record
from cordee.services.base.errors import Problem
from cordee.services.base.principal import Principal
from cordee.services.files.records import Purpose
from cordee.services.files.rules import terms
from cordee.services.files.rules.kinds import settled
from cordee.services.files.sniff import found

PARAM = "file"


@record
class Told:
    """What a client says of a file: its name and type as they were given."""

    name: str
    purpose: Purpose
    media_type: str
    kept_s: int | None


class Arriving:
    """A file that comes in by a form, whose fields may come in any order: what is known of it so far. `filename` and `media_type`
    are there when its bytes are; `purpose`, `anchor` and `seconds` may follow."""

    def __init__(self, who: Principal, settings: Files) -> None:
        self._who = who
        self._settings = settings
        self.filename: str | None = None
        self.media_type = ""
        self.purpose: str | None = None
        self.anchor: str | None = None
        self.seconds: int | None = None

    def told(self) -> Told:
        """All of it. Raises Problem (400)."""
        if self.purpose is None:
            raise Problem(400, "purpose: it is required.", "purpose", "missing")
        purpose = terms.purpose_of(self._who, self.purpose)
        kept_s = terms.kept_s_of(self._settings, purpose, self.anchor, self.seconds)
        return Told(self.filename or "", purpose, self.media_type, kept_s)

    def look(self, head: bytes) -> None:
        """Refuse early what the purpose does not take, where it is known already. Raises Problem (400)."""
        if self.purpose is not None:
            told = self.told()
            settled(told.purpose, told.media_type, head, found(head), PARAM)
