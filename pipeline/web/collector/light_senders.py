"""Visitors of a page while others use up the rate of its key, which anyone can copy from it.

A key's rate is first come, first served. When none is left, addresses that send little go on, from
a reserve of half the rate again: those whose demand of late is at most half of the mean demand of
the key's addresses. One sender alone is never among them, so a key's rate holds for it as it is;
and many senders of the same demand, honest or not, cannot be told apart.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

WINDOW_S = 2.0
"""Demand is that of the current window and the one before: short, so that who has sent a little for
long does not look like who begins to send much."""
_RESERVE = 0.5
"""Of the key's rate; of each web process."""
_BYTES_PER_EVENT = 200
"""Of a request whose events are not known yet: about what one takes in a batch."""
_LARGEST = 20
"""Events of a request that may come out of the reserve: a page sends what a visitor does. New
addresses that send batches by the hundred would empty it before they are known."""
_MOST_ADDRESSES = 20_000
"""Noted for a key in a window: past that, further ones are not noted, and count as light."""


@dataclass(slots=True)
class _Window:
    """What the addresses of one key wanted to send, in events."""

    demand: dict[str, int] = field(default_factory=dict)
    total: int = 0
    reserve_spent: int = 0


@dataclass(slots=True)
class _Senders:
    began_at_s: float = 0.0
    now: _Window = field(default_factory=_Window)
    before: _Window = field(default_factory=_Window)
    usual_cost: dict[str, int] = field(default_factory=dict)
    """What the last request of an address cost, or about what its size says: a request that is
    refused unread costs as much."""


class LightSenders:
    """Which addresses send little with the keys of pages, as one process sees it."""

    def __init__(self) -> None:
        self._of_key: dict[str, _Senders] = {}

    def note_request(self, key_id: str, address: str, declared_bytes: int = 0) -> None:
        """An address asks to send with a key."""
        senders = self._find(key_id)
        window = senders.now
        if address in window.demand or len(window.demand) < _MOST_ADDRESSES:
            cost = senders.usual_cost.setdefault(address, declared_bytes // _BYTES_PER_EVENT or 1)
            window.demand[address] = window.demand.get(address, 0) + cost
            window.total += cost

    def note_cost(self, key_id: str, address: str, cost: int) -> None:
        """What such a request turned out to cost."""
        senders = self._find(key_id)
        window = senders.now
        if cost != senders.usual_cost.get(address, 1) and address in window.demand:
            more = cost - senders.usual_cost.get(address, 1)
            window.demand[address] += more
            window.total += more
            senders.usual_cost[address] = cost

    def is_light(self, key_id: str, address: str) -> bool:
        """Whether an address asks for at most half of what the key's addresses ask for on
        average, and not by large requests."""
        senders = self._find(key_id)
        if senders.usual_cost.get(address, 1) > _LARGEST:
            return False
        now, before = senders.now, senders.before
        mine = now.demand.get(address, 0) + before.demand.get(address, 0)
        addresses = max(len(now.demand), len(before.demand))
        return 2 * mine * addresses <= now.total + before.total

    def spend_reserve(self, key_id: str, address: str, cost: int, events_per_s: int) -> bool:
        """Take so much of the reserve, for a light address of a key with such a rate; False, with
        nothing taken, where that cannot be."""
        window = self._find(key_id).now
        reserve = events_per_s * WINDOW_S * _RESERVE
        if window.reserve_spent + cost > reserve or not self.is_light(key_id, address):
            return False
        window.reserve_spent += cost
        return True

    def _find(self, key_id: str) -> _Senders:
        senders = self._of_key.get(key_id)
        if senders is None:
            senders = self._of_key[key_id] = _Senders(time.monotonic())
        if time.monotonic() - senders.began_at_s > WINDOW_S:
            lasted_s = time.monotonic() - senders.began_at_s
            senders.before = senders.now if lasted_s < 2 * WINDOW_S else _Window()
            senders.now, senders.began_at_s = _Window(), time.monotonic()
            senders.usual_cost = {
                address: cost
                for address, cost in senders.usual_cost.items()
                if address in senders.before.demand
            }
        return senders
