"""How long to pause between two tries of what failed: each pause twice the one before."""

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
