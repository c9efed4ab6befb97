"""TLS on the link: who may speak there, proved both ways, TLS 1.3 only.

A certificate says a role, not a host: gateways are clients and workers are servers, and each certificate may be used for
its own side only (extended key usage), so a stolen gateway certificate cannot play a worker. The role also stands in it as
`cordee://role/ROLE`. Here they are used; `pki` makes and renews them.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

GATEWAY = "gateway"
WORKER = "worker"
ROLES = (GATEWAY, WORKER)
ROLE_URI = "cordee://role/"


class PkiError(Exception):
    """The certificates cannot be made or used; the message says which file, why, and what to do."""


class TlsObject(Protocol):
    """What a finished handshake leaves: an ssl.SSLObject, an ssl.SSLSocket or uvloop's."""

    def getpeercert(self) -> Mapping[str, object] | None: ...


def directory_of(data: Path) -> Path:
    """Where an installation has its certificates."""
    return data / "pki"


def trust_file(data: Path) -> Path:
    """What clients of a made certificate have to trust."""
    return directory_of(data) / "trust.pem"


def node_file(data: Path, role: str) -> Path:
    """Key and certificate of all who have `role`."""
    return directory_of(data) / f"{role}.pem"


def server_context(data: Path, role: str = WORKER) -> ssl.SSLContext:
    """For the side that listens. Lets in only clients that hold a certificate of this installation. Raises PkiError."""
    return _context(data, role, WORKER, ssl.PROTOCOL_TLS_SERVER)


def client_context(data: Path, role: str = GATEWAY, expect: str = WORKER) -> ssl.SSLContext:
    """For the side that connects, to a peer of the role `expect`. Raises PkiError.

    Host names play no part. The handshake itself refuses a peer whose certificate is not for serving; `check_peer` then
    compares the role that is written in it.
    """
    if expect != WORKER:
        raise PkiError(f"a client can expect the role {WORKER}, not {expect!r}: only workers serve the link.")
    return _context(data, role, GATEWAY, ssl.PROTOCOL_TLS_CLIENT)


def reload(context: ssl.SSLContext, data: Path, role: str) -> None:
    """Let new handshakes of a context use the certificates that are on disk now. Raises PkiError."""
    try:
        context.load_verify_locations(cafile=os.fspath(trust_file(data)))
        context.load_cert_chain(node_file(data, role))
    except (OSError, ssl.SSLError) as error:
        raise PkiError(
            f"{directory_of(data)}: the certificate of a {role} cannot be used: {error}; `cordee up` makes new ones."
        ) from error


def peer_role(tls: TlsObject) -> str:
    """The role in the peer's certificate, after a handshake of one of our contexts. Raises PkiError where there is none."""
    certificate = tls.getpeercert()
    names = certificate.get("subjectAltName", ()) if certificate is not None else ()
    assert isinstance(names, tuple)  # as the ssl module documents it
    roles = [value.removeprefix(ROLE_URI) for kind, value in names if kind == "URI" and value.startswith(ROLE_URI)]
    role = next((role for role in ROLES if roles == [role]), None)
    if role is None:
        raise PkiError("the peer's certificate names no role of this installation; the connection must be closed.")
    return role


def check_peer(tls: TlsObject, expect: str) -> None:
    """Raise PkiError unless the peer of a finished handshake has the role `expect`."""
    if (found := peer_role(tls)) != expect:
        raise PkiError(f"the peer is a {found}, expected a {expect}; the connection must be closed.")


def _context(data: Path, role: str, allowed: str, protocol: int) -> ssl.SSLContext:
    if role != allowed:
        raise PkiError(f"the role {role!r} cannot take this side of the link; {allowed} can.")
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # certificates name roles; see check_peer
    context.verify_mode = ssl.CERT_REQUIRED
    reload(context, data, role)
    return context
