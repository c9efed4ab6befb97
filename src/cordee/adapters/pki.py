"""The installation's own certificates on disk: what is missing is made, what is due is renewed.

The authority's successor is trusted beside it, so that no change interrupts a connection. What stands in a certificate is said
in `certificates`, how it is used in `link_tls`.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from cordee.adapters.certificates import (
    USAGES,
    Identity,
    general_name,
    is_due,
    is_issued,
    make_authority,
    make_edge,
    make_node,
    names_of,
    pem,
)
from cordee.adapters.durable import directory, locked, replace
from cordee.adapters.link_tls import PkiError, directory_of, node_file, trust_file

_AUTHORITY_FILE, _EDGE_FILE, _LOCK_FILE = "authority.pem", "edge.pem", ".lock"
_PUBLIC = 0o644


def ensure(data: Path, now: datetime.datetime | None = None) -> bool:
    """Make what is missing below DIR/pki and renew what is due; True if anything was written. Raises PkiError.

    Call it before the processes start and once a day; after a True, `reload` gives running contexts the new certificate.
    """
    now = now or datetime.datetime.now(datetime.UTC)
    base = directory_of(data)
    try:
        with locked(directory(base) / _LOCK_FILE):
            written = False
            authority = _read_identity(base / _AUTHORITY_FILE)
            if authority is None or is_due(authority[1], now):
                authority = make_authority(now)
                # Trusted before it signs: a crash between the two writes leaves nothing that anybody refuses.
                _write_trust(trust_file(data), authority[1], now)
                replace(base / _AUTHORITY_FILE, pem(authority))
                written = True
            elif authority[1] not in _read_trust(trust_file(data)):
                _write_trust(trust_file(data), authority[1], now)
                written = True
            for role in USAGES:
                node = _read_identity(node_file(data, role))
                if node is None or is_due(node[1], now) or not is_issued(node[1], authority[1]):
                    replace(node_file(data, role), pem(make_node(role, authority, now)))
                    written = True
            return written
    except OSError as error:
        raise PkiError(
            f"{base}: the certificates cannot be written: {error.strerror}; free space or fix its owner."
        ) from error


def ensure_edge(data: Path, names: Sequence[str], now: datetime.datetime | None = None) -> Path:
    """The file with key and certificate of the edge, for clients that reach it by one of `names` (host names or IP addresses);
    made or renewed where it is missing, due, or for other names. Raises PkiError.

    It is a certificate for serving and names no role, so that whoever steals it cannot play a worker on the link.
    """
    now = now or datetime.datetime.now(datetime.UTC)
    ensure(data, now)
    base = directory_of(data)
    path = base / _EDGE_FILE
    try:
        with locked(base / _LOCK_FILE):
            authority = _read_identity(base / _AUTHORITY_FILE)
            if authority is None:
                raise PkiError(f"{base / _AUTHORITY_FILE} is missing or unusable; `cordee up` makes a new one.")
            wanted = [general_name(name) for name in names]
            edge = _read_identity(path)
            if (
                edge is None
                or is_due(edge[1], now)
                or not is_issued(edge[1], authority[1])
                or names_of(edge[1]) != wanted
            ):
                replace(path, pem(make_edge(wanted, authority, now)))
    except OSError as error:
        raise PkiError(
            f"{base}: the edge's certificate cannot be written: {error.strerror}; free space or fix its owner."
        ) from error
    return path


def _read_identity(path: Path) -> Identity | None:
    """None where there is nothing, or nothing usable: it is then made anew."""
    content = _read(path)
    try:
        key = serialization.load_pem_private_key(content, password=None)
        certificate = x509.load_pem_x509_certificate(content)
    except (ValueError, TypeError):
        return None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        return None
    return key, certificate


def _read_trust(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(_read(path))
    except ValueError:
        return []


def _write_trust(path: Path, authority: x509.Certificate, now: datetime.datetime) -> None:
    former = [old for old in _read_trust(path) if old != authority and old.not_valid_after_utc > now]
    replace(path, b"".join(one.public_bytes(serialization.Encoding.PEM) for one in [authority, *former]), _PUBLIC)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
