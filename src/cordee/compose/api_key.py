"""Where the key of another server stands, and what one may look like. A key is never part of a configuration or of a message."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

KEY_BYTES_MAX = 4096


def key_of(variable: str, file: str, whose: str, environ: Mapping[str, str] = os.environ) -> str:
    """The API key from where the configuration says it stands; "" where it says nothing. Raises ValueError."""
    if variable:
        key = environ.get(variable, "")
        place = f"the environment variable {variable}"
    elif file:
        place = f"the file {file}"
        try:
            with Path(file).expanduser().open("rb") as stream:
                key = stream.read(KEY_BYTES_MAX + 1).decode("ascii", "replace").strip()
        except OSError as error:
            raise ValueError(f"{whose}: its key cannot be read from {place}: {error.strerror}") from error
    else:
        return ""
    if not key or len(key) > KEY_BYTES_MAX or not key.isprintable() or not key.isascii() or " " in key:
        raise ValueError(f"{whose}: {place} holds no API key: one word of printable ASCII characters is expected")
    return key
