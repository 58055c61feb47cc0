"""Attacks by connections: held, not read, broken off."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from time import monotonic

from tests.attacks.attacker import Target, addresses
from tests.attacks.wire import HOST, request

_SLOW_TARGETS = (("GET", "/livez"), ("POST", "/nowhere"), ("GET", "/api/stats/count"))
_RECEIVE_BUFFER_BYTES = 4_096
_GARBAGE = (
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),  # the hello of TLS
    bytes(range(256)) * 8,
    b"GET / HTTP/9.9\r\n\r\n",
    b"POST /v1/track HTTP/1.1\r\nContent-Length: x\r\n\r\n",
    b"POST /v1/track HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
)


async def slow(target: Target, count: int, sources: int) -> None:
    """Hold so many connections by requests for which no body is read, a byte every 4 s."""
    each = count // len(_SLOW_TARGETS) + 1
    await asyncio.gather(
        *(
            target.hold(
                each,
                addresses(sources),
                request(method, path, headers={"Content-Length": "100000"}),
                b"x",
                every_s=4,
            )
            for method, path in _SLOW_TARGETS
        )
    )


async def never_read(target: Target, path: str, count: int, requests: int = 1) -> None:
    """Hold connections that send so many requests at once and read no byte of the answers."""
    headers = {"Authorization": f"Bearer {target.read_token}"} if "/api/" in path else {}
    sent = request("GET", path, headers=headers) * requests
    sources = addresses(4)
    await asyncio.gather(
        *(_hold_unread(target, sources[n % len(sources)], sent) for n in range(count))
    )


async def _hold_unread(target: Target, source: str, sent: bytes) -> None:
    loop = asyncio.get_running_loop()
    while True:
        with contextlib.suppress(OSError), socket.socket() as held:
            held.setblocking(False)
            held.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
            held.bind((source, 0))
            await loop.sock_connect(held, (HOST, target.port))
            target.made["opened"] += 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(loop.sock_sendall(held, sent), 15)
            while not _is_gone(held):
                await asyncio.sleep(1)
        await asyncio.sleep(0.2)


def _is_gone(held: socket.socket) -> bool:
    """Whether the server has reset the connection; no byte is read to find out."""
    return bool(held.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)) or _tcp_state(held) != 1


def _tcp_state(held: socket.socket) -> int:
    return held.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]


async def broken_off(target: Target, per_s: float) -> None:
    """Open connections, send garbage or half a request, and break them off."""
    half = request("POST", f"/v1/track?key={target.page_key}", headers={"Content-Length": "5000"})
    loop, sources = asyncio.get_running_loop(), addresses(4)
    number, due_s = 0, monotonic()
    while True:
        sent = half if number % 2 else _GARBAGE[number // 2 % len(_GARBAGE)]
        await asyncio.sleep(due_s - monotonic())
        number, due_s = number + 1, max(due_s, monotonic() - 0.5) + 1 / per_s
        with contextlib.suppress(OSError), socket.socket() as broken:
            broken.setblocking(False)
            broken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1, *[0] * 7]))
            broken.bind((sources[number % len(sources)], 0))
            await loop.sock_connect(broken, (HOST, target.port))
            await loop.sock_sendall(broken, sent)
            target.made["broken off"] += 1
            await asyncio.sleep(0)
