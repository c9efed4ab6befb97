from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cordee.services.base.errors import Problem
from cordee.services.webhooks.rules.addresses import is_public, networks
from cordee.services.webhooks.rules.target import ForbiddenError, Reach, accepted, check, target_of

PUBLIC = Reach(frozenset({443, 8443}), ())
PRIVATE = Reach(frozenset({443}), networks(["10.1.0.0/16"]))


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com", "https://example.com/", "https://EXAMPLE.com:8443/a/b?c=d&e=%20", "https://93.184.216.34/",
        "https://[2606:4700::1111]/", "https://xn--bcher-kva.example/", "https://a_b.example/hook",
    ],
)  # fmt: skip
def test_a_public_https_url_is_accepted(url: str):
    assert accepted(url, PUBLIC).scheme == "https"


@pytest.mark.parametrize(
    "url",
    [
        "", "example.com", "//example.com", "http://example.com/", "ftp://example.com/", "file:///etc/passwd", "gopher://a.example/",
        "https://user@example.com/", "https://user:pw@example.com/", "https://example.com@127.0.0.1/", "https://a\\@b.example/",
        "https://example.com\\@127.0.0.1/", "https://example.com/#x", "https://example.com:99999/", "https://example.com:0/",
        "https://example.com:80a/", "https://example.com:22/", "https://exa mple.com/", "https://example.com/a b", "https:///x",
        "https://example.com\r\nx: y/", "https://example.com/\r\nx: y", "https://bücher.example/", "https://ⓔxample.com/",
        "https://example.com./", "https://.example.com/", "https://example..com/", "https://127.0.0.1/", "https://127.1/",
        "https://0/", "https://0x7f.1/", "https://0x7f000001/", "https://2130706433/", "https://017700000001/", "https://1.2.3/",
        "https://a.0x1/", "https://[::1]/", "https://[::ffff:127.0.0.1]/", "https://[::ffff:7f00:1]/", "https://[64:ff9b::7f00:1]/",
        "https://[fe80::1%25eth0]/", "https://[::127.0.0.1]/", "https://[v1.x]/", "https://[1::2::3]/", "https://169.254.169.254/",
        "https://10.0.0.1/", "https://192.168.0.1/", "https://100.64.0.1/", "https://224.0.0.1/", "https://255.255.255.255/",
        "https://0.0.0.0/", "https://[fc00::1]/", "https://[fe80::1]/", "https://[ff02::1]/", "https://[2002:7f00:1::]/",
        "https://[2001:0:7f00:1::]/", "https://[fec0::1]/", "https://" + "a." * 200 + "com/", "https://example.com/" + "a" * 3000,
        "https://example.com/\x00", "https://example.com/é", " https://example.com/", "https://example.com/ ",
    ],
)  # fmt: skip
def test_a_url_that_could_lead_inside_is_refused_and_the_parameter_named(url: str):
    with pytest.raises(Problem) as refused:
        accepted(url, PUBLIC)
    assert (refused.value.status, refused.value.param) == (400, "url")


def test_what_the_operator_has_named_may_be_reached_by_http_on_any_port_and_nothing_else_may():
    assert accepted("http://10.1.2.3:8080/", PRIVATE).port == 8080
    with pytest.raises(Problem):
        accepted("https://10.2.0.1/", PRIVATE)
    named = target_of("http://inside.example:8080/")
    check(named, (ip_address("10.1.2.3"),), PRIVATE)
    for address in ("93.184.216.34", "10.2.0.1"):
        with pytest.raises(ForbiddenError):
            check(named, (ip_address(address),), PRIVATE)


def test_one_address_among_many_that_is_not_public_forbids_all():
    target = target_of("https://example.com/")
    check(target, (ip_address("93.184.216.34"), ip_address("2606:4700::1111")), PUBLIC)
    with pytest.raises(ForbiddenError):
        check(target, (ip_address("93.184.216.34"), ip_address("::1")), PUBLIC)
    with pytest.raises(ForbiddenError):
        check(target, (), PUBLIC)


@given(st.ip_addresses(v=4))
def test_an_address_inside_another_one_counts_as_the_one_inside(address):
    number = int(address)
    for prefix in (0xFFFF << 32, 0x64FF9B << 96):
        assert is_public(ip_address((prefix | number).to_bytes(16, "big"))) == is_public(address)


@given(st.text(max_size=80))
def test_whatever_is_said_to_be_a_url_is_read_or_refused(text: str):
    for url in (text, f"https://{text}", f"https://example.com/{text}"):
        try:
            target = target_of(url)
        except ForbiddenError:
            continue
        assert target.target.startswith("/")
        assert (target.host + target.target).isascii()
        assert not set(target.host) & set("@\\/?# ")
