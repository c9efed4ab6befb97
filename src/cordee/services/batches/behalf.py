"""As whom batches ask: their lines as whoever made them, files and erasures as the installation, for whoever made them."""

from __future__ import annotations

from cordee.services.base.principal import SYSTEM
from cordee.services.batches.records import Batch
from cordee.wire.vouch import Vouched

FILES_READ, FILES_WRITE = "files.read", "files.write"


def maker(batch: Batch) -> Vouched:
    """Who made the batch: their limits count, and so does it if their key is revoked."""
    return Vouched(batch.tenant, batch.key, batch.subject, batch.scopes)


def archivist(batch: Batch) -> Vouched:
    """The installation, reading and storing files that belong to who made the batch: also when their key is gone, because what was
    answered is theirs."""
    return Vouched(batch.tenant, batch.key, batch.subject, frozenset({SYSTEM, FILES_READ, FILES_WRITE}))
