"""How often connections that were not idle may end to make room for new ones."""

from __future__ import annotations

_PER_S = 20.0
_UNHURRIED = 20.0
_BURST = 1_000.0


class Turnover:
    """Of one address: its connections that ended with more to send, or before their answer. Each
    that comes back costs another request; 1,000 at once may, and 20 a second. Beyond 20 at once
    they wait for their turn."""

    def __init__(self) -> None:
        self._ended, self._at_s = 0.0, 0.0

    def add(self, now_s: float) -> None:
        """One more has ended."""
        self._ended, self._at_s = self.find_excess(now_s) + 1, now_s

    def is_fast(self, now_s: float) -> bool:
        """Whether the address's next connection is to wait for its turn."""
        return self.find_excess(now_s) >= _UNHURRIED

    def is_too_fast(self, now_s: float) -> bool:
        """Whether the address is to be left with the connections that it has."""
        return self.find_excess(now_s) >= _BURST

    def find_excess(self, now_s: float) -> float:
        """How many have ended beyond the rate."""
        return max(0.0, self._ended - (now_s - self._at_s) * _PER_S)
