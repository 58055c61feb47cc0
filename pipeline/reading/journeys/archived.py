"""The archive's events as arrays: of sealed days from what was packed for them, of all others, and
of steps with conditions, from the rows themselves, which Postgres packs.

Everything is read in one snapshot, which sees the seals and what they say is right.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from pipeline.days import bound_days, list_days
from pipeline.postgres.journeys import BUCKET_BITS
from pipeline.postgres.sealing.seals import read_sealed
from pipeline.reading.conditions.counted_values import read_counted, write_counted
from pipeline.reading.conditions.matching import matches, split_properties
from pipeline.reading.conditions.sql import ODD, Binder, write_condition
from pipeline.reading.journeys.paths import Events, Numbers
from pipeline.reading.journeys.snapshot import Snapshot
from pipeline.reading.journeys.steps import Step

EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
"""Postgres counts microseconds from then on."""
UNNUMBERED = 1 << 40
"""From here on users are numbered who have no number in Postgres yet, for one question."""
_DIGEST_BYTES = 16
_PACKED = (
    "SELECT bucket, event_type, numbers, times FROM schema$.analytics_day_events "
    "WHERE date = ANY(%(days)s) AND event_type = ANY(%(types)s) "
    "AND bucket >= %(low)s AND bucket < %(high)s"
)
_COUNT_PACKED = (
    "SELECT bucket, CAST(sum(count) AS BIGINT) FROM schema$.analytics_day_events "
    "WHERE date = ANY(%(days)s) AND event_type = ANY(%(types)s) GROUP BY bucket ORDER BY bucket"
)
_DIGEST = f"substr(sha256(convert_to(events.user_id, 'UTF8')), 1, {_DIGEST_BYTES})"
_EVENTS = (
    "FROM schema$.events AS events LEFT JOIN schema$.analytics_user_numbers AS known "
    "ON known.user_id = events.user_id WHERE events.event_type = {event_type} "
    "AND events.timestamp >= {begin} AND events.timestamp < {end} AND events.user_id IS NOT NULL"
)
_PACK = (
    "SELECT bucket, string_agg(int4send(number), ''), string_agg(digest, ''), "
    "string_agg(at, ''), string_agg(int2send(mask), ''), string_agg(int2send(value), '') "
    "FROM (SELECT known.number, {bucket} AS bucket, timestamptz_send(events.timestamp) AS at, "
    "CAST({mask} AS SMALLINT) AS mask, CAST({value} AS SMALLINT) AS value, "
    "CASE WHEN known.number IS NULL THEN {digest} END AS digest, "
    "CAST(events.timestamp AT TIME ZONE 'UTC' AS DATE) AS day {events} {plain}) AS event "
    "WHERE mask <> 0 GROUP BY bucket, day"
)
_READ_ODD = (
    "SELECT known.number, {digest}, timestamptz_send(events.timestamp), "
    "CAST(properties AS TEXT) {events} AND {odd}"
)


@dataclass(frozen=True)
class Wanted:
    """Which events: of these steps, on these days; `values` are those of a property of the events
    of the first step, by whose position, from 1 on, they are marked."""

    steps: Sequence[Step]
    first: date
    last: date
    property_name: str | None = None
    values: Sequence[str] = ()

    def list_types(self) -> dict[str, list[int]]:
        """The steps of each event type."""
        found: defaultdict[str, list[int]] = defaultdict(list)
        for position, step in enumerate(self.steps):
            found[step.event_type].append(position)
        return dict(found)

    def is_plain(self, event_type: str) -> bool:
        """Whether type, user and time are all that is asked about its events."""
        own = [step for step in self.steps if step.event_type == event_type]
        marked = self.property_name is not None and event_type == self.steps[0].event_type
        return not marked and all(step.condition is None for step in own)


@dataclass(frozen=True)
class Marked:
    """Events, and of each the position of its value, 0 for none."""

    events: Events
    values: NDArray[np.int16]


def join_marked(parts: Sequence[Marked]) -> Marked:
    """All of them together."""
    if not parts:
        none = np.empty(0, np.int64)
        return Marked(Events(none, none, none.astype(np.uint8)), none.astype(np.int16))
    events = [part.events for part in parts]
    return Marked(
        Events(
            np.concatenate([one.users for one in events]),
            np.concatenate([one.times for one in events]),
            np.concatenate([one.masks for one in events]),
        ),
        np.concatenate([part.values for part in parts]),
    )


@dataclass
class RowsRead:
    """What was read from the rows of the archive, by bucket of users."""

    by_bucket: dict[int, list[Marked]] = field(default_factory=lambda: defaultdict(list))
    unnumbered: list[tuple[bytes, Marked]] = field(default_factory=list)
    """With the digests of the users' ids."""

    def number_users(self) -> None:
        """Give users who have no number one for this question, when all is read."""
        if not self.unnumbered:
            return
        digests = np.frombuffer(
            b"".join(digests for digests, _ in self.unnumbered), f"V{_DIGEST_BYTES}"
        )
        _, positions = np.unique(digests, return_inverse=True)
        events = join_marked([marked for _, marked in self.unnumbered])
        numbers = positions.astype(np.int64) + UNNUMBERED
        for bucket in np.unique(numbers >> BUCKET_BITS).tolist():
            own = (numbers >> BUCKET_BITS) == bucket
            chosen = Events(numbers[own], events.events.times[own], events.events.masks[own])
            self.by_bucket[bucket].append(Marked(chosen, events.values[own]))
        self.unnumbered.clear()


@dataclass(frozen=True)
class Source:
    """The events of a question, in a snapshot."""

    snapshot: Snapshot
    wanted: Wanted

    def list_packed_days(self) -> list[date]:
        """The days that are sealed."""
        wanted = self.wanted
        sealed = read_sealed(self.snapshot.connection, "events", wanted.first, wanted.last)
        return sorted(sealed)

    def count_packed(self, days: Sequence[date]) -> list[tuple[int, int]]:
        """How many packed events of sealed days there are in each bucket of users."""
        return [
            (int(bucket), int(n))
            for bucket, n in self.snapshot.rows(
                _COUNT_PACKED, {"days": list(days), "types": self._list_plain_types()}
            )
        ]

    def count_packed_events(self, days: Sequence[date]) -> int:
        """How many packed events of sealed days there are."""
        return sum(n for _, n in self.count_packed(days))

    def read_packed(self, days: Sequence[date], low: int, high: int) -> list[Marked]:
        """The packed events of sealed days, of users from one bucket on and before another."""
        masks = {
            event_type: np.uint8(sum(1 << step for step in steps))
            for event_type, steps in self.wanted.list_types().items()
        }
        values = {"days": list(days), "types": self._list_plain_types(), "low": low, "high": high}
        return [
            _unpack(numbers, times, masks[event_type])
            for _, event_type, numbers, times in self.snapshot.rows(_PACKED, values)
        ]

    def list_days_of_rows(self, event_type: str, packed: Sequence[date]) -> list[date]:
        """The days of which a type's rows are read."""
        left = set(packed) if self.wanted.is_plain(event_type) else set()
        return [one for one in list_days(self.wanted.first, self.wanted.last) if one not in left]

    def read_rows(self, packed: Sequence[date], progress: Callable[[float], None]) -> RowsRead:
        """What is not packed, or has conditions. `progress` is called with how much is done."""
        ranges = [
            (event_type, *days)
            for event_type in self.wanted.list_types()
            for days in list_ranges(self.list_days_of_rows(event_type, packed))
        ]
        found = RowsRead()
        for done, (event_type, first, last) in enumerate(ranges):
            progress(done / len(ranges))
            self._read_range(event_type, first, last, found)
        found.number_users()
        return found

    def _list_plain_types(self) -> list[str]:
        return [one for one in self.wanted.list_types() if self.wanted.is_plain(one)]

    def _read_range(self, event_type: str, first: date, last: date, found: RowsRead) -> None:
        binder = Binder()
        mask, value = self._write_mask(event_type, binder), self._write_value(event_type, binder)
        is_plain = self.wanted.is_plain(event_type)
        statement = _PACK.format(
            bucket=f"(known.number >> {BUCKET_BITS})",
            mask=mask,
            value=value,
            digest=_DIGEST,
            events=_place_events(event_type, first, last, binder),
            # So that conditions are not evaluated twice, inside and out.
            plain="" if is_plain else f"AND NOT {ODD} OFFSET 0",
        )
        for bucket, numbers, digests, *columns in self.snapshot.rows(statement, binder.values):
            marked = _unpack_marked(numbers, *columns)
            if bucket is None:
                found.unnumbered.append((digests, marked))
            else:
                found.by_bucket[bucket].append(marked)
        if not is_plain:
            self._read_odd(event_type, first, last, found)

    def _write_mask(self, event_type: str, binder: Binder) -> str:
        parts = []
        for step in self.wanted.list_types()[event_type]:
            condition = self.wanted.steps[step].condition
            bit = str(1 << step)
            if condition is not None:
                met = write_condition(condition, binder)
                bit = f"CASE WHEN {ODD} THEN 0 WHEN {met} THEN {bit} ELSE 0 END"
            parts.append(bit)
        return f"({' + '.join(parts)})"

    def _write_value(self, event_type: str, binder: Binder) -> str:
        wanted = self.wanted
        if wanted.property_name is None or event_type != wanted.steps[0].event_type:
            return "0"
        value = write_counted(wanted.property_name, binder)
        values = binder.bind(list(wanted.values), "TEXT[]")
        return f"CASE WHEN {ODD} THEN 0 ELSE COALESCE(array_position({values}, {value}), 0) END"

    def _read_odd(self, event_type: str, first: date, last: date, found: RowsRead) -> None:
        """Read the events that Postgres does not take apart, one by one."""
        binder = Binder()
        events = _place_events(event_type, first, last, binder)
        statement = _READ_ODD.format(digest=_DIGEST, events=events, odd=ODD)
        for number, digest, at, text in self.snapshot.stream(statement, binder.values):
            mask, value = self._judge(event_type, text)
            if not mask:
                continue
            packed = None if number is None else int(number).to_bytes(4)
            marked = _unpack_marked(packed, at, mask.to_bytes(2), value.to_bytes(2))
            if number is None:
                found.unnumbered.append((digest, marked))
            else:
                found.by_bucket[number >> BUCKET_BITS].append(marked)

    def _judge(self, event_type: str, text: str) -> tuple[int, int]:
        """Which steps an event is one of, and the position of its value."""
        wanted, properties = self.wanted, split_properties(text)
        mask = 0
        for step in wanted.list_types()[event_type]:
            condition = wanted.steps[step].condition
            mask |= (condition is None or matches(condition, properties)) << step
        if wanted.property_name is None or event_type != wanted.steps[0].event_type:
            return mask, 0
        value = read_counted(properties.get(wanted.property_name))
        positions = {one: position for position, one in enumerate(wanted.values, 1)}
        return mask, 0 if value is None else positions.get(value, 0)


def to_microseconds(moment: datetime) -> int:
    """A moment as the arrays have it."""
    return (moment - EPOCH) // timedelta(microseconds=1)


def list_ranges(days: Sequence[date]) -> list[tuple[date, date]]:
    """Days in order as ranges of days that follow each other."""
    ranges: list[tuple[date, date]] = []
    for day in days:
        if ranges and day - ranges[-1][1] == timedelta(days=1):
            ranges[-1] = (ranges[-1][0], day)
        else:
            ranges.append((day, day))
    return ranges


def _place_events(event_type: str, first: date, last: date, binder: Binder) -> str:
    begin, end = bound_days(first, last)
    return _EVENTS.format(
        event_type=binder.bind(event_type, "TEXT"),
        begin=binder.bind(begin, "TIMESTAMPTZ"),
        end=binder.bind(end, "TIMESTAMPTZ"),
    )


def _unpack(numbers: bytes, times: bytes, mask: np.uint8) -> Marked:
    users = np.frombuffer(numbers, ">i4").astype(np.int64)
    masks = np.full(len(users), mask, np.uint8)
    return Marked(Events(users, _read_times(times), masks), np.zeros(len(users), np.int16))


def _unpack_marked(numbers: bytes | None, times: bytes, masks: bytes, values: bytes) -> Marked:
    moments = _read_times(times)
    users = np.frombuffer(numbers, ">i4").astype(np.int64) if numbers else np.zeros_like(moments)
    return Marked(
        Events(users, moments, np.frombuffer(masks, ">i2").astype(np.uint8)),
        np.frombuffer(values, ">i2").astype(np.int16),
    )


def _read_times(times: bytes) -> Numbers:
    return np.frombuffer(times, ">i8").astype(np.int64)
