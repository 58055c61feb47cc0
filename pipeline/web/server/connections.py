"""All connections of a server: how many there may be, from where, and which of them end when there
are too many.

One timer checks all connections, so a request pays for no timer of its own. For a new client the
connection that has been without a request for longest ends, which under an attack is the
attacker's, and otherwise an idle one whose client opens another. What an address reopens faster
than honest clients could is answered in turn, so that all others are answered at once; an address
that goes on like this is turned away itself, at the cost of an accept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address, ip_network
from itertools import islice
from typing import Protocol

from pipeline.web.addresses import mask_address
from pipeline.web.server.turnover import Turnover

_CHECK_INTERVAL_S = 0.5
_TURN_INTERVAL_S = 0.005
"""Between two connections that wait for their turn."""
_CONSIDERED = 64
"""The oldest connections among which one that is not being answered is sought."""
MOST_READ_BYTES = 64 * 1024
"""Of a connection at a time."""
_UNREAD_BYTES = 4 * 1024 * 1024
"""Of bodies that no route reads, taken from all connections between two checks."""


@dataclass(frozen=True)
class ConnectionLimits:
    """What connections may take, in seconds, bytes and number."""

    head_s: float = 10.0
    """For the head of a request, and for the first byte of the first one."""
    window_s: float = 10.0
    """In each such window a body, and an answer that waits to be sent, must move on…"""
    window_bytes: int = 10 * 1024
    """…by so many bytes, or to its end: the least rate is 1 KB/s."""
    body_s: float = 120.0
    """For the whole body, however fast: at the least rate it could take 500 s."""
    unread_body_s: float = 30.0
    """For the rest of a body when the response is sent: not all clients read before they end."""
    held_bytes: int = 32 * 1024 * 1024
    """Bodies that wait to be read and answers that wait to be sent, of all connections together."""
    connections: int = 8_000
    """At once: each costs some 15 KB, so this bounds memory as well as open files."""
    connections_of_address: int = 1_000
    """Of one address, trusted proxies apart: many offices and carriers share one, and their idle
    connections end first. Never more than half of `connections`."""


class Connection(Protocol):
    """A connection, as these limits see it."""

    address: str
    """Of the peer; "" where it has none."""
    group: str
    """What it is counted under: set by `Connections.add`."""
    used_in: int
    """The interval of the checks in which it was used last; -1 before that."""
    waits: bool
    """Whether its first request is to wait until `take_turn`: set by `Connections.add`."""

    def is_served(self) -> bool:
        """Whether a request is all there and its answer is on the way to a client that reads."""

    def is_idle(self) -> bool:
        """Whether all its requests are answered, and no other has begun."""

    def check(self, now_s: float) -> int:
        """Enforce the limits in time; returns the bytes held for it."""

    def take_turn(self) -> None:
        """Answer its first request now, or when it comes."""

    def abort(self) -> None:
        """End it now, whatever waits to be sent."""


class Connections:
    """The connections of one event loop."""

    def __init__(self, limits: ConnectionLimits, trusted_proxies: Sequence[str] = ()) -> None:
        """`trusted_proxies` are addresses or networks: any number of clients comes from them."""
        self.limits = limits
        self._proxies = [ip_network(one, strict=False) for one in trusted_proxies]
        self._most_of_address = min(limits.connections_of_address, limits.connections // 2)
        # Those that have been without a new request for longest come first.
        self._all: dict[Connection, None] = {}
        self._by_address: dict[str, dict[Connection, None]] = {}
        self._find_group = lru_cache(maxsize=8_192)(self._group_address)
        self._turnovers: dict[str, Turnover] = {}
        self._interval = 0
        """The number of the interval between two checks."""
        self._unread_left = _UNREAD_BYTES
        self.buffer = memoryview(bytearray(MOST_READ_BYTES))
        """What is read of a connection, until its protocol has seen it."""
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: dict[Connection, None] = {}
        self._gives_turns = False

    def add(self, connection: Connection, loop: asyncio.AbstractEventLoop) -> bool:
        """A client has connected; False when it is to be turned away."""
        group = connection.group = self._find_group(connection.address)
        of_address = self._by_address.get(group, {})
        for among, most in (
            (of_address, self._most_of_address),
            (self._all, self.limits.connections),
        ):
            if len(among) >= most:
                if not self._admit(connection, loop):
                    return False
                self._end_oldest(among, loop)
        self._all[connection] = None
        if group:
            self._by_address.setdefault(group, {})[connection] = None
        if self._timer is None:
            self._timer = loop.call_later(_CHECK_INTERVAL_S, self.check_all, loop)
        return True

    def use(self, connection: Connection) -> None:
        """A connection has sent the head of a request: it is among the last to end. Its place is
        found anew once in each interval of the checks, not with every request."""
        if connection.used_in == self._interval:
            return
        connection.used_in = self._interval
        if connection in self._all:
            del self._all[connection]
            self._all[connection] = None
            if connection.group:
                of_address = self._by_address[connection.group]
                del of_address[connection]
                of_address[connection] = None

    def remove(self, connection: Connection) -> None:
        """A connection has ended; a repeat changes nothing."""
        if connection not in self._all:
            return
        del self._all[connection]
        if connection.waits:
            self._stop_waiting(connection)
        if connection.group:
            of_address = self._by_address[connection.group]
            del of_address[connection]
            if not of_address:
                del self._by_address[connection.group]

    def check_all(self, loop: asyncio.AbstractEventLoop) -> None:
        """Enforce the limits in time and bytes, now and again until no connection is left."""
        now_s = loop.time()
        self._interval += 1
        self._unread_left = _UNREAD_BYTES
        if self._turnovers:
            items = self._turnovers.items()
            self._turnovers = {name: one for name, one in items if one.find_excess(now_s)}
        held = {one: size for one in list(self._all) if (size := one.check(now_s))}
        excess = sum(held.values()) - self.limits.held_bytes
        if excess > 0:
            for connection in sorted(held, key=held.__getitem__, reverse=True):
                self._end(connection)
                excess -= held[connection]
                if excess <= 0:
                    break
        self._timer = (
            loop.call_later(_CHECK_INTERVAL_S, self.check_all, loop) if self._all else None
        )

    def take_unread(self, size: int) -> bool:
        """Whether so much more of a body that no route reads may be taken before the next check."""
        self._unread_left -= size
        return self._unread_left >= 0

    def _group_address(self, address: str) -> str:
        """What connections are counted by; "" for a peer that may have any number."""
        try:
            written = ip_address(address.partition("%")[0])
        except ValueError:
            return ""
        return "" if any(written in one for one in self._proxies) else mask_address(address)

    def _admit(self, connection: Connection, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether another may end for a connection; it waits for its turn where its address is
        fast."""
        turnover = self._turnovers.get(connection.group)
        if turnover is None or not turnover.is_fast(loop.time()):
            return True
        if turnover.is_too_fast(loop.time()):
            return False
        if not connection.waits:
            connection.waits = True
            self._waiting[connection] = None
            if not self._gives_turns:
                self._gives_turns = True
                loop.call_later(_TURN_INTERVAL_S, self._give_turn, loop)
        return True

    def _give_turn(self, loop: asyncio.AbstractEventLoop) -> None:
        first = next(iter(self._waiting), None)
        if first is not None:
            self._stop_waiting(first)
            first.take_turn()
            loop.call_later(_TURN_INTERVAL_S, self._give_turn, loop)
        else:
            self._gives_turns = False

    def _stop_waiting(self, connection: Connection) -> None:
        connection.waits = False
        self._waiting.pop(connection, None)

    def _end_oldest(
        self, connections: Iterable[Connection], loop: asyncio.AbstractEventLoop
    ) -> None:
        oldest = list(islice(connections, _CONSIDERED))
        found = next((one for one in oldest if not one.is_served()), oldest[0])
        if found.group and not found.is_idle():
            self._turnovers.setdefault(found.group, Turnover()).add(loop.time())
        self._end(found)

    def _end(self, connection: Connection) -> None:
        self.remove(connection)
        connection.abort()
