"""Passwords that were wrong: an address that guesses is turned away for a while."""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict

AT_ONCE = 10
"""Wrong passwords of an address, after which it is turned away."""
_ONE_MORE_AFTER_S = 6.0
_MOST_ADDRESSES = 10_000
_IPV6_NETWORK = 64


class FailedLogins:
    """Counts wrong passwords by address (an IPv6 /64); each is forgotten after six seconds. While
    an address is turned away its right password is not taken either: it could not be told from a
    guess that succeeded."""

    def __init__(self) -> None:
        # By address: until when its failures count. The one that failed longest ago comes first.
        self._until_s: OrderedDict[str, float] = OrderedDict()

    def note(self, address: str) -> None:
        """Note a wrong password."""
        network, now_s = _widen(address), time.monotonic()
        before_s = self._until_s.pop(network, now_s)
        self._until_s[network] = max(before_s, now_s) + _ONE_MORE_AFTER_S
        if len(self._until_s) > _MOST_ADDRESSES:
            self._until_s.popitem(last=False)

    def measure_wait_s(self, address: str) -> float:
        """For how long the address is turned away yet, in seconds; 0: it may try."""
        left_s = self._until_s.get(_widen(address), 0.0) - time.monotonic()
        return max(0.0, left_s - (AT_ONCE - 1) * _ONE_MORE_AFTER_S)


def _widen(address: str) -> str:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:  # of a Unix socket
        return address
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is None:
        return str(ipaddress.ip_network((found, _IPV6_NETWORK), strict=False))
    return address
