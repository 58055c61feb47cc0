"""The floor below every client: commands on a bare socket, with nothing around them."""

from __future__ import annotations

import socket
from typing import Self
from urllib.parse import urlsplit


class BareRedis:
    """A connection for commands that are answered with one line each, such as LPUSH and INCR."""

    def __init__(self, redis_url: str) -> None:
        """Connect and log in."""
        url = urlsplit(redis_url)
        self._socket = socket.create_connection((url.hostname or "localhost", url.port or 6379))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if url.password:
            self.ask(command(b"AUTH", url.password.encode()))

    def ask(self, commands: bytes, answers: int = 1) -> None:
        """Send the commands at once and wait for all answers. Raises RuntimeError on an error."""
        self._socket.sendall(commands)
        while answers:
            received = self._socket.recv(65_536)
            if received.startswith(b"-") or not received:
                raise RuntimeError(received.decode(errors="replace"))
            answers -= received.count(b"\r\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


def command(*parts: bytes) -> bytes:
    """A command in Redis's protocol."""
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(p), p) for p in parts)
