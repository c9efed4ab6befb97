"""The installation's own certificates: who may speak on the link, proved both ways, TLS 1.3 only.

A certificate says a role, not a host: gateways are clients and workers are servers, and each certificate may be used for
its own side only (extended key usage), so a stolen gateway certificate cannot play a worker. The role also stands in it as
`cordee://role/ROLE`. Certificates live 90 days and are renewed when less than a third is left; the authority lives ten years
and its successor is trusted beside it, so neither change interrupts a connection.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cordee.adapters.durable import directory, locked, replace

GATEWAY = "gateway"
WORKER = "worker"
USAGES = {GATEWAY: ExtendedKeyUsageOID.CLIENT_AUTH, WORKER: ExtendedKeyUsageOID.SERVER_AUTH}
ROLE_URI = "cordee://role/"
NODE_LIFE = datetime.timedelta(days=90)
AUTHORITY_LIFE = datetime.timedelta(days=3650)
RENEW_BELOW = 3  # renewed when less than one part in three of the life is left
CLOCK_SKEW = datetime.timedelta(hours=1)  # a peer whose clock is this much behind still accepts a new certificate

_AUTHORITY_FILE, _TRUST_FILE, _LOCK_FILE = "authority.pem", "trust.pem", ".lock"
_EDGE_FILE = "edge.pem"
_PUBLIC = 0o644


class PkiError(Exception):
    """The certificates cannot be made or used; the message says which file, why, and what to do."""


class TlsObject(Protocol):
    """What a finished handshake leaves: an ssl.SSLObject, an ssl.SSLSocket or uvloop's."""

    def getpeercert(self) -> Mapping[str, object] | None: ...


Identity = tuple[ec.EllipticCurvePrivateKey, x509.Certificate]


def ensure(data: Path, now: datetime.datetime | None = None) -> bool:
    """Make what is missing below DIR/pki and renew what is due; True if anything was written. Raises PkiError.

    Call it before the processes start and once a day; after a True, `reload` gives running contexts the new certificate.
    """
    now = now or datetime.datetime.now(datetime.UTC)
    base = data / "pki"
    try:
        with locked(directory(base) / _LOCK_FILE):
            written = False
            authority = _read_identity(base / _AUTHORITY_FILE)
            if authority is None or _is_due(authority[1], now):
                authority = _make_authority(now)
                # Trusted before it signs: a crash between the two writes leaves nothing that anybody refuses.
                _write_trust(base / _TRUST_FILE, authority[1], now)
                replace(base / _AUTHORITY_FILE, _pem(authority))
                written = True
            elif authority[1] not in _read_trust(base / _TRUST_FILE):
                _write_trust(base / _TRUST_FILE, authority[1], now)
                written = True
            for role in USAGES:
                node = _read_identity(_node_file(base, role))
                if node is None or _is_due(node[1], now) or not _is_issued(node[1], authority[1]):
                    replace(_node_file(base, role), _pem(_make_node(role, authority, now)))
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
    base = data / "pki"
    path = base / _EDGE_FILE
    try:
        with locked(base / _LOCK_FILE):
            authority = _read_identity(base / _AUTHORITY_FILE)
            if authority is None:
                raise PkiError(f"{base / _AUTHORITY_FILE} is missing or unusable; `cordee up` makes a new one.")
            wanted = [_general_name(name) for name in names]
            edge = _read_identity(path)
            if (
                edge is None
                or _is_due(edge[1], now)
                or not _is_issued(edge[1], authority[1])
                or _names_of(edge[1]) != wanted
            ):
                replace(path, _pem(_make_edge(wanted, authority, now)))
    except OSError as error:
        raise PkiError(
            f"{base}: the edge's certificate cannot be written: {error.strerror}; free space or fix its owner."
        ) from error
    return path


def trust_file(data: Path) -> Path:
    """What clients of a made certificate have to trust."""
    return data / "pki" / _TRUST_FILE


def server_context(data: Path, role: str = WORKER) -> ssl.SSLContext:
    """For the side that listens. Lets in only clients that hold a certificate of this installation. Raises PkiError."""
    return _context(data, role, WORKER, ssl.PROTOCOL_TLS_SERVER)


def client_context(data: Path, role: str = GATEWAY, expect: str = WORKER) -> ssl.SSLContext:
    """For the side that connects, to a peer of the role `expect`. Raises PkiError.

    Host names play no part. The handshake itself refuses a peer whose certificate is not for serving; `check_peer` then
    compares the role that is written in it.
    """
    if USAGES.get(expect) is not ExtendedKeyUsageOID.SERVER_AUTH:
        raise PkiError(f"a client can expect the role {WORKER}, not {expect!r}: only workers serve the link.")
    return _context(data, role, GATEWAY, ssl.PROTOCOL_TLS_CLIENT)


def reload(context: ssl.SSLContext, data: Path, role: str) -> None:
    """Let new handshakes of a context use the certificates that are on disk now. Raises PkiError."""
    base = data / "pki"
    try:
        context.load_verify_locations(cafile=os.fspath(base / _TRUST_FILE))
        context.load_cert_chain(_node_file(base, role))
    except (OSError, ssl.SSLError) as error:
        raise PkiError(
            f"{base}: the certificate of a {role} cannot be used: {error}; `cordee up` makes new ones."
        ) from error


def peer_role(tls: TlsObject) -> str:
    """The role in the peer's certificate, after a handshake of one of our contexts. Raises PkiError where there is none."""
    certificate = tls.getpeercert()
    names = certificate.get("subjectAltName", ()) if certificate is not None else ()
    assert isinstance(names, tuple)  # as the ssl module documents it
    roles = [value.removeprefix(ROLE_URI) for kind, value in names if kind == "URI" and value.startswith(ROLE_URI)]
    role = next((role for role in USAGES if roles == [role]), None)
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


def _make_authority(now: datetime.datetime) -> Identity:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("Cordée local authority")
    builder = _builder(name, name, key, now, AUTHORITY_LIFE)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_key_usage(sign_certificates=True), critical=True)
    return key, builder.sign(key, hashes.SHA256())


def _make_node(role: str, authority: Identity, now: datetime.datetime) -> Identity:
    key = ec.generate_private_key(ec.SECP256R1())
    authority_key, authority_certificate = authority
    builder = _builder(_name(f"Cordée {role}"), authority_certificate.subject, key, now, NODE_LIFE)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(sign_certificates=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([USAGES[role]]), critical=True)
    role_uri = x509.UniformResourceIdentifier(ROLE_URI + role)
    builder = builder.add_extension(x509.SubjectAlternativeName([role_uri]), critical=False)
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    builder = builder.add_extension(issuer, critical=False)
    return key, builder.sign(authority_key, hashes.SHA256())


def _make_edge(names: Sequence[x509.GeneralName], authority: Identity, now: datetime.datetime) -> Identity:
    key = ec.generate_private_key(ec.SECP256R1())
    authority_key, authority_certificate = authority
    builder = _builder(_name("Cordée edge"), authority_certificate.subject, key, now, NODE_LIFE)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(sign_certificates=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    builder = builder.add_extension(issuer, critical=False)
    return key, builder.sign(authority_key, hashes.SHA256())


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    try:
        return x509.DNSName(name)
    except ValueError as error:
        raise PkiError(f"edge.tls.names: {name!r} is neither an IP address nor a host name in ASCII.") from error


def _names_of(certificate: x509.Certificate) -> list[x509.GeneralName]:
    try:
        return list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return []


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    now: datetime.datetime,
    life: datetime.timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _key_usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _is_due(certificate: x509.Certificate, now: datetime.datetime) -> bool:
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    return not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc - life / RENEW_BELOW


def _is_issued(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def _node_file(base: Path, role: str) -> Path:
    return base / f"{role}.pem"


def _pem(identity: Identity) -> bytes:
    # Key and certificate in one file: a rename then changes both, and they always fit together.
    key, certificate = identity
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private + certificate.public_bytes(serialization.Encoding.PEM)


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
