"""What clients are told of a fault names files, but not where on this host they lie: that is in the log, for who runs it."""

from __future__ import annotations

import re

# From the root, at the beginning of a word: what follows a letter, a colon or a slash is an address or a fraction. A space within
# belongs to the path as long as another slash follows it in the same phrase: rather a word too few is told than a directory.
_QUOTED = re.compile(r"""(['"])/[^'"\n]*?([^/'"\n]*)/?\1""")
_PLAIN = re.compile(r"""(?<![\w/:.~-])/(?:[^/\n:;,'"]+/)*([^\s/:;,'"]*)""")


def without_paths(text: str) -> str:
    """Of every absolute path its last part alone is left."""
    return _PLAIN.sub(r"\1", _QUOTED.sub(r"\1\2\1", text))
