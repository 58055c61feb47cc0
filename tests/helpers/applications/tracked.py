"""What the applications of tests track for a request.

No event waits for so long that it is sent before the process ends, unless that has it sent.
"""

from __future__ import annotations

import os

from pipeline import AsyncTracker, Tracker, track_event
from tests.helpers.applications.load import EVENTS

_FOR_EVER_S = 3_600.0

tracker = Tracker(max_age_s=_FOR_EVER_S)
_async_tracker = AsyncTracker(max_age_s=_FOR_EVER_S)

if "TRACKED_AT_IMPORT" in os.environ:
    tracker.track("page_view", "import")
    track_event.delay("click", "import")


def track(user: str) -> str:
    """Track the events of a user's request."""
    for n in range(EVENTS):
        tracker.track("page_view", f"{user} {n}")
    track_event.delay("click", user)
    return "tracked"


async def track_async(user: str) -> str:
    """`track` without blocking the event loop."""
    for n in range(EVENTS):
        await _async_tracker.track("page_view", f"{user} {n}")
    track_event.delay("click", user)
    return "tracked"
