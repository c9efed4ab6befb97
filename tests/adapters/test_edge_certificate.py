"""The edge's certificate: what is refused before anybody is served with it, and what is made where none is given."""

import datetime
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cordee.adapters import pki
from cordee.adapters.edge_certificate import read_pair
from cordee.adapters.link_tls import PkiError

NOW = datetime.datetime(2026, 6, 1, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)


def made(
    directory: Path, *, begins: datetime.datetime = NOW - DAY, days: int = 90, password: bytes = b""
) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(begins).not_valid_after(begins + days * DAY)
    directory.mkdir(parents=True, exist_ok=True)
    certificate_path, key_path = directory / "cert.pem", directory / "key.pem"
    certificate_path.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    protection = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    key_path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, protection)
    )
    return certificate_path, key_path


def test_a_pair_that_fits_is_taken_and_says_when_it_ends(tmp_path: Path) -> None:
    pair = read_pair(*made(tmp_path), NOW)
    assert pair.expires == NOW + 89 * DAY
    assert pair.chain.startswith(b"-----BEGIN CERTIFICATE")
    assert pair.key.startswith(b"-----BEGIN PRIVATE KEY")
    assert pair.warning(NOW) == ""


def test_two_weeks_before_the_end_its_owner_is_warned(tmp_path: Path) -> None:
    pair = read_pair(*made(tmp_path), NOW)
    assert pair.warning(pair.expires - 14.5 * DAY) == ""
    assert "in 13 days" in pair.warning(pair.expires - 13.5 * DAY)


def test_what_cannot_be_served_is_refused_with_the_setting_and_the_cure(tmp_path: Path) -> None:
    certificate, key = made(tmp_path / "one")
    other_certificate, _ = made(tmp_path / "other")
    _, locked = made(tmp_path / "locked", password=b"secret")
    broken, absent = tmp_path / "broken.pem", tmp_path / "absent.pem"
    broken.write_text("-----BEGIN CERTIFICATE-----\nhalf")
    for chosen, said in (
        ((other_certificate, key), "does not belong to the first certificate"),
        ((certificate, locked), "protected by a password"),
        ((certificate, broken), "holds no private key"),
        ((broken, key), "holds no certificate"),
        ((absent, key), "cannot be read"),
        ((certificate, absent), "cannot be read"),
        (made(tmp_path / "old", begins=NOW - 91 * DAY), "expired on 2026-05-31"),
        (made(tmp_path / "young", begins=NOW + DAY), "not valid before 2026-06-02"),
    ):
        with pytest.raises(PkiError, match=r"^edge\.tls\.") as refused:
            read_pair(*chosen, NOW)
        assert said in str(refused.value)
        assert "secret" not in str(refused.value)


def test_one_is_made_for_the_names_and_kept_until_it_is_due_or_they_change(tmp_path: Path) -> None:
    path = pki.ensure_edge(tmp_path, ["localhost", "127.0.0.1", "::1"], NOW)
    first = read_pair(path, path, NOW)
    assert path.stat().st_mode & 0o777 == 0o600
    pki.ensure_edge(tmp_path, ["localhost", "127.0.0.1", "::1"], NOW + DAY)
    assert read_pair(path, path, NOW + DAY) == first
    pki.ensure_edge(tmp_path, ["localhost", "127.0.0.1", "::1"], NOW + 61 * DAY)
    renewed = read_pair(path, path, NOW + 61 * DAY)
    assert renewed.digest != first.digest
    pki.ensure_edge(tmp_path, ["example.org"], NOW + 61 * DAY)
    assert read_pair(path, path, NOW + 61 * DAY).digest != renewed.digest


def test_a_name_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PkiError, match=r"edge\.tls\.names: 'münchen"):
        pki.ensure_edge(tmp_path, ["münchen.example"], NOW)


def test_the_edges_certificate_cannot_play_a_worker(tmp_path: Path) -> None:
    path = pki.ensure_edge(tmp_path, ["localhost"])
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(path)
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == []
