"""Which contents a purpose takes, and as what a content is given back.

What a client says of a content is believed as far as its first bytes do not say otherwise. A content is given back as a type only if a
browser that is tricked into showing it can do no harm with it; everything else is bytes.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from cordee.services.base.errors import Problem
from cordee.services.files.records import Purpose

HEAD_BYTES = 8192  # of a content are looked at
BYTES = "application/octet-stream"
MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,62}/[a-z0-9][a-z0-9!#$&^_.+-]{0,62}")

_OFFICE = "application/vnd.openxmlformats-officedocument."
_IMAGES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
# Types that begin in a way of their own: what is said to be one of these has to look like it.
_CERTAIN = _IMAGES | {
    "application/pdf", "application/zip", "application/gzip", f"{_OFFICE}wordprocessingml.document",
    f"{_OFFICE}spreadsheetml.sheet", f"{_OFFICE}presentationml.presentation",
}  # fmt: skip
_TEXTS = frozenset({"text/plain", "text/csv", "text/markdown", "application/json", "application/jsonl"})
_LINES = frozenset({Purpose.BATCH, Purpose.BATCH_OUTPUT, Purpose.FINE_TUNE, Purpose.EVALS})
_ZIP = b"PK"


def said(media_type: str) -> str:
    """A media type without its parameters; `BYTES` for what is none."""
    plain = media_type.partition(";")[0].strip().lower()
    return plain if MEDIA_TYPE.fullmatch(plain) else BYTES


def settled(purpose: Purpose, claimed: str, head: bytes, found: Collection[str], param: str) -> str:
    """The type as which a content is given back. `head`: its first HEAD_BYTES; `found`: the types that these bytes may be. Raises
    Problem (400), which names `param`."""
    is_text = reads_as_text(head)
    if purpose in _LINES and not is_text:
        raise Problem(
            400,
            f"{param}: a file for {purpose.value} holds JSON Lines in UTF-8; this one is not text.",
            param,
            "not_text",
        )
    if purpose is Purpose.VISION and not _IMAGES & set(found):
        raise Problem(
            400,
            f"{param}: a file for vision is an image: PNG, JPEG, GIF or WebP; this one is none.",
            param,
            "not_an_image",
        )
    if claimed in _CERTAIN:
        if claimed not in found and not (claimed == "application/zip" and head.startswith(_ZIP)):
            raise Problem(
                400, f"{param}: this is said to be {claimed}, and does not begin like it; give the right type or none.",
                param, "type_mismatch",
            )  # fmt: skip
        return claimed
    if is_text:
        return claimed if claimed in _TEXTS else BYTES
    return next((kind for kind in found if kind in _IMAGES or kind == "application/pdf"), BYTES)


def reads_as_text(head: bytes) -> bool:
    """Whether this is the beginning of a text in UTF-8."""
    if b"\0" in head:
        return False
    try:
        head.decode()
    except UnicodeDecodeError as error:
        # A character that the end of the head has cut is none of the content's fault.
        return error.reason == "unexpected end of data" and len(head) - error.start < 4 and len(head) >= HEAD_BYTES
    return True
