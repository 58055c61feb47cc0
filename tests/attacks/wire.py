"""HTTP by raw sockets, cheap enough to leave the processor to those who are measured."""

from __future__ import annotations

import asyncio
import contextlib
import json
from base64 import b64encode
from collections.abc import Mapping

HOST = "127.0.0.1"
BROWSER = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/141.0 Safari/537.36"


def request(
    method: str, target: str, body: bytes = b"", headers: Mapping[str, str] | None = None
) -> bytes:
    """The bytes of a request; `headers` may give another Content-Length than the body's."""
    given = {"Host": "analytics.example", "User-Agent": BROWSER, **(headers or {})}
    if body or method == "POST":
        given.setdefault("Content-Length", str(len(body)))
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {text}" for name, text in given.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def encode(content: object) -> bytes:
    """Compact JSON."""
    return json.dumps(content, separators=(",", ":")).encode()


def basic(key: str) -> dict[str, str]:
    """HTTP Basic with a write key as its user name."""
    return {"Authorization": "Basic " + b64encode(f"{key}:".encode()).decode()}


class Connection:
    """A connection to the web server from one of this machine's loopback addresses."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.used = False
        """Whether a request was answered on it."""

    @classmethod
    async def open(cls, port: int, source: str = HOST) -> Connection:
        """Connect from `source`. Raises OSError."""
        return cls(*await asyncio.open_connection(HOST, port, local_addr=(source, 0)))

    async def send(self, sent: bytes) -> None:
        """Send bytes, whatever they are. Raises OSError."""
        self._writer.write(sent)
        await self._writer.drain()

    async def exchange(self, sent: bytes) -> int:
        """Send a request and read its answer; returns the status.

        Raises OSError, and EOFError when the server closes first.
        """
        await self.send(sent)
        return await self.read_answer()

    async def read_answer(self) -> int:
        """The status of the next answer, which is read whole. Raises OSError, EOFError."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        status = int(head[9:12])
        lowered = head.lower()
        _, found, rest = lowered.partition(b"content-length:")
        if found:
            await self._reader.readexactly(int(rest.partition(b"\r\n")[0]))
        self.used = True
        if b"connection: close" in lowered:
            self.close()
        return status

    async def ended(self) -> None:
        """Wait until the server closes, whatever it sends before."""
        with contextlib.suppress(OSError):
            while await self._reader.read(65_536):
                pass

    @property
    def closed(self) -> bool:
        """Whether either side has closed it."""
        return self._writer.is_closing() or self._reader.at_eof()

    def close(self) -> None:
        """Close it in the usual way."""
        self._writer.close()

    def abort(self) -> None:
        """Break it off, with what is in flight."""
        self._writer.transport.abort()
