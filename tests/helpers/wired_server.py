"""A server of our protocol without sockets: what clients send is given to it, and what it writes is
kept."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from pipeline.web.errors import BodyTooSlow
from pipeline.web.server.connections import ConnectionLimits, Connections
from pipeline.web.server.protocol import BoundedProtocol

LIMITS = ConnectionLimits()


class Wire(asyncio.Transport):
    """What the server writes; nothing is sent while the client does not read."""

    def __init__(self, address: str = "192.0.2.1") -> None:
        super().__init__({"peername": (address, 1_234), "sockname": ("192.0.2.2", 80)})
        self.written = b""
        self.unsent = 0
        self.is_closed = self.is_aborted = self.is_lost = self.reads = False

    def write(self, data: Any) -> None:
        if self.is_lost:
            raise RuntimeError("the handler is closed")
        self.written += bytes(data)

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def is_closing(self) -> bool:
        return self.is_closed or self.is_aborted

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        self.is_aborted = True


class Server:
    """A server without sockets, whose application answers paths as they say."""

    def __init__(self, limits: ConnectionLimits = LIMITS, proxies: tuple[str, ...] = ()) -> None:
        self.loop = asyncio.new_event_loop()
        self.connections = Connections(limits, proxies)
        self.begun: list[str] = []
        self.bodies: list[bytes] = []
        self.released = asyncio.Event()
        self.refused: list[BodyTooSlow] = []
        self.config = uvicorn.Config(
            self.answer, log_config=None, lifespan="off", ws="none", interface="asgi3"
        )
        self._create = partial(BoundedProtocol, self.connections, self.config, ServerState(), {})

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        self.begun.append(path)
        try:
            while path == "/reads" and (message := await receive())["type"] == "http.request":
                self.bodies.append(message["body"])
                if not message["more_body"]:
                    break
        except BodyTooSlow as refused:
            self.refused.append(refused)
        if path == "/waits":
            await self.released.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    def connect(self, address: str = "192.0.2.1") -> tuple[BoundedProtocol, Wire]:
        protocol, wire = self._create(_loop=self.loop), Wire(address)
        protocol.connection_made(wire)
        return protocol, wire

    def run(self) -> None:
        """Let the application do what it can."""
        for _ in range(10):
            self.loop.run_until_complete(asyncio.sleep(0))

    def close(self) -> None:
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.run()
        self.loop.close()


def head(path: str, length: int) -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode()
