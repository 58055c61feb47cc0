"""How long to pause: between two tries of what failed, and between two lines of the log about what
goes on."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator


def grow_pauses(first_s: float, longest_s: float, until_s: float = math.inf) -> Iterator[float]:
    """Yield the seconds to wait before each further try.

    Ends where the next pause would end after `until_s`, a time of `time.monotonic`. The pauses have
    no random part: a process tries alone, and those of many processes start at different times.
    """
    pause_s = first_s
    while time.monotonic() + pause_s <= until_s:
        yield pause_s
        pause_s = min(2 * pause_s, longest_s)


class Rarely:
    """Lets a line be logged once in so many seconds."""

    def __init__(self, every_s: float) -> None:
        self._every_s, self._next_s = every_s, -math.inf

    def is_time(self) -> bool:
        """Whether to log it now; the time until the next begins then."""
        now_s = time.monotonic()
        if now_s < self._next_s:
            return False
        self._next_s = now_s + self._every_s
        return True
