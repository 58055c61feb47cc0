"""A TCP proxy that treats answers as a bad network does: lost after execution, late, or half-
closed.

Every role reaches a server through a proxy of its own, so that the faults can be counted by role.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from random import Random

FAULTS = {
    "drop": 6,  # the request is carried out, its answer lost, the connection cut
    "delay": 3,  # the answer comes late, some later than the visibility timeout
    "late request": 2,  # the request itself comes late
    "half-close": 1,  # the client is told of the end, its requests still pass
}
"""Kinds of faults and how frequent each is among them."""

_CHUNK_BYTES = 256 * 1024
# What a fault waits for: the requests that change something.
_WORTH_IT = (b"EVALSHA", b"LPUSH", b"INSERT", b"COMMIT")
_PATIENCE_S = 1.0


class Proxy:
    """Listens on a port of 127.0.0.1 for one role and passes everything on to one server."""

    def __init__(self, port: int, random: Random, longest_delay_s: float) -> None:
        """`port` is the server's."""
        self.port = 0
        self.faults: Counter[str] = Counter()
        self._server_port = port
        self._random = random
        self._longest_delay_s = longest_delay_s
        self._due: str | None = None
        self._worth_it_until_s = 0.0
        self._connections: set[asyncio.Task[None]] = set()
        self._listener: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen."""
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._listener.sockets[0].getsockname()[1]

    def strike(self) -> None:
        """Let a fault befall the next request that changes something, or after a second any."""
        kinds, weights = zip(*FAULTS.items(), strict=True)
        self._due = self._random.choices(kinds, weights)[0]
        self._worth_it_until_s = asyncio.get_running_loop().time() + _PATIENCE_S

    def relent(self) -> None:
        """No more faults than those under way."""
        self._due = None

    async def stop(self) -> None:
        """Close everything."""
        if self._listener is not None:
            self._listener.close()
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        server_writer: asyncio.StreamWriter | None = None
        try:
            server_reader, server_writer = await asyncio.open_connection(
                "127.0.0.1", self._server_port
            )
            link = _Link(reader, writer, server_reader, server_writer)
            await asyncio.gather(self._requests(link), self._answers(link))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._connections.discard(task)
            for end in (writer, server_writer):
                if end is not None:
                    end.transport.abort()

    async def _requests(self, link: _Link) -> None:
        while data := await link.client_reader.read(_CHUNK_BYTES):
            fault = self._take(data)
            if fault == "late request":
                await asyncio.sleep(self._delay_s())
            elif fault is not None:
                link.fault = fault
            link.server_writer.write(data)
            await link.server_writer.drain()
        with contextlib.suppress(OSError):
            link.server_writer.write_eof()

    async def _answers(self, link: _Link) -> None:
        while data := await link.server_reader.read(_CHUNK_BYTES):
            fault, link.fault = link.fault, None
            if fault == "drop":
                raise ConnectionResetError
            if fault == "half-close":
                # The answer is lost, and with it all later ones; what the client still sends is
                # carried out until it closes its end too.
                link.client_writer.write_eof()
                while await link.server_reader.read(_CHUNK_BYTES):
                    pass
                return
            if fault == "delay":
                await asyncio.sleep(self._delay_s())
            link.client_writer.write(data)
            await link.client_writer.drain()
        with contextlib.suppress(OSError):
            link.client_writer.write_eof()

    def _take(self, data: bytes) -> str | None:
        """The fault that befalls this request, if one is due."""
        fault = self._due
        if fault is None:
            return None
        now_s = asyncio.get_running_loop().time()
        if now_s < self._worth_it_until_s and not any(word in data for word in _WORTH_IT):
            return None
        self._due = None
        self.faults[fault] += 1
        return fault

    def _delay_s(self) -> float:
        # Most delays are short; the square makes a few longer than the visibility timeout.
        return self._longest_delay_s * self._random.random() ** 2


class _Link:
    """One connection through the proxy, and the fault that its next answer will meet."""

    def __init__(
        self,
        client_reader: asyncio.StreamReader,
        client_writer: asyncio.StreamWriter,
        server_reader: asyncio.StreamReader,
        server_writer: asyncio.StreamWriter,
    ) -> None:
        self.client_reader = client_reader
        self.client_writer = client_writer
        self.server_reader = server_reader
        self.server_writer = server_writer
        self.fault: str | None = None
