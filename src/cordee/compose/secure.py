"""The gateway's side of links between hosts: mutual TLS by certificates of the installation's own authority."""

from __future__ import annotations

import ssl
from pathlib import Path

from cordee.adapters import link_tls, pki


def context_to_workers(data: Path) -> ssl.SSLContext:
    """Certificates are made or renewed first. Raises OSError."""
    try:
        pki.ensure(data)
        return link_tls.client_context(data)
    except link_tls.PkiError as error:
        raise OSError(str(error)) from error


def is_worker(peer: ssl.SSLObject) -> bool:
    return link_tls.peer_role(peer) == link_tls.WORKER
