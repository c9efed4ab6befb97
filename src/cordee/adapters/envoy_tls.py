"""How the edge comes by its certificate: from one file that is replaced as a whole, so that certificate and key always fit.

Envoy follows a rename over the file and serves new handshakes with what it then holds; connections that are open stay as they
are. The secret stands in the file itself and not as two further paths: between the writing of two files there is a moment in
which they do not fit, and that moment would be an outage.
"""

from __future__ import annotations

import json
from pathlib import Path

from cordee.adapters.envoy_plan import TYPE, Tree, typed

SECRET = "edge"  # noqa: S105 — the name under which Envoy asks for it, not the secret
HANDSHAKE_S = 10.0  # for the client to finish its side


def secret_file(certificate: bytes, key: bytes) -> bytes:
    """The content of the file for a PEM chain and its PEM key."""
    secret = {
        "@type": TYPE + "extensions.transport_sockets.tls.v3.Secret",
        "name": SECRET,
        "tls_certificate": {
            "certificate_chain": {"inline_string": certificate.decode("ascii")},
            "private_key": {"inline_string": key.decode("ascii")},
        },
    }
    return json.dumps({"resources": [secret]}).encode()


def over_tcp(secret: Path) -> Tree:
    """TLS 1.2 or later; the client chooses HTTP/2 or 1.1."""
    return typed(
        "envoy.transport_sockets.tls",
        "extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        common_tls_context={
            "alpn_protocols": ["h2", "http/1.1"],
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
            **_certificates(secret),
        },
    )


def over_quic(secret: Path) -> Tree:
    return typed(
        "envoy.transport_sockets.quic",
        "extensions.transport_sockets.quic.v3.QuicDownstreamTransport",
        downstream_tls_context={"common_tls_context": _certificates(secret)},
    )


def _certificates(secret: Path) -> Tree:
    source = {"path": str(secret), "watched_directory": {"path": str(secret.parent)}}
    config = {"resource_api_version": "V3", "path_config_source": source}
    return {"tls_certificate_sds_secret_configs": [{"name": SECRET, "sds_config": config}]}
