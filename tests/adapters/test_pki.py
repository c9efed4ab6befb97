"""Certificates are made, and renewed before they end."""

from __future__ import annotations

import datetime
import stat
from pathlib import Path

import pytest
from cryptography import x509

from cordee.adapters import certificates
from cordee.adapters.link_tls import GATEWAY, WORKER, client_context, peer_role, reload, server_context
from cordee.adapters.pki import ensure
from tests.adapters.handshakes import shake

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


def certificate(data: Path, role: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((data / "pki" / f"{role}.pem").read_bytes())


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


def test_nothing_is_written_until_less_than_a_third_of_the_life_is_left(tmp_path):
    ensure(tmp_path, NOW)
    first = certificate(tmp_path, WORKER)
    assert not ensure(tmp_path, NOW + 59 * DAY)
    assert certificate(tmp_path, WORKER) == first
    assert ensure(tmp_path, NOW + 61 * DAY)
    renewed = certificate(tmp_path, WORKER)
    assert (
        renewed.not_valid_after_utc - renewed.not_valid_before_utc <= certificates.NODE_LIFE + certificates.CLOCK_SKEW
    )
    assert renewed.not_valid_after_utc > first.not_valid_after_utc


def test_a_new_authority_is_trusted_beside_the_one_before(tmp_path):
    ensure(tmp_path, NOW)
    running = client_context(tmp_path)
    assert ensure(tmp_path, NOW + 3000 * DAY)
    trusted = x509.load_pem_x509_certificates((tmp_path / "pki" / "trust.pem").read_bytes())
    assert len(trusted) == 2
    reload(running, tmp_path, GATEWAY)
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
