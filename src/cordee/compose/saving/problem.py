"""What makes a backup or a restore impossible."""

from __future__ import annotations


class SavingError(Exception):
    """It was not done; the message says why and what to do. What was there before is there still."""
