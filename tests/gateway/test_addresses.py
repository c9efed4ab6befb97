from __future__ import annotations

from typing import Any

import pytest

from cordee.gateway.addresses import refuse_addresses
from cordee.wire.errors import Invalid
from cordee.wire.requests import Message

PIXEL = "data:image/png;base64,iVBORw0KGgo="
TEXT = {"type": "text", "text": "http://127.0.0.1/ is an address"}
ELSEWHERE: list[dict[str, Any]] = [
    *(
        {"type": "image_url", "image_url": {"url": url}}
        for url in (
            "http://127.0.0.1:8000/v1/admin", "http://169.254.169.254/", "https://example.com/a.png", "file:///etc/passwd",
            "gopher://a/", "http://a\\@b/", "//a", "", " data:image/png;base64,", "DATA:x",
        )
    ),
    {"type": "image_url", "image_url": "http://a/"}, {"type": "video_url", "video_url": {"url": "http://a/"}},
    {"type": "audio_url", "audio_url": {"url": "http://a/", "detail": "low"}}, {"type": "file", "file": {"file_url": "http://a/"}},
    {"type": "x", "x": [{"y": {"url": "http://a/"}}]}, {"type": "image_url", "image_url": {"url": PIXEL}, "url": "http://a/"},
]  # fmt: skip


@pytest.mark.parametrize("part", ELSEWHERE, ids=range(len(ELSEWHERE)))
def test_a_part_that_names_an_address_is_refused_and_named(part: dict[str, Any]):
    with pytest.raises(Invalid) as refused:
        refuse_addresses([Message("system", "x"), Message("user", [TEXT, part])])
    assert (refused.value.param, refused.value.code) == ("messages[1].content[1]", "invalid_url")


@pytest.mark.parametrize(
    "part",
    [TEXT, {"type": "image_url", "image_url": {"url": PIXEL}}, {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
     {"type": "file", "file": {"file_id": "file_1"}}],
)  # fmt: skip
def test_contents_go_on(part: dict[str, Any]):
    refuse_addresses([Message("user", [part]), Message("assistant", None), Message("user", "http://127.0.0.1/")])


HOSTS = frozenset({"images.example", "cdn.example"})


def of(url: str) -> list[Message]:
    return [Message("user", [{"type": "image_url", "image_url": {"url": url}}])]


@pytest.mark.parametrize("url", ["https://images.example/a/b.png?w=1&h=2", "https://cdn.example", PIXEL])
def test_hosts_that_the_operator_trusts_may_be_named(url: str):
    refuse_addresses(of(url), HOSTS)


@pytest.mark.parametrize(
    "url",
    ["http://images.example/a.png", "https://images.example.evil.example/", "https://evil.example/?https://images.example/",
     "https://images.example@evil.example/", "https://evil.example\\@images.example/", "https://images.example:8443/",
     "https://IMAGES.example/", "https://images.example\\.evil.example/", "https://images.example#@evil.example/",
     "https://images.example/a b", "https://images.example/\n", " https://images.example/", "https:/images.example/",
     "https://images.example%2eevil.example/", "https://images.example./", "file://images.example/etc/passwd"],
)  # fmt: skip
def test_nothing_that_could_be_read_as_another_host_passes(url: str):
    with pytest.raises(Invalid) as refused:
        refuse_addresses(of(url), HOSTS)
    assert refused.value.code == "invalid_url"
    assert "operator allows" in str(refused.value)
