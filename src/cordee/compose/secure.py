"""The gateway's side of links between hosts: mutual TLS by certificates of the installation's own authority."""

from __future__ import annotations

import ssl
from pathlib import Path

from cordee.adapters import pki


def context_to_workers(data: Path) -> ssl.SSLContext:
    """Certificates are made or renewed first. Raises OSError."""
    try:
        pki.ensure(data)
        return pki.client_context(data, "gateway", "worker")
    except pki.PkiError as error:
        raise OSError(str(error)) from error


def is_worker(peer: ssl.SSLObject) -> bool:
    return pki.peer_role(peer) == "worker"
