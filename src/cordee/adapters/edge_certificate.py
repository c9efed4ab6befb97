"""A certificate and its key as the edge may use them: read, and checked before anybody is served with them."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from cordee.adapters.link_tls import PkiError

WARN_BEFORE = datetime.timedelta(days=14)
FILE_BYTES_MAX = 256 * 1024  # a chain of a dozen certificates is a tenth of it


@dataclass(frozen=True, slots=True)
class Pair:
    """A PEM chain and its PEM key, which fit; `digest` tells one certificate from the next."""

    chain: bytes
    key: bytes
    expires: datetime.datetime
    digest: str

    def warning(self, now: datetime.datetime) -> str:
        """What its owner should hear, or ""."""
        left = self.expires - now
        if left > WARN_BEFORE:
            return ""
        return f"the edge's certificate expires on {self.expires:%Y-%m-%d %H:%M} UTC, in {left.days} days: renew it"


def read_pair(certificate: Path, key: Path, now: datetime.datetime) -> Pair:
    """Raises PkiError with the file, what is wrong with it, and what to do."""
    chain_bytes, key_bytes = _read(certificate, "edge.tls.certificate"), _read(key, "edge.tls.key")
    try:
        chain = x509.load_pem_x509_certificates(chain_bytes)
    except ValueError as error:
        raise PkiError(f"edge.tls.certificate {certificate}: it holds no certificate in PEM form.") from error
    try:
        private = serialization.load_pem_private_key(key_bytes, password=None)
    except TypeError as error:
        raise PkiError(
            f"edge.tls.key {key}: it is protected by a password; give one without, readable by its owner only."
        ) from error
    except ValueError as error:
        raise PkiError(f"edge.tls.key {key}: it holds no private key in PEM form.") from error
    leaf = chain[0]
    if _public(private.public_key()) != _public(leaf.public_key()):
        raise PkiError(f"edge.tls.key {key}: it does not belong to the first certificate of {certificate}.")
    if now >= leaf.not_valid_after_utc:
        raise PkiError(
            f"edge.tls.certificate {certificate}: it expired on {leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC."
        )
    if now < leaf.not_valid_before_utc:
        raise PkiError(
            f"edge.tls.certificate {certificate}: it is not valid before {leaf.not_valid_before_utc:%Y-%m-%d %H:%M} UTC; "
            "see whether this host's clock is right."
        )
    # Written anew, so that nothing else that stood in the files reaches the edge.
    chain_pem = b"".join(one.public_bytes(serialization.Encoding.PEM) for one in chain)
    key_pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Pair(chain_pem, key_pem, leaf.not_valid_after_utc, leaf.fingerprint(hashes.SHA256()).hex())


def _public(key: object) -> bytes:
    encoded: bytes = key.public_bytes(  # type: ignore[attr-defined]  # every kind of public key has it
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return encoded


def _read(path: Path, setting: str) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise PkiError(
            f"{setting} {path}: cannot be read: {error.strerror}; name a file this user can read."
        ) from error
    if len(content) > FILE_BYTES_MAX:
        raise PkiError(f"{setting} {path}: longer than {FILE_BYTES_MAX} bytes; this is no certificate or key.")
    return content
