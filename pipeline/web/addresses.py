"""Addresses of clients, as limits count them. Pure."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network

_NETWORK_BITS = 64
_WIDE_NETWORK_BITS = 48
"""What the owner of a site is usually given: 65,536 networks."""
_IPV4_AS_IPV6 = [IPv6Network("::ffff:0:0/96"), IPv6Network("64:ff9b::/96")]
"""Networks whose addresses end in an IPv4 address: as a dual-stack socket shows it, and NAT64."""


@lru_cache(maxsize=8_192)
def mask_address(address: str) -> str:
    """What the rate limit of an address counts: itself, or the network of an IPv6 one, which is
    usually one customer's as a whole. An IPv4 address written as IPv6 is itself."""
    if ":" not in address:
        return address
    try:
        written = IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if any(written in network for network in _IPV4_AS_IPV6):
        return str(IPv4Address(int(written) & 0xFFFF_FFFF))
    return str(IPv6Network((written, _NETWORK_BITS), strict=False))


@lru_cache(maxsize=8_192)
def widen_address(masked: str) -> str:
    """The wider network that the owner of an IPv6 network may have all of; "" for what is none."""
    if not masked.endswith(f"/{_NETWORK_BITS}"):
        return ""
    try:
        return str(IPv6Network(masked).supernet(new_prefix=_WIDE_NETWORK_BITS))
    except ValueError:  # what a proxy passes on may be any text
        return ""


def unmap_address(address: str) -> str:
    """An IPv4 client of a dual-stack socket as an IPv4 address, so that networks of IPv4 hold it;
    any other address as it is."""
    if not address.lower().startswith("::ffff:"):
        return address
    mapped = IPv6Address(address.partition("%")[0]).ipv4_mapped
    return address if mapped is None else str(mapped)
