"""What the rate limit of an address counts, and which key a head presents."""

from __future__ import annotations

import pytest

from pipeline.web.addresses import mask_address, widen_address
from pipeline.web.collector import request_head
from pipeline.web.collector.request_head import RequestHead


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("::ffff:c000:207", "192.0.2.7"),
        ("64:ff9b::192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("not an address", "not an address"),
        (":", ":"),
    ],
)
def test_an_address_has_a_bucket_of_its_own_or_of_its_network(address: str, counted: str) -> None:
    assert mask_address(address) == counted


@pytest.mark.parametrize(
    ("masked", "wider"),
    [
        ("2001:db8:1:2::/64", "2001:db8:1::/48"),
        ("192.0.2.7", ""),
        ("not an address/64", ""),
        ("", ""),
    ],
)
def test_an_ipv6_network_is_one_of_a_wider_one(masked: str, wider: str) -> None:
    assert widen_address(masked) == wider


def head(query: bytes = b"", authorization: bytes | None = None, address: str = "") -> RequestHead:
    headers = [] if authorization is None else [(b"authorization", authorization)]
    scope = {"method": "POST", "query_string": query, "headers": headers, "client": (address, 1)}
    return RequestHead.parse(scope)


def test_a_text_without_bound_is_neither_taken_apart_nor_remembered() -> None:
    known = request_head._parse_authorization.cache_info().currsize
    for number in range(100):
        long = b"%d" % number + b"x" * 100_000
        assert head(authorization=b"Bearer wk_" + long).find_key() == "no key"
        assert len(head(address=long.decode()).address) <= 100
    assert request_head._parse_authorization.cache_info().currsize == known


def test_a_key_behind_many_parameters_is_not_found() -> None:
    assert head(b"key=wk_1_x" + b"&a=b" * 10_000).find_key() == "wk_1_x"
    assert head(b"key=wk_1_x&a=b").find_key() == "wk_1_x"
    assert head(b"a=b&" * 10_000 + b"key=wk_1_x").find_key() == ""
