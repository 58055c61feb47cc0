"""The synced log of a producer, and what it says every counter must be.

A producer writes a publish down before it tries it and again when it was accepted; the file is
brought to the disk every few publishes. What was attempted and not accepted is unknown: counted
once or not at all.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from tests.chaos.checks.amounts import AMOUNT, count_hundredths, find_bin

UNSTAMPED = "unstamped"
"""Events of this type bring no timestamp, so their hour is not known beforehand."""
PROPERTY = "publish"
"""The property that tells every publish from every other."""
DEAD = "dead"
"""In place of an event: something that must become one dead letter."""

WHOLE = ("value", "value sum")
"""Families whose counters have the name of the publish."""

_PUBLISHES_PER_SYNC = 20

Key = tuple[str, ...]
"""A counter, its family first: ("daily", type, day), ("hourly", type, hour), ("quarter", type,
quarter hour), ("user", user, type, day), ("value", type, value, day); of amounts ("sum", type,
quarter hour), in hundredths, ("numbers", …) and ("no numbers", …), ("value sum", type, value, day),
("bin", type, day, bin); the distinct users, ("users", type, day); and of the dead letters ("dead",
mark)."""


class Line(msgspec.Struct, array_like=True, omit_defaults=True):
    """One line: the publish's number in this log and its events; none when it was accepted."""

    number: int
    events: list[dict[str, Any]] | None = None
    ours: bool = True
    """Published under a producer's number, and so among the books' `published`."""


class Log:
    """What one producer process writes. Safe for several threads: a line is one write."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._accepted = 0

    def attempt(self, number: int, events: Sequence[dict[str, Any]], ours: bool) -> None:
        """About to publish."""
        self._write(Line(number, list(events), ours))
        if number % _PUBLISHES_PER_SYNC == 0:
            os.fdatasync(self._descriptor)

    def accepted(self, number: int) -> None:
        """The publish returned."""
        self._write(Line(number))
        self._accepted += 1
        if self._accepted % _PUBLISHES_PER_SYNC == 0:
            os.fdatasync(self._descriptor)

    def _write(self, line: Line) -> None:
        os.write(self._descriptor, msgspec.json.encode(line) + b"\n")


_decode = msgspec.json.Decoder(Line).decode


@dataclass
class Publish:
    """An attempt, and whether it was accepted."""

    events: list[dict[str, Any]]
    ours: bool
    accepted: bool = False


class Account:
    """All logs of a campaign, read as far as they go; `read` again for what came since."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._read_bytes: defaultdict[Path, int] = defaultdict(int)
        self.publishes: dict[tuple[str, int], Publish] = {}
        self.attempted: Counter[Key] = Counter()
        """Per counter, the most that it can be by what was read."""
        self.accepted = 0
        """Events of publishes that were accepted."""
        self._ids: set[str] = set()

    def read(self, producer: str = "*") -> None:
        """Take in what the producers, or one of them, have written since the last time."""
        for path in sorted(self._directory.glob(f"{producer}.log")):
            with path.open("rb") as file:
                file.seek(self._read_bytes[path])
                for line in file:
                    if not line.endswith(b"\n"):
                        break  # its end, written meanwhile, would come as a line of its own
                    self._read_bytes[path] += len(line)
                    self._take(path.stem, _decode(line))

    def _take(self, producer: str, line: Line) -> None:
        name = producer, line.number
        if line.events is None:
            self.publishes[name].accepted = True
            self.accepted += len(self.publishes[name].events)
            return
        self.publishes[name] = Publish(line.events, line.ours)
        for event in line.events:
            event_id = event.get("event_id")
            if event_id in self._ids:
                continue
            if event_id is not None:
                self._ids.add(event_id)
            take_in(self.attempted, event)

    def unknown_with_ids(self, producer: str) -> Iterator[dict[str, Any]]:
        """What an application sends again after a crash of `producer`: events that it may have
        sent, and that carry an id."""
        for (name, _), publish in self.publishes.items():
            if name == producer and not publish.accepted:
                yield from (event for event in publish.events if "event_id" in event)

    def bounds(self) -> Bounds:
        """What every counter must be, by all that was read."""
        bounds = Bounds()
        by_id: dict[str, tuple[dict[str, Any], bool]] = {}
        for publish in self.publishes.values():
            events = len([event for event in publish.events if DEAD not in event])
            bounds.accepted_events += events * publish.accepted
            bounds.unknown_events += events * (not publish.accepted)
            if publish.ours:
                bounds.published[0] += publish.accepted
                bounds.published[1] += 1
            for event in publish.events:
                if (event_id := event.get("event_id")) is None:
                    bounds.add(event, publish.accepted)
                else:
                    _, before = by_id.get(event_id, (event, False))
                    by_id[event_id] = event, before or publish.accepted
            if not publish.accepted and not any("event_id" in event for event in publish.events):
                bounds.take_whole(publish.events)
        for event, accepted in by_id.values():
            bounds.add(event, accepted)
        return bounds


@dataclass
class Bounds:
    """The least and the most that each counter may be.

    `whole`: by family and the value of `PROPERTY`, the events and the sum of a publish that may be
    unknown, but never counted in part.
    """

    least: Counter[Key] = field(default_factory=Counter)
    most: Counter[Key] = field(default_factory=Counter)
    whole: Counter[tuple[str, str]] = field(default_factory=Counter)
    published: list[int] = field(default_factory=lambda: [0, 0])
    """The least and the most messages that count as published by our producers."""
    accepted_events: int = 0
    unknown_events: int = 0

    def add(self, event: dict[str, Any], accepted: bool) -> None:
        """Take an event in."""
        take_in(self.most, event)
        if accepted:
            take_in(self.least, event)

    def take_whole(self, events: Sequence[dict[str, Any]]) -> None:
        """Take in a publish of which all is counted, or nothing."""
        for event in events:
            for key, n in increments_of(event).items():
                if key[0] in WHOLE:
                    self.whole[key[0], key[2]] += n


def take_in(counts: Counter[Key], event: dict[str, Any]) -> None:
    """Add an event to the counters, and to the distinct users where its user was not among them."""
    for key, n in increments_of(event).items():
        if key[0] == "user" and not counts[key]:
            _, _, event_type, day = key
            counts["users", event_type, day] += 1
        counts[key] += n


def increments_of(event: dict[str, Any]) -> dict[Key, int]:
    """What an event adds to which counters, by the rules of the wire contract."""
    if DEAD in event:
        return {(DEAD, event[DEAD]): 1}
    event_type, user_id, properties = event["event_type"], event["user_id"], event["properties"]
    at = event.get("timestamp", "")
    day, hour, value = at[:10], at[:13], properties[PROPERTY]
    quarter = at and f"{hour}:{int(at[14:16]) // 15 * 15:02}"
    found: dict[Key, int] = {
        ("daily", event_type, day): 1,
        ("hourly", event_type, hour): 1,
        ("quarter", event_type, quarter): 1,
        ("user", user_id, event_type, day): 1,
        ("value", event_type, value, day): 1,
    }
    if AMOUNT in properties:
        amount = count_hundredths(properties[AMOUNT])
        if amount is None:
            return found | {("no numbers", event_type, quarter): 1}
        found |= {
            ("numbers", event_type, quarter): 1,
            ("sum", event_type, quarter): amount,
            ("value sum", event_type, value, day): amount,
            ("bin", event_type, day, f"{find_bin(amount)}"): 1,
        }
    return found
