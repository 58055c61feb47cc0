"""The example events of `analytics up --example`."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from dataclasses import dataclass

from pipeline.cli.context import configure_producer, open_services
from pipeline.days import today
from pipeline.errors import NotCounted

_COUNTED_WITHIN_S = 30.0
_POLL_S = 0.05

# Types of their own, so that the examples of a demonstration never mix with a user's counts.
_EXAMPLES = (
    ("example_page_view", "ada", {"path": "/"}),
    ("example_page_view", "ada", {"path": "/pricing"}),
    ("example_page_view", "grace", {"path": "/"}),
    ("example_product_click", "ada", {"product_id": "p-42"}),
    ("example_product_click", "grace", {"product_id": "p-7"}),
)


_COUNT_BY = {
    "page_view": ["path"],  # of the first event that a reader of the README sends
    "example_page_view": ["path"],
    "example_product_click": ["product_id"],
}


def count_properties() -> None:
    """Have the processes of a demonstration count the properties of its events, unless the
    environment says which are counted."""
    os.environ.setdefault("ANALYTICS_COUNT_BY", json.dumps(_COUNT_BY))


@dataclass(frozen=True)
class ExampleCount:
    """How many events of a type were sent now, and how many are counted today."""

    event_type: str
    sent: int
    counted: int


def send_examples() -> list[ExampleCount]:
    """Send the example events and wait until they are counted. Raises `NotCounted`."""
    from pipeline.producer.celery_tasks import track_event

    configure_producer()
    sent = Counter(event_type for event_type, _, _ in _EXAMPLES)
    with open_services() as services:
        day = today()
        goal = {name: services.stats.daily_count(name, day) + n for name, n in sent.items()}
        for event_type, user, properties in _EXAMPLES:
            track_event.delay(event_type, user_id=user, properties=properties)
        deadline = time.monotonic() + _COUNTED_WITHIN_S
        while True:
            counts = {name: services.stats.daily_count(name, day) for name in goal}
            if all(counts[name] >= goal[name] for name in goal):
                return [ExampleCount(name, n, counts[name]) for name, n in sent.items()]
            if time.monotonic() > deadline:
                raise NotCounted(
                    f"{len(_EXAMPLES)} example events were sent but not counted within "
                    f"{_COUNTED_WITHIN_S:g} s: see the event worker's log"
                )
            time.sleep(_POLL_S)
