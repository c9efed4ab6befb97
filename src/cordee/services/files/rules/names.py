"""A file's name is something to show, never something to open: what is in it that could mislead a reader or a program is taken out.

Contents lie under random names, so nothing here protects the storage; it protects whoever sees the name or saves a download under it.
"""

from __future__ import annotations

import unicodedata
from urllib.parse import quote

BYTES_MAX = 200  # in UTF-8; file systems take 255, and a browser may add to it
NAMELESS = "file"
# Cc control, Cf invisible and direction-changing (right-to-left override), Cs halves, Co private, Cn unassigned; Zl, Zp new lines.
_MISLEADING = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_RESERVED = frozenset('<>:"|?*')
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._- ()+,=@")


def cleaned(name: str) -> str:
    """The last component of `name` without anything invisible, in Unicode's composed form, neither hidden nor too long. The
    same name cleaned again is the same."""
    composed = unicodedata.normalize("NFC", name)
    shown = "".join(c for c in composed if unicodedata.category(c) not in _MISLEADING)
    last = shown.replace("\\", "/").rstrip("/").rpartition("/")[2]
    kept = unicodedata.normalize("NFC", "".join(" " if c in _RESERVED else c for c in last))
    return _shortened(" ".join(kept.split()).strip(". ")) or NAMELESS


def disposition(name: str) -> str:
    """The value of Content-Disposition that makes a browser save a content, never show it (RFC 6266, RFC 8187)."""
    plain = "".join(c if c in _PLAIN else "_" for c in name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def _shortened(name: str) -> str:
    """At most BYTES_MAX, with its ending if that is a short one."""
    if len(name.encode()) <= BYTES_MAX:
        return name
    stem, dot, ending = name.rpartition(".")
    if not dot or len(ending.encode()) > BYTES_MAX // 4:
        stem, dot, ending = name, "", ""
    room = BYTES_MAX - len(f"{dot}{ending}".encode())
    cut = stem.encode()[:room].decode(errors="ignore")
    return f"{cut.strip('. ')}{dot}{ending}"
