"""What is tracked for each request of an application or each task, and so what must be counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

EVENTS = 5
"""Of each request, in the buffer of the process. One more is sent at once."""


def tracked_for(users: Iterable[str]) -> Counter[tuple[str, str]]:
    """How often each type and user is tracked when each of these has made one request."""
    tracked: Counter[tuple[str, str]] = Counter()
    for user in users:
        tracked.update(("page_view", f"{user} {n}") for n in range(EVENTS))
        tracked["click", user] += 1
    return tracked
