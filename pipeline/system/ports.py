"""TCP ports of this machine."""

from __future__ import annotations

import socket


def is_port_free(port: int) -> bool:
    """Whether a server can listen on `port` of 127.0.0.1 now."""
    with socket.socket() as candidate:
        # As servers do: connections of an earlier run that wait for their end are no hindrance.
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            candidate.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
