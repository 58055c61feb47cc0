"""The plain model that `tests/integration/counting/test_models.py` holds the pipeline against."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from pipeline.event.model import Event

COUNTED_BY_PATH = "page_view"

Key = tuple[str, ...]


@dataclass
class Message:
    """A message as the model knows it; a stock client's is known by its task id."""

    events: list[Event]
    task_id: str | None = None


@dataclass
class Model:
    """What must be true of the real thing."""

    counts: Counter[Key] = field(default_factory=Counter)
    duplicates: int = 0
    counted: int = 0
    seen: set[object] = field(default_factory=set)
    """Task ids that were counted, and event ids with their source and type."""
    queued: list[str] = field(default_factory=list)
    """Names of messages, the next to be fetched first. A name can be there twice."""
    unacked: dict[str, str] = field(default_factory=dict)
    """Delivery tag -> name."""
    unclaimed: bool = False
    """Whether counters are pending."""

    def apply(self, tags: Sequence[str], messages: dict[str, Message]) -> None:
        for tag in tags:
            name = self.unacked.pop(tag, None)
            if name is None:
                continue
            message = messages[name]
            repeated = message.task_id in self.seen
            if message.task_id is not None:
                self.seen.add(message.task_id)
            for one in message.events:
                if repeated or _identify(one) in self.seen:
                    self.duplicates += 1
                else:
                    self._count(one)

    def _count(self, one: Event) -> None:
        self.counted += 1
        self.unclaimed = True
        if one.event_id is not None:
            self.seen.add(_identify(one))
        day = f"{one.timestamp.date()}"
        self.counts["daily", one.event_type, day] += 1
        self.counts["hourly", one.event_type, f"{one.timestamp:%Y-%m-%d:%H}"] += 1
        if one.user_id is not None:
            self.counts["user", one.user_id, one.event_type, day] += 1
        if one.properties and one.event_type == COUNTED_BY_PATH:
            self.counts["value", one.event_type, one.properties["path"]] += 1


def _identify(one: Event) -> Key | None:
    return None if one.event_id is None else (one.source, one.event_type, one.event_id)
