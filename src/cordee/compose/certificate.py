"""The edge's certificate while the platform runs: checked at the start, and replaced without a drop when its files change.

Files that do not fit, or are not whole yet, change nothing: the certificate that is served stays, and one line says why.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
from pathlib import Path

from cordee.adapters import pki
from cordee.adapters.durable import replace
from cordee.adapters.edge_certificate import Pair, read_pair
from cordee.adapters.envoy_tls import secret_file
from cordee.adapters.link_tls import PkiError, trust_file
from cordee.config.sections.entrances import Tls
from cordee.supervisor.events import Event, Listener

LOOK_S = 5.0  # how much later than its files the edge serves a new certificate
LOOK_AT_OWN_S = 3600.0  # one of our own making is renewed weeks before it is due
WARN_EVERY = datetime.timedelta(days=1)


class EdgeCertificate:
    """`secret` is the file that the edge follows."""

    def __init__(self, tls: Tls, data: Path, secret: Path) -> None:
        self._tls = tls
        self._data = data
        self._secret = secret
        self._served = ""
        self._complaint = ""
        self._warned: datetime.datetime | None = None

    @property
    def trusted(self) -> Path:
        """What a client on this host can check it with."""
        return Path(self._tls.certificate).expanduser() if self._tls.certificate else trust_file(self._data)

    def take(self) -> Pair:
        """Read, check, and hand to the edge what is there now. Raises PkiError, OSError."""
        now = datetime.datetime.now(datetime.UTC)
        tls = self._tls
        if tls.certificate:
            pair = read_pair(Path(tls.certificate).expanduser(), Path(tls.key).expanduser(), now)
        else:
            made = pki.ensure_edge(self._data, tls.names, now)
            pair = read_pair(made, made, now)
        if pair.digest != self._served:
            replace(self._secret, secret_file(pair.chain, pair.key))
            self._served = pair.digest
        return pair

    async def follow(self, listener: Listener) -> None:
        """Until cancelled: look every few seconds, take what is new and right, and say so."""
        while True:
            self._look(listener)
            await asyncio.sleep(LOOK_S if self._tls.certificate else LOOK_AT_OWN_S)

    def _look(self, listener: Listener) -> None:
        before = self._served
        try:
            pair = self.take()
        except (PkiError, OSError) as error:
            if str(error) != self._complaint:
                self._complaint = str(error)
                detail = (("reason", error), ("cure", "the one before is still served"))
                listener(Event("certificate-refused", "edge", detail, logging.ERROR))
            return
        self._complaint = ""
        if pair.digest != before:
            listener(Event("certificate", "edge", (("expires", f"{pair.expires:%Y-%m-%d}"),)))
        now = datetime.datetime.now(datetime.UTC)
        warning = pair.warning(now)
        if warning and (self._warned is None or now - self._warned >= WARN_EVERY):
            self._warned = now
            listener(Event("certificate-expires", "edge", (("warning", warning),), logging.WARNING))
