"""What workers hand to `Counters.apply`: messages with their events, put together as one batch.

Pure: the batch decides what is counted, what is a duplicate and what is a dead letter; Redis only
says which messages and ids it has seen.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, cast

import msgspec

from pipeline.contract import BOT_PREFIX, TAG_PREFIX
from pipeline.counting.erased_users import NO_ERASED_USERS, ErasedUsers
from pipeline.counting.event_types import NOT_COUNTED, TYPE_UNKNOWN, Seen, count_as_other
from pipeline.counting.ids_of_before import IdsOfBefore
from pipeline.counting.increments import OTHER, count
from pipeline.counting.log_entries import log_events
from pipeline.days import hour_text
from pipeline.errors import InvalidEvent
from pipeline.event.model import Event, named_type
from pipeline.event.pseudonyms import complete_pseudonym
from pipeline.options import CountBy, EventLogOptions, Sums
from pipeline.redis.keys import Keys, digest_id

OUTCOMES = ("counted", "duplicate", "dead", "forgotten", "expired")
"""What becomes of a consumed event; `forgotten`: dropped, since its user was erased; `expired`:
dropped, since it came after its sender's `expires`."""


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
    plain_user_ids: bool = False
    """Whether its producer says that no user id in it is a pseudonym."""
    is_expired: bool = False
    """Whether it came after its sender's `expires`: nothing in it is counted."""


@dataclass(frozen=True)
class Applied:
    """What became of a batch: events counted, duplicates, dead letters, events of erased users and
    expired ones among them, counters now pending, and events counted that found no room in the
    event log."""

    counted: int = 0
    duplicate: int = 0
    dead: int = 0
    pending: int = 0
    unlogged: int = 0
    forgotten: int = 0
    expired: int = 0


class _Sorted:
    """The contents of a batch, by what is to become of them. Tags and ids are noted with the
    position of their delivery, which the script's answer leads back to."""

    def __init__(self) -> None:
        self.tags: list[tuple[str, int]] = []
        self.task_ids: dict[str, int] = {}
        self.event_ids: dict[str, str] = {}
        """Digest, of source, type and id -> the id alone."""
        self.counted: list[Event] = []
        self.dead: list[BadEvent] = []
        self.not_counted: Counter[tuple[str, str]] = Counter()
        """Events by (outcome, event type)."""

    def set_apart(self, outcome: str, events: Iterable[Event], bad: Iterable[BadEvent]) -> None:
        """Note what is not counted, and why."""
        for event in events:
            self.not_counted[outcome, event.event_type] += 1
        for one in bad:
            self.not_counted[outcome, one.event_type] += one.events

    def rename(self, refused: Collection[Seen]) -> None:
        """Make events of refused types those of the type of the rest."""
        self.counted = [count_as_other(event, refused) for event in self.counted]
        for (outcome, event_type), n in list(self.not_counted.items()):
            if (event_type, NOT_COUNTED) in refused:
                del self.not_counted[outcome, event_type]
                self.not_counted[outcome, OTHER] += n

    def books(self, hours: Mapping[tuple[str, str], int]) -> dict[str, int]:
        """What is added to the books: each outcome, in all and by event type. `hours` has the
        counted events by (event type, hour)."""
        outcomes = self.not_counted.copy()
        for (event_type, _), n in hours.items():
            outcomes["counted", event_type] += n
        books: Counter[str] = Counter()
        for (outcome, event_type), n in outcomes.items():
            for name in (outcome, f"{outcome}:{event_type}", "consumed", f"consumed:{event_type}"):
                books[name] += n
        books["consumed_messages"] = sum(tag.startswith(TAG_PREFIX) for tag, _ in self.tags)
        return {name: n for name, n in books.items() if n}


@dataclass
class Batch:
    """The deliveries of one apply, and which of their parts Redis has said to leave out."""

    deliveries: Sequence[Delivery]
    log: EventLogOptions = field(default_factory=lambda: EventLogOptions(types="none"))
    ids_of_before: IdsOfBefore | None = None
    """Set while Redis may hold ids that the version before remembered."""
    refused_types: set[Seen] = field(default_factory=set)
    """Of the `types` of the batch as it was prepared last, those counted as `OTHER`."""
    sums: Sums = field(default_factory=dict)
    _gone: set[int] = field(default_factory=set)
    _seen_tasks: set[int] = field(default_factory=set)
    _seen_events: set[str] = field(default_factory=set)

    def prepare(
        self, count_by: CountBy, keys: Keys, now: datetime, erased: ErasedUsers = NO_ERASED_USERS
    ) -> dict[str, Any]:
        """What the script is to do, as `apply.lua` describes it; `bodies` and `blobs`, which may be
        any bytes, go beside it."""
        found = self._sorted = self._sort(erased)
        if self.refused_types:
            found.rename(self.refused_types)
        increments = count(found.counted, count_by, keys, now, self.sums)
        self.types = [one for one in increments.hours if one[0] not in count_by]
        self.types += [(name, NOT_COUNTED) for _, name in found.not_counted]
        self._books = found.books(increments.hours)
        log, self.blobs, gaps = log_events(found.counted, increments.hours, self.log, keys)
        self.bodies = [bad.raw for bad in found.dead]
        ids = [(keys.seen_event, list(found.event_ids)), (keys.seen_task, list(found.task_ids))]
        before = self.ids_of_before
        return {
            "tags": [tag for tag, _ in found.tags],
            "ids": ids if before is None else ids + before.ask(found.event_ids, keys),
            "before": keys.seen_event_before if found.event_ids and before is None else None,
            "counters": increments.counters | gaps,
            "buckets": {n: (list(one), list(one.values())) for n, one in increments.fields.items()},
            "values": increments.values,
            "log": log,
            "dead": [{"kind": bad.kind, "reason": bad.reason} for bad in found.dead],
            "forgotten": erased.version,
            "books": self._books,
        }

    def types_of_pages(self) -> set[Seen]:
        """Those of the `types` that no server has sent: a bad event may be of any page."""
        counted = self._sorted.counted
        of_servers = {
            (one.event_type, hour_text(one.timestamp)) for one in counted if not one.source
        }
        return {one for one in self.types if one not in of_servers}

    def leave_out(
        self,
        gone: Sequence[int],
        seen_events: Sequence[int],
        seen_tasks: Sequence[int],
        *seen_before: Sequence[int],
    ) -> None:
        """Take note of the script's answer; positions count from 1 in the lists it was given."""
        event_ids, task_ids = list(self._sorted.event_ids), list(self._sorted.task_ids.values())
        self._gone.update(self._sorted.tags[position - 1][1] for position in gone)
        self._seen_events.update(event_ids[position - 1] for position in seen_events)
        self._seen_tasks.update(task_ids[position - 1] for position in seen_tasks)
        if self.ids_of_before is not None:
            self._seen_events |= self.ids_of_before.find_seen(*seen_before)

    def applied(self, pending: int, unlogged: int = 0) -> Applied:
        """What became of the batch as it was prepared last."""
        outcomes = {name: self._books.get(name, 0) for name in OUTCOMES}
        return Applied(pending=pending, unlogged=unlogged, **outcomes)

    def _sort(self, erased: ErasedUsers) -> _Sorted:
        found = _Sorted()
        for position, delivery in enumerate(self.deliveries):
            if position in self._gone:
                continue
            if delivery.tag is not None:
                found.tags.append((delivery.tag, position))
            if erased.at_ms:
                delivery = _drop_erased(erased, delivery, found)
            if delivery.task_id is not None and self._is_repeated(position, delivery, found):
                found.set_apart("duplicate", delivery.events, delivery.bad)
                continue
            if delivery.is_expired:
                found.set_apart("expired", delivery.events, delivery.bad)
                continue
            for event in delivery.events:
                if event.event_id is not None:
                    # Sent again, it may no longer be judged a bot's.
                    event_type = event.event_type.removeprefix(BOT_PREFIX)
                    digest = digest_id(event.source, event_type, event.event_id)
                    if digest in self._seen_events or digest in found.event_ids:
                        found.set_apart("duplicate", [event], ())
                        continue
                    found.event_ids[digest] = event.event_id
                found.counted.append(event)
            if delivery.bad:
                found.set_apart("dead", (), delivery.bad)
                found.dead += delivery.bad
        return found

    def _is_repeated(self, position: int, delivery: Delivery, found: _Sorted) -> bool:
        """Whether a message was counted before under its task id; if not, note that."""
        digest = digest_id(cast("str", delivery.task_id))
        if position in self._seen_tasks or digest in found.task_ids:
            return True
        found.task_ids[digest] = position
        return False


def _drop_erased(erased: ErasedUsers, delivery: Delivery, found: _Sorted) -> Delivery:
    """The delivery without what is of erased users, which `found` notes."""
    kept: tuple[list[Event], list[BadEvent]] = [], []
    dropped: tuple[list[Event], list[BadEvent]] = [], []
    for event in delivery.events:
        (dropped if erased.drops(event) else kept)[0].append(event)
    for bad in delivery.bad:
        (dropped if erased.drops_bad(bad.raw) else kept)[1].append(bad)
    found.set_apart("forgotten", *dropped)
    return msgspec.structs.replace(delivery, events=kept[0], bad=kept[1])


def read_delivery(items: Sequence[object], now: datetime, **delivery: Any) -> Delivery:
    """Check each event of a message; the bad ones are set apart with the reason and counted as
    dead."""
    events: list[Event] = []
    bad: list[BadEvent] = []
    for item in items:
        try:
            events.append(Event.from_wire(item, now=now))
        except InvalidEvent as error:
            event_type = named_type(item) or TYPE_UNKNOWN
            bad.append(BadEvent(json.dumps(item).encode(), str(error), event_type=event_type))
    return Delivery(events=events, bad=bad, **delivery)


def replace_user_ids(secret: str, deliveries: Iterable[Delivery]) -> list[Delivery]:
    """The messages with pseudonyms in place of the plain user ids of their events: a worker is the
    last place where they become that.

    Bad events stay as they came: a dead letter is to show what was sent.
    """
    return [
        msgspec.structs.replace(
            delivery,
            events=[
                _replace_user_id(secret, one, delivery.plain_user_ids) for one in delivery.events
            ],
        )
        for delivery in deliveries
    ]


def _replace_user_id(secret: str, event: Event, is_plain: bool) -> Event:
    if event.user_id is None:
        return event
    stored = complete_pseudonym(secret, event.user_id, is_plain=is_plain)
    return event if stored == event.user_id else msgspec.structs.replace(event, user_id=stored)
