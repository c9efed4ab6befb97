"""A provider outside is somebody else: what it says of itself sends nobody to where only this host listens, nor to another issuer."""

from __future__ import annotations

from typing import Any

import pytest

from cordee.services.accounts.providers.asking import ProviderError, is_guarded
from cordee.services.accounts.providers.provider import described_by

ISSUER = "https://id.example"
SAID: dict[str, Any] = {
    "issuer": ISSUER, "authorization_endpoint": f"{ISSUER}/a", "token_endpoint": f"{ISSUER}/t", "jwks_uri": f"{ISSUER}/k",
}  # fmt: skip


def test_a_provider_names_its_own_endpoints():
    assert described_by(SAID, ISSUER).token == f"{ISSUER}/t"
    here = "http://127.0.0.1:9"
    local = {name: value.replace(ISSUER, here) for name, value in SAID.items()}
    assert described_by(local, here).keys == f"{here}/k"


@pytest.mark.parametrize("name", ["authorization_endpoint", "token_endpoint", "jwks_uri"])
@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9000/v1/admin", "http://localhost/", "http://[::1]/", "http://id.example/", "file:///etc/passwd",
        "gopher://id.example/", "https://user@id.example/", "https://id.example\\@127.0.0.1/", "https://id.example/\r\nx: y",
        "https:///x", "https://id.example:x/", "//id.example/", "", None, 7, ["https://id.example/"], "https://íd.example/",
    ],
)  # fmt: skip
def test_a_provider_sends_nobody_inside(name: str, url: Any):
    with pytest.raises(ProviderError):
        described_by({**SAID, name: url}, ISSUER)


def test_a_description_of_another_issuer_is_not_believed():
    for issuer in ("https://evil.example", f"{ISSUER}/", "", None):
        with pytest.raises(ProviderError, match="is of the issuer"):
            described_by({**SAID, "issuer": issuer}, ISSUER)


@pytest.mark.parametrize(
    "url", ["https://id.example", "http://127.0.0.1:1/x", "http://[::1]:1/x", "http://localhost/x"]
)
def test_nothing_is_asked_in_the_clear_but_within_this_host(url: str):
    assert is_guarded(url)
    assert not is_guarded(
        url.replace("https://", "http://")
        .replace("localhost", "h")
        .replace("127.0.0.1", "127.0.0.1.example")
        .replace("[::1]", "[::2]")
    )
