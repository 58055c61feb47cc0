"""What requests may take before they are proven honest: bytes of memory at a time, and bytes a
second. Every address and every key has a share, so that none of them leaves the others without.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

from pipeline.access.access_key import AccessKey
from pipeline.web.addresses import widen_address
from pipeline.web.collector.formats.parsed_events import MAX_BATCH_BYTES
from pipeline.web.errors import TooManyRequests, Unavailable

_FREE_BYTES = 4 * 1024
"""What each request may hold beyond the share of its address and its key: a usual request always
fits, whatever large ones of the same address or key hold."""
_MIB = 1024 * 1024
_MOST_NAMES = 10_000
NETWORK_TIMES = 4
"""The networks of a wider IPv6 network have together so many times what one of them has."""


class MemoryBudget:
    """Bytes of memory that requests together may hold, as a part of a larger budget."""

    def __init__(self, limit_bytes: int, whole: MemoryBudget | None = None) -> None:
        self._left, self._whole = limit_bytes, whole
        self._shared: dict[str, int] = {}

    def take(self, size: int) -> None:
        """Take so many bytes. Raises `Unavailable` when too few are left; the client may try
        again."""
        if size > self._left:
            raise Unavailable("too much waits to be accepted; try again")
        if self._whole is not None:
            self._whole.take(size)
        self._left -= size

    def check_share(self, name: str, size: int, share_bytes: int) -> None:
        """Raises `Unavailable` when a name could not take so many bytes more now."""
        if self._shared.get(name, 0) + size > share_bytes:
            raise Unavailable("too much of this key or address waits to be accepted; try again")

    def take_share(self, name: str, size: int, share_bytes: int) -> None:
        """Count so many bytes, taken already, for a name. Raises `Unavailable` when it would hold
        more than its share."""
        self.check_share(name, size, share_bytes)
        self._shared[name] = self._shared.get(name, 0) + size

    def give_back(self, size: int) -> None:
        """Leave the bytes to other requests."""
        self._left += size
        if self._whole is not None:
            self._whole.give_back(size)

    def give_back_share(self, name: str, size: int) -> None:
        """Count the bytes for this name no longer. A name is known only while it holds some."""
        held = self._shared[name] - size
        if held:
            self._shared[name] = held
        else:
            del self._shared[name]


class HeldMemory:
    """The memory that one request holds. `take` before bytes are kept, `release` in the end."""

    __slots__ = ("_budget", "_held", "_held_of", "_list_shares")

    def __init__(
        self, budget: MemoryBudget, list_shares: Callable[[], Sequence[tuple[str, int]]]
    ) -> None:
        """`list_shares` names those who share the budget and what each may hold; it is called for a
        large request only."""
        self._budget, self._list_shares = budget, list_shares
        self._held = 0
        self._held_of: list[tuple[str, int]] = []

    def check(self, declared_bytes: int) -> None:
        """Raises `Unavailable` when a body of this size would not fit into a share now. Nothing is
        held for it: what is declared may never come."""
        if declared_bytes > _FREE_BYTES:
            for name, share_bytes in self._list_shares():
                self._budget.check_share(name, declared_bytes - _FREE_BYTES, share_bytes)

    def take(self, size: int) -> None:
        """Hold so many bytes more. Raises `Unavailable`; then nothing more is held."""
        self._budget.take(size)
        self._held += size
        if self._held > _FREE_BYTES:
            try:
                self._take_shares(min(size, self._held - _FREE_BYTES))
            except Unavailable:
                self._held -= size
                self._budget.give_back(size)
                raise

    def _take_shares(self, size: int) -> None:
        before = len(self._held_of)
        try:
            for name, share_bytes in self._list_shares():
                self._budget.take_share(name, size, share_bytes)
                self._held_of.append((name, size))
        except Unavailable:
            self._give_back_shares(before)
            raise

    def _give_back_shares(self, down_to: int) -> None:
        while len(self._held_of) > down_to:
            self._budget.give_back_share(*self._held_of.pop())

    def move_to(self, other: HeldMemory) -> None:
        """Hold as much as another would, whose key or address counts from now on, in place of
        this. Raises `Unavailable`; then nothing is held."""
        held = self._held
        self.release()
        self._budget, self._list_shares = other._budget, other._list_shares
        self.take(held)

    def resize(self, size: int) -> None:
        """Hold so many bytes in place of those held so far. Raises `Unavailable`; then nothing is
        held."""
        if size <= self._held <= _FREE_BYTES:
            self._budget.give_back(self._held - size)
            self._held = size
        else:
            self.release()
            self.take(size)

    def release(self) -> None:
        """Hold nothing any longer."""
        self._budget.give_back(self._held)
        self._held = 0
        if self._held_of:
            self._give_back_shares(0)


class Memory:
    """The memory of all requests in three budgets: what comes without a key gets a quarter, pages'
    keys with it at most three quarters, and servers' keys, which are secret, have the rest to
    themselves. A part of the first two is kept for requests that are not large."""

    def __init__(self, limit_bytes: int) -> None:
        def share(part: float) -> int:
            return max(int(limit_bytes * part), 2 * MAX_BATCH_BYTES)

        self._of_servers = MemoryBudget(limit_bytes)
        self._of_pages = MemoryBudget(limit_bytes * 3 // 4, self._of_servers)
        self._of_unknown = MemoryBudget(max(limit_bytes // 4, MAX_BATCH_BYTES), self._of_pages)
        self._of_address = share(1 / 64)
        self._of_page_key, self._of_server_key = share(1 / 4), share(1 / 2)
        self._large_of_unknown, self._large_of_pages = ("", share(1 / 8)), ("", share(1 / 2))

    def hold(self, key: AccessKey | None, address: str) -> HeldMemory:
        """Memory for a request from this address, with this key or none yet."""
        if key is None:
            return HeldMemory(
                self._of_unknown,
                lambda: [self._large_of_unknown, (f"of {address}", self._of_address)],
            )
        if not key.origins:
            return HeldMemory(self._of_servers, lambda: [(key.id, self._of_server_key)])
        return HeldMemory(
            self._of_pages,
            lambda: [
                self._large_of_pages,
                (key.id, self._of_page_key),
                (f"{key.id} {address}", self._of_address),
            ],
        )


class UnprovenBytes:
    """Bytes that were read and unpacked for requests whose key was not known: so many a second for
    an address, its wider network, and all together. What turns out to come with a valid key is
    given back."""

    def __init__(self) -> None:
        self._of_address = _ByteRate(128 * 1024, _MIB)
        self._of_network = _ByteRate(NETWORK_TIMES * 128 * 1024, NETWORK_TIMES * _MIB)
        self._of_all = _ByteRate(4 * _MIB, 16 * _MIB)

    def check(self, address: str) -> None:
        """Raises `TooManyRequests` when this address, or all together, had too much."""
        wait_s = self._of_address.find_wait_s(address)
        if wide := widen_address(address):
            wait_s = max(wait_s, self._of_network.find_wait_s(wide))
        if wait_s > 0:
            raise TooManyRequests("bytes without a valid key from this address", wait_s)
        wait_s = self._of_all.find_wait_s("all")
        if wait_s > 0:
            raise TooManyRequests("bytes without a key in the head of their request", wait_s)

    def add(self, address: str, size: int) -> None:
        """Count so many bytes; a negative number gives back."""
        self._of_address.add(address, size)
        if wide := widen_address(address):
            self._of_network.add(wide, size)
        self._of_all.add("all", size)


class _ByteRate:
    """For each of many names what it had beyond its rate: it may have more while that is less than
    the burst. Names used longest ago are forgotten."""

    def __init__(self, per_s: int, burst: int) -> None:
        self._per_s, self._burst = per_s, burst
        self._had: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """Bytes beyond the rate, and when that was."""

    def find_wait_s(self, name: str) -> float:
        return max(0.0, (self._find_excess(name, time.monotonic()) - self._burst) / self._per_s)

    def add(self, name: str, size: int) -> None:
        now_s = time.monotonic()
        excess = max(0.0, self._find_excess(name, now_s) + size)
        self._had[name] = excess, now_s
        self._had.move_to_end(name)
        if len(self._had) > _MOST_NAMES:
            self._had.popitem(last=False)

    def _find_excess(self, name: str, now_s: float) -> float:
        excess, at_s = self._had.get(name, (0.0, now_s))
        return max(0.0, excess - (now_s - at_s) * self._per_s)
