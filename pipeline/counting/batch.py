"""What workers hand to `Counters.apply`: messages with their events, put together as one batch.

Pure: the batch decides what is counted, what is a duplicate and what is a dead letter; Redis only
says which messages and ids it has seen.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import Any

import msgspec

from pipeline.contract import TAG_PREFIX
from pipeline.counting.erased_users import NOBODY, Forgotten
from pipeline.counting.increments import CountBy, count
from pipeline.counting.log_entries import EventLogOptions, by_partition, entries, pack, switched_off
from pipeline.errors import InvalidEvent
from pipeline.event.model import Event, named_type
from pipeline.redis.keys import Keys

TYPE_UNKNOWN = "__unknown__"


@dataclass(frozen=True)
class BadEvent:
    """An event that breaks the wire contract: `raw` is its JSON as it came; of kind "message", the
    whole message. `event_type` is the one it names, where that much of it is valid."""

    raw: bytes
    reason: str
    events: int = 1
    kind: str = "event"
    event_type: str = TYPE_UNKNOWN


class Delivery(msgspec.Struct, frozen=True, gc=False):
    """One message from the broker and the events in it.

    `tag` is its entry among the unacknowledged messages, when consumption is part of the count.
    `task_id` is set when its producer may have sent it twice: it is then remembered for the
    duplicate window.
    """

    events: Sequence[Event]
    bad: Sequence[BadEvent] = ()
    tag: str | None = None
    task_id: str | None = None
    raw: bytes = b""
    """The message as it came, for the case that it cannot be counted."""


@dataclass(frozen=True)
class Applied:
    """What became of a batch: events counted, duplicates, dead letters and events of forgotten
    users among them, counters now pending, and events counted that found no room in the event
    log."""

    counted: int = 0
    duplicate: int = 0
    dead: int = 0
    pending: int = 0
    unlogged: int = 0
    forgotten: int = 0


class Batch:
    """The deliveries of one apply, and which of their parts Redis has said to leave out."""

    def __init__(self, deliveries: list[Delivery], log: EventLogOptions | None = None) -> None:
        self._deliveries = deliveries
        self._log = log or EventLogOptions(types="none")
        self._gone: set[int] = set()
        self._seen_tasks: set[int] = set()
        self._seen_events: set[str] = set()

    def message(
        self, count_by: CountBy, keys: Keys, now: datetime, forgotten: Forgotten = NOBODY
    ) -> dict[str, Any]:
        """What the script is to do, as `apply.lua` describes it."""
        self._tags: list[tuple[str, int]] = []
        self._tasks: list[tuple[str, int]] = []
        self._ids: dict[str, None] = {}
        counted: list[Event] = []
        duplicates: list[Event] = []
        dead: list[tuple[str, str]] = []
        self.bodies: list[bytes] = []
        outcomes: Counter[tuple[str, str]] = Counter()  # by (outcome, event type)
        tasks_here: set[str] = set()
        for position, delivery in enumerate(self._deliveries):
            if position in self._gone:
                continue
            if delivery.tag is not None:
                self._tags.append((delivery.tag, position))
            if forgotten.at_ms:
                delivery = _without(forgotten, delivery, outcomes)
            repeated = position in self._seen_tasks
            if delivery.task_id is not None and not repeated:
                digest = _digest(delivery.task_id)
                repeated = digest in tasks_here
                if not repeated:
                    tasks_here.add(digest)
                    self._tasks.append((digest, position))
            if repeated:
                duplicates += delivery.events
            else:
                for event in delivery.events:
                    (duplicates if self._is_duplicate(event) else counted).append(event)
            for bad in delivery.bad:
                outcomes["duplicate" if repeated else "dead", bad.event_type] += bad.events
                if not repeated:
                    dead.append((bad.kind, bad.reason))
                    self.bodies.append(bad.raw)
        outcomes.update(("counted", event.event_type) for event in counted)
        outcomes.update(("duplicate", event.event_type) for event in duplicates)
        self._outcome: Counter[str] = Counter()
        books: Counter[str] = Counter()
        for (outcome, event_type), n in outcomes.items():
            self._outcome[outcome] += n
            books[f"{outcome}:{event_type}"] += n
            books[f"consumed:{event_type}"] += n
        books.update(self._outcome)
        books["consumed"] = self._outcome.total()
        books["consumed_messages"] = sum(tag.startswith(TAG_PREFIX) for tag, _ in self._tags)
        logged = by_partition(counted, self._log)
        self.blobs = [pack(events) for events in logged.values()]
        increments = count(counted, count_by, keys, now)
        increments.counters.update(switched_off(increments.hours, self._log, keys))
        return {
            "tags": [tag for tag, _ in self._tags],
            "events": list(self._ids),
            "tasks": [digest for digest, _ in self._tasks],
            "counters": increments.counters,
            "values": increments.values,
            "log": entries(logged, increments.hours, self._log, keys),
            "dead": dead,
            "forgotten": forgotten.version,
            "books": {name: n for name, n in books.items() if n},
        }

    def leave_out(
        self, gone: Sequence[int], seen_events: Sequence[int], seen_tasks: Sequence[int]
    ) -> None:
        """Take note of the script's answer; positions count from 1 in the lists it was given."""
        ids = list(self._ids)
        self._gone.update(self._tags[position - 1][1] for position in gone)
        self._seen_events.update(ids[position - 1] for position in seen_events)
        self._seen_tasks.update(self._tasks[position - 1][1] for position in seen_tasks)

    def applied(self, pending: int, unlogged: int = 0) -> Applied:
        return Applied(
            counted=self._outcome["counted"],
            duplicate=self._outcome["duplicate"],
            dead=self._outcome["dead"],
            pending=pending,
            unlogged=unlogged,
            forgotten=self._outcome["forgotten"],
        )

    def _is_duplicate(self, event: Event) -> bool:
        if event.event_id is None:
            return False
        digest = _digest(event.event_id)
        if digest in self._seen_events or digest in self._ids:
            return True
        self._ids[digest] = None
        return False


def _without(
    forgotten: Forgotten, delivery: Delivery, outcomes: Counter[tuple[str, str]]
) -> Delivery:
    """The delivery without what is of forgotten users, which `outcomes` notes."""
    events = [event for event in delivery.events if not forgotten.drops(event)]
    bad = [one for one in delivery.bad if not forgotten.names(one.raw)]
    if len(events) == len(delivery.events) and len(bad) == len(delivery.bad):
        return delivery
    left = Counter(event.event_type for event in delivery.events)
    left.subtract(event.event_type for event in events)
    for one in delivery.bad:
        if one not in bad:
            left[one.event_type] += one.events
    outcomes.update({("forgotten", event_type): n for event_type, n in left.items() if n})
    return msgspec.structs.replace(delivery, events=events, bad=bad)


def _digest(identifier: str) -> str:
    """120 bits in 20 characters in place of an id of up to 100: less memory, no collision to be
    expected."""
    return b64encode(blake2b(identifier.encode(), digest_size=15).digest()).decode()


def read_delivery(items: Sequence[object], now: datetime, **delivery: Any) -> Delivery:
    """Check each event of a message; the bad ones are set apart with the reason and counted as
    dead."""
    events: list[Event] = []
    bad: list[BadEvent] = []
    for item in items:
        try:
            events.append(Event.from_dict(item, now=now))
        except InvalidEvent as error:
            event_type = named_type(item) or TYPE_UNKNOWN
            bad.append(BadEvent(json.dumps(item).encode(), str(error), event_type=event_type))
    return Delivery(events=events, bad=bad, **delivery)
