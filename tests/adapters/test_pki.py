"""Both sides prove their role, over TLS 1.3, with certificates that are renewed before they end."""

from __future__ import annotations

import datetime
import ssl
import stat
from pathlib import Path

import pytest
from cryptography import x509

from cordee.adapters import pki
from cordee.adapters.pki import GATEWAY, WORKER, PkiError, check_peer, client_context, ensure, peer_role, server_context

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


def shake(server: ssl.SSLContext, client: ssl.SSLContext) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Carry a handshake through in memory; the first application read settles what TLS 1.3 leaves open."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    one, other = server.wrap_bio(up, down, server_side=True), client.wrap_bio(down, up)
    for _ in range(4):
        for side in (other, one):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return one, other


def certificate(data: Path, role: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((data / "pki" / f"{role}.pem").read_bytes())


def test_a_gateway_and_a_worker_of_one_installation_know_each_other(tmp_path):
    assert ensure(tmp_path)
    server, client = shake(server_context(tmp_path), client_context(tmp_path))
    assert (peer_role(server), peer_role(client)) == (GATEWAY, WORKER)
    assert client.version() == "TLSv1.3"
    check_peer(client, WORKER)
    with pytest.raises(PkiError, match="is a gateway, expected a worker"):
        check_peer(server, WORKER)


def test_keys_are_for_their_owner_only(tmp_path):
    ensure(tmp_path)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "pki").iterdir()}
    assert modes == {
        "authority.pem": 0o600,
        "gateway.pem": 0o600,
        "worker.pem": 0o600,
        "trust.pem": 0o644,
        ".lock": 0o600,
    }
    assert stat.S_IMODE((tmp_path / "pki").stat().st_mode) == 0o700


def test_a_stranger_is_refused_on_both_sides(tmp_path):
    for name in ("ours", "theirs"):
        ensure(tmp_path / name)
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        shake(server_context(tmp_path / "theirs"), client_context(tmp_path / "ours"))
    blind = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    blind.check_hostname, blind.verify_mode = False, ssl.CERT_NONE
    with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        shake(server_context(tmp_path / "ours"), blind)
    blind.load_cert_chain(tmp_path / "theirs" / "pki" / "gateway.pem")
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        shake(server_context(tmp_path / "ours"), blind)


def test_a_certificate_serves_its_own_side_only(tmp_path):
    ensure(tmp_path)
    rogue_server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    rogue_server.load_cert_chain(tmp_path / "pki" / "gateway.pem")
    with pytest.raises(ssl.SSLError, match="unsuitable certificate purpose"):
        shake(rogue_server, client_context(tmp_path))
    rogue_client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    rogue_client.check_hostname, rogue_client.verify_mode = False, ssl.CERT_NONE
    rogue_client.load_cert_chain(tmp_path / "pki" / "worker.pem")
    with pytest.raises(ssl.SSLError, match="unsuitable certificate purpose"):
        shake(server_context(tmp_path), rogue_client)
    with pytest.raises(PkiError, match="cannot take this side"):
        server_context(tmp_path, GATEWAY)
    with pytest.raises(PkiError, match="only workers serve"):
        client_context(tmp_path, GATEWAY, GATEWAY)


def test_older_protocols_are_refused(tmp_path):
    ensure(tmp_path)
    old = client_context(tmp_path)
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        shake(server_context(tmp_path), old)


def test_nothing_is_written_until_less_than_a_third_of_the_life_is_left(tmp_path):
    ensure(tmp_path, NOW)
    first = certificate(tmp_path, WORKER)
    assert not ensure(tmp_path, NOW + 59 * DAY)
    assert certificate(tmp_path, WORKER) == first
    assert ensure(tmp_path, NOW + 61 * DAY)
    renewed = certificate(tmp_path, WORKER)
    assert renewed.not_valid_after_utc - renewed.not_valid_before_utc <= pki.NODE_LIFE + pki.CLOCK_SKEW
    assert renewed.not_valid_after_utc > first.not_valid_after_utc


def test_a_new_authority_is_trusted_beside_the_one_before(tmp_path):
    ensure(tmp_path, NOW)
    running = client_context(tmp_path)
    assert ensure(tmp_path, NOW + 3000 * DAY)
    trusted = x509.load_pem_x509_certificates((tmp_path / "pki" / "trust.pem").read_bytes())
    assert len(trusted) == 2
    pki.reload(running, tmp_path, GATEWAY)
    assert len(running.get_ca_certs()) == 2


@pytest.mark.parametrize("name", ["authority.pem", "worker.pem", "trust.pem"])
def test_what_is_broken_or_missing_is_made_anew_and_works(tmp_path, name):
    ensure(tmp_path)
    (tmp_path / "pki" / name).write_bytes(b"not a certificate")
    assert ensure(tmp_path)
    (tmp_path / "pki" / name).unlink()
    assert ensure(tmp_path)
    assert not ensure(tmp_path)
    _, client = shake(server_context(tmp_path), client_context(tmp_path))
    assert peer_role(client) == WORKER


def test_a_missing_certificate_is_an_error_that_says_what_makes_one(tmp_path):
    with pytest.raises(PkiError, match="`cordee up` makes new ones"):
        server_context(tmp_path)
