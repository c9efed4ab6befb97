"""Both sides of a link prove their role, over TLS 1.3."""

from __future__ import annotations

import ssl

import pytest

from cordee.adapters.link_tls import (
    GATEWAY,
    WORKER,
    PkiError,
    check_peer,
    client_context,
    peer_role,
    server_context,
)
from cordee.adapters.pki import ensure
from tests.adapters.handshakes import shake


def test_a_gateway_and_a_worker_of_one_installation_know_each_other(tmp_path):
    assert ensure(tmp_path)
    server, client = shake(server_context(tmp_path), client_context(tmp_path))
    assert (peer_role(server), peer_role(client)) == (GATEWAY, WORKER)
    assert client.version() == "TLSv1.3"
    check_peer(client, WORKER)
    with pytest.raises(PkiError, match="is a gateway, expected a worker"):
        check_peer(server, WORKER)


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


def test_a_missing_certificate_is_an_error_that_says_what_makes_one(tmp_path):
    with pytest.raises(PkiError, match="`cordee up` makes new ones"):
        server_context(tmp_path)
