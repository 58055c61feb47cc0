"""The sockets that a server listens on."""

from __future__ import annotations

import errno
import socket
from ipaddress import ip_address
from typing import Any

from pipeline.errors import InvalidConfiguration


def listen_on(host: str, port: int) -> list[socket.socket]:
    """Sockets bound to every address of the host, to listen on; `::` takes IPv4 too, whatever the
    machine's own default is.

    Raises `InvalidConfiguration` when the host is unknown, or another program has the port.
    """
    listening: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, address in dict.fromkeys((family, address) for family, *_, address in found):
            listening.append(socket.socket(family, socket.SOCK_STREAM))
            _bind(listening[-1], address)
    except OSError as error:
        for one in listening:
            one.close()
        raise InvalidConfiguration(
            f"nothing can be served on {host}:{port}, {_explain(host, error)}: give another --host "
            "or --port"
        ) from error
    return listening


def _bind(listening: socket.socket, address: tuple[Any, ...]) -> None:
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if listening.family == socket.AF_INET6:
        is_any = ip_address(address[0].partition("%")[0]).is_unspecified
        listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not is_any)
    listening.bind(address)


def _explain(host: str, error: OSError) -> str:
    no_ipv6 = error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
    if host == "::" and no_ipv6:
        return "this machine has no IPv6, and 0.0.0.0 takes IPv4"
    return (error.strerror or str(error)).lower()
