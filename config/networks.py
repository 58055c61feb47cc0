"""Addresses and networks as settings name them."""

from __future__ import annotations

import ipaddress
import json

_EXAMPLE = 'a JSON list of addresses or networks, such as ["10.0.0.7", "192.168.0.0/16"]'


def decode(value: object) -> object:
    """The list that a variable's JSON text holds. Raises ValueError that names what is wrong."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise ValueError(f"must be {_EXAMPLE}; {error}") from None
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise ValueError(f"must be {_EXAMPLE}")
    for one in value:
        try:
            ipaddress.ip_network(one)
        except ValueError as error:
            raise ValueError(f"must be {_EXAMPLE}; {error}") from None
    return value
