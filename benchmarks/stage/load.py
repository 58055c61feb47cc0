"""A load on a web server: prepared requests over connections that stay open, each connection
sending its next one when the last is answered."""

from __future__ import annotations

import re
import selectors
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)
_LIMIT_S = 30


def request(method: str, target: str, headers: Mapping[str, str], body: bytes = b"") -> bytes:
    """A request as it goes over the wire."""
    lines = [f"{method} {target} HTTP/1.1", "Host: localhost"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def send_all(port: int, requests: Sequence[bytes], connections: int) -> list[float]:
    """Send every request once and wait for the answers; returns how long each took, in seconds.

    Raises RuntimeError for an answer other than 200, TimeoutError when none comes.
    """
    waiting = iter(requests)
    took_s: list[float] = []
    with selectors.DefaultSelector() as selector:
        open_now = 0
        for _ in range(min(connections, len(requests))):
            link = _Link(socket.create_connection(("127.0.0.1", port), timeout=_LIMIT_S))
            selector.register(link.socket, selectors.EVENT_READ, link)
            link.send_next(waiting)
            open_now += 1
        while open_now:
            ready = selector.select(_LIMIT_S)
            if not ready:
                raise TimeoutError(f"no answer on port {port} within {_LIMIT_S} s")
            for key, _ in ready:
                link = key.data
                if not link.has_answer():
                    continue
                took_s.append(time.perf_counter() - link.sent_at)
                if not link.send_next(waiting):
                    selector.unregister(link.socket)
                    link.socket.close()
                    open_now -= 1
    return took_s


@dataclass
class _Link:
    """One connection, with one request under way."""

    socket: socket.socket
    sent_at: float = 0
    received: bytearray = field(default_factory=bytearray)

    def send_next(self, waiting: Iterator[bytes]) -> bool:
        """Send the next request, if one is left."""
        following = next(waiting, None)
        if following is None:
            return False
        self.received.clear()
        self.sent_at = time.perf_counter()
        self.socket.sendall(following)
        return True

    def has_answer(self) -> bool:
        """Take what has come; whether it is the whole answer."""
        data = self.socket.recv(65_536)
        self.received += data
        head, end, body = self.received.partition(b"\r\n\r\n")
        if data and not end:
            return False
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"answered with {bytes(self.received[:500])!r}")
        length = _LENGTH.search(head + b"\r\n")
        return len(body) >= (int(length[1]) if length else 0)
