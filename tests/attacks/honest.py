"""Honest clients: a shop's server with its key, and its pages with theirs, at a steady rate.

Requests begin when they are due, whether or not earlier ones were answered, so that a server that
stands still is seen by all who would have come. An event has an id, and a request whose kept
connection was closed by the server is sent once more, as clients do.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field
from time import monotonic

from tests.attacks.wire import Connection, basic, encode, request

TIMEOUT_S = 10.0
BATCH = 5
"""Events in a batch of a server."""
PAGE_ORIGIN = "https://shop.example"
SERVER, PAGE = "server", "page"
_MIX = ("batch", "track", "page", "batch", "page", "track", "page", "track", "batch", "page")
_NEW_CONNECTION_EVERY = 8


@dataclass
class Seen:
    """What honest clients saw in one period."""

    latencies_s: list[float] = field(default_factory=list)
    """Of the requests answered 200, from the moment they were due."""
    answers: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """Status or failure, by SERVER and PAGE."""

    def share(self, who: str | None = None) -> float:
        """The part of requests that were answered 200."""
        chosen = [counted for name, counted in self.answers.items() if who in (None, name)]
        sent = sum(counted.total() for counted in chosen)
        return sum(counted["200"] for counted in chosen) / sent if sent else 1.0

    def quantile_ms(self, part: float) -> float:
        """A quantile of the latencies, in milliseconds."""
        ordered = sorted(self.latencies_s)
        return 1e3 * ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else 0.0


class HonestClients:
    """Clients of one server; what they sent, and what of it was accepted, adds up over periods."""

    def __init__(self, port: int, server_key: str, page_key: str) -> None:
        self._port, self._server_key, self._page_key = port, server_key, page_key
        self._idle: deque[Connection] = deque()
        self._number = 0
        self.accepted: Counter[str] = Counter()
        """Events whose request was answered 200, by SERVER and PAGE."""
        self.unknown: Counter[str] = Counter()
        """Events whose request failed in another way than by an answer: counted or not."""

    async def run(self, seconds: float, per_s: float) -> Seen:
        """Send for so long, and wait for the last answers."""
        seen, beginning_s = Seen(), monotonic()
        async with asyncio.TaskGroup() as group:
            for turn in range(int(seconds * per_s)):
                due_s = beginning_s + turn / per_s
                await asyncio.sleep(due_s - monotonic())
                group.create_task(self._send_one(_MIX[turn % len(_MIX)], due_s, seen))
        return seen

    def close(self) -> None:
        """Close all connections."""
        for connection in self._idle:
            connection.close()

    async def _send_one(self, kind: str, due_s: float, seen: Seen) -> None:
        self._number += 1
        fresh = self._number % _NEW_CONNECTION_EVERY == 0
        who, count = (PAGE, 1) if kind == "page" else (SERVER, BATCH if kind == "batch" else 1)
        try:
            async with asyncio.timeout(TIMEOUT_S):
                answer = str(await self._exchange(self._compose(kind, self._number), fresh))
        except (OSError, EOFError) as error:  # a time-out among them
            answer = "time-out" if isinstance(error, TimeoutError) else "closed"
            self.unknown[who] += count
        seen.answers[who][answer] += 1
        if answer == "200":
            seen.latencies_s.append(monotonic() - due_s)
            self.accepted[who] += count

    async def _exchange(self, sent: bytes, fresh: bool) -> int:
        connection = None if fresh else self._take_idle()
        if connection is not None:
            try:
                return await self._exchange_on(connection, sent)
            except (ConnectionError, EOFError):
                pass  # the server has closed what was idle
        return await self._exchange_on(await Connection.open(self._port), sent)

    async def _exchange_on(self, connection: Connection, sent: bytes) -> int:
        try:
            status = await connection.exchange(sent)
        except BaseException:
            connection.abort()
            raise
        if not connection.closed:
            self._idle.append(connection)
        return status

    def _take_idle(self) -> Connection | None:
        while self._idle:
            connection = self._idle.popleft()
            if not connection.closed:
                return connection
        return None

    def _compose(self, kind: str, number: int) -> bytes:
        if kind == "page":
            event = {
                "event_type": "page_view",
                "user_id": PAGE,
                "event_id": f"view-{number}",
                "properties": {"path": "/pricing"},
            }
            target = f"/track?key={self._page_key}"
            return request("POST", target, encode(event), {"Origin": PAGE_ORIGIN})
        call = {"type": "track", "event": "order_created", "userId": SERVER}
        if kind == "track":
            body = encode({**call, "messageId": f"order-{number}"})
            return request("POST", "/v1/track", body, basic(self._server_key))
        calls = [{**call, "messageId": f"order-{number}-{n}"} for n in range(BATCH)]
        return request("POST", "/v1/batch", encode({"batch": calls}), basic(self._server_key))
