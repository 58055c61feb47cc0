"""What the rate limit of an address counts."""

from __future__ import annotations

import pytest

from pipeline.web.collector.request_head import mask_address


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
