"""What stands in each certificate of an installation, and for how long it is good.

Certificates live 90 days and are renewed when less than a third is left; the authority lives ten years. The edge's names no role,
so that whoever steals it cannot play a worker on the link.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cordee.adapters.link_tls import GATEWAY, ROLE_URI, WORKER, PkiError

USAGES = {GATEWAY: ExtendedKeyUsageOID.CLIENT_AUTH, WORKER: ExtendedKeyUsageOID.SERVER_AUTH}
NODE_LIFE = datetime.timedelta(days=90)
AUTHORITY_LIFE = datetime.timedelta(days=3650)
RENEW_BELOW = 3  # renewed when less than one part in three of the life is left
CLOCK_SKEW = datetime.timedelta(hours=1)  # a peer whose clock is this much behind still accepts a new certificate

Identity = tuple[ec.EllipticCurvePrivateKey, x509.Certificate]


def make_authority(now: datetime.datetime) -> Identity:
    """A new authority, which has signed itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("Cordée local authority")
    builder = _builder(name, name, key, now, AUTHORITY_LIFE)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_key_usage(sign_certificates=True), critical=True)
    return key, builder.sign(key, hashes.SHA256())


def make_node(role: str, authority: Identity, now: datetime.datetime) -> Identity:
    """For everybody of `role` on the link."""
    name = x509.UniformResourceIdentifier(ROLE_URI + role)
    return _make_leaf(role, USAGES[role], [name], authority, now, usage_is_critical=True)


def make_edge(names: Sequence[x509.GeneralName], authority: Identity, now: datetime.datetime) -> Identity:
    """For the edge, as clients reach it."""
    return _make_leaf("edge", ExtendedKeyUsageOID.SERVER_AUTH, names, authority, now, usage_is_critical=False)


def _make_leaf(
    what: str, usage: x509.ObjectIdentifier, names: Sequence[x509.GeneralName], authority: Identity,
    now: datetime.datetime, *, usage_is_critical: bool,
) -> Identity:  # fmt: skip
    key = ec.generate_private_key(ec.SECP256R1())
    authority_key, authority_certificate = authority
    builder = _builder(_name(f"Cordée {what}"), authority_certificate.subject, key, now, NODE_LIFE)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(sign_certificates=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=usage_is_critical)
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    builder = builder.add_extension(issuer, critical=False)
    return key, builder.sign(authority_key, hashes.SHA256())


def general_name(name: str) -> x509.GeneralName:
    """A name of `edge.tls.names`. Raises PkiError."""
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    try:
        return x509.DNSName(name)
    except ValueError as error:
        raise PkiError(f"edge.tls.names: {name!r} is neither an IP address nor a host name in ASCII.") from error


def names_of(certificate: x509.Certificate) -> list[x509.GeneralName]:
    """What it can be reached by."""
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


def is_due(certificate: x509.Certificate, now: datetime.datetime) -> bool:
    """Whether another one is to take its place."""
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    return not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc - life / RENEW_BELOW


def is_issued(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """Whether this authority has signed it."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def pem(identity: Identity) -> bytes:
    """Key and certificate in one file: a rename then changes both, and they always fit together."""
    key, certificate = identity
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private + certificate.public_bytes(serialization.Encoding.PEM)
