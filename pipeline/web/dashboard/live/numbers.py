"""The numbers of now, read at most once a second for all viewers of this process."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from threading import Lock

import redis

from pipeline.event.model import Event
from pipeline.event_log.streams import EventLog
from pipeline.reading.raw.newest import NewestEvents
from pipeline.reading.series.reader import SeriesRequest
from pipeline.reading.totals import RedisStatus, read_status
from pipeline.upkeep.condition.history import Sample, Stretches, read_samples
from pipeline.web.dashboard.page import Sources

READ_AGAIN_S = 0.9
SHOWN_EVENTS = 15
QUARTERS = 8
"""Whole quarter hours before the one that goes on."""
MINUTES = 30
"""Whole minutes before the one that goes on."""
_SLOW_AGAIN_S = 5.0
_RATE_OF_S = 10.0
_QUARTER, _MINUTE = timedelta(minutes=15), timedelta(minutes=1)
_SAMPLES_APART_S = 45.0
"""They are taken each 15 seconds, while there is a flush worker."""
_MOST_WATCHED = 50


@dataclass(frozen=True)
class LiveNumbers:
    """What is true at a moment, of an event type or of all ("" as `event_type`). The events of
    `quarters` and `types` are exact, as of some seconds before."""

    at: datetime
    event_type: str
    per_s: float | None
    """Events counted in a second, of the last ten; None where this process has just begun to
    read."""
    waiting: int
    """Messages in the queue, of all types."""
    in_flight: int
    """Messages that workers hold, of all types."""
    unarchived: int
    """Events of all types in the event log that are not archived."""
    minutes: Sequence[tuple[datetime, float | None]]
    """How many events of all types were counted in each minute, by its beginning; the last one goes
    on. None: not known. Empty for one event type."""
    quarters: Sequence[tuple[str, int]]
    """By the time that a quarter hour begins at; the last one goes on."""
    types: dict[str, int]
    """Today (UTC), most first."""
    events: Sequence[Event]

    @property
    def lately(self) -> int:
        """Events of this quarter hour and the two before it."""
        return sum(n for _, n in self.quarters[-3:])


@dataclass
class _Watched:
    """What was read of an event type, or of all of them."""

    newest: NewestEvents
    numbers: LiveNumbers | None = None
    read_s: float = 0.0
    slow_s: float = -_SLOW_AGAIN_S
    """When what changes slowly was read."""
    quarters: Sequence[tuple[str, int]] = ()
    samples: deque[tuple[float, int]] = field(default_factory=deque)


class LiveReader:
    """Reads the numbers; readers that come within a second of another get what that one got."""

    def __init__(self, sources: Sources, client: redis.Redis) -> None:
        """`client` gives the server little time to answer."""
        services = sources.services
        self._sources, self._client, self._keys = sources, client, services.keys
        self._log = EventLog(client, services.keys)
        self._options = services.counters.options
        self._lock = Lock()
        self._watched: OrderedDict[str, _Watched] = OrderedDict()
        self._types: dict[str, int] = {}
        self._minutes: list[Sample] = []

    def read(self, event_type: str = "") -> LiveNumbers:
        """The numbers of a type, or of all. Raises redis.RedisError or
        sqlalchemy.exc.OperationalError when a server is away."""
        with self._lock:
            now_s = time.monotonic()
            one = self._watch(event_type)
            if one.numbers is None or now_s - one.read_s >= READ_AGAIN_S:
                one.numbers = self._read_now(datetime.now(UTC), now_s, event_type)
                one.read_s = now_s
            return one.numbers

    def _watch(self, event_type: str) -> _Watched:
        one = self._watched.get(event_type)
        if one is None:
            newest = NewestEvents(
                self._client, self._keys, self._options, SHOWN_EVENTS, event_type or None
            )
            one = self._watched[event_type] = _Watched(newest)
        self._watched.move_to_end(event_type)
        while len(self._watched) > _MOST_WATCHED:
            self._watched.popitem(last=False)
        return one

    def _read_now(self, now: datetime, now_s: float, event_type: str) -> LiveNumbers:
        services, one = self._sources.services, self._watched[event_type]
        status = read_status(self._client, self._keys)
        has_rabbitmq = services.broker_url is not None
        waiting = services.queue_depth() if has_rabbitmq else status.queue_depth
        if now_s - one.slow_s >= _SLOW_AGAIN_S:
            self._read_slowly(now, event_type)
            one.slow_s = now_s
        return LiveNumbers(
            now,
            event_type,
            _find_rate(one.samples, _find_counted(status, event_type), now_s),
            waiting,
            status.unacknowledged,
            int(self._log.read_status()["events"]),
            [] if event_type else self._list_minutes(now, status),
            one.quarters,
            self._types,
            one.newest.read(services.engine),
        )

    def _read_slowly(self, now: datetime, event_type: str) -> None:
        """Quarter hours and today's types, and what history has of minutes."""
        earliest = now - (QUARTERS + 1) * _QUARTER
        today, stats = now.date(), self._sources.stats
        days = [today] if earliest.date() == today else [earliest.date(), today]
        found = stats.read_all_types([(day, day) for day in days], "quarter_hour", "UTC")
        periods = found.periods
        if event_type:
            request = SeriesRequest(event_type, days[0], today, "quarter_hour")
            periods = stats.read_series(request)
        else:
            self._minutes = read_samples(self._client, self._keys, (MINUTES + 2) * 60)
        points = [one for period in periods for one in period.points]
        begun = [(at, n) for at, n in points if datetime.fromisoformat(at) <= now]
        self._watched[event_type].quarters = begun[-QUARTERS - 1 :]
        self._types = found.types[-1]

    def _list_minutes(
        self, now: datetime, status: RedisStatus
    ) -> list[tuple[datetime, float | None]]:
        """From what was counted at each sample, and now."""
        first = now.replace(second=0, microsecond=0) - MINUTES * _MINUTE
        counted = Sample(now.timestamp(), {"counted": int(status.books["counted"])})
        stretches = Stretches(first.timestamp(), 60.0, MINUTES + 1)
        values = count_by_stretch([*self._minutes, counted], stretches)
        return [(first + n * _MINUTE, value) for n, value in enumerate(values)]


def count_by_stretch(samples: Sequence[Sample], stretches: Stretches) -> list[float | None]:
    """How many events were counted in each stretch of time; None where no sample says it. What was
    counted between samples that are far apart is of no one stretch."""
    found: list[float | None] = [None] * stretches.number
    for before, after in pairwise(samples):
        position = stretches.find(after.at_s - 0.001)
        grown = after.numbers.get("counted", 0) - before.numbers.get("counted", 0)
        if position is not None and grown >= 0 and after.at_s - before.at_s <= _SAMPLES_APART_S:
            found[position] = (found[position] or 0) + grown
    return found


def _find_counted(status: RedisStatus, event_type: str) -> int | None:
    """How many events were counted, ever; of a type that is not among the largest nothing is
    known."""
    if not event_type:
        return int(status.books["counted"])
    row = status.books["by_type"].get(event_type)
    if row is None:
        return 0 if status.books["types"] <= len(status.books["by_type"]) else None
    return int(row.get("counted", 0))


def _find_rate(
    samples: deque[tuple[float, int]], counted: int | None, now_s: float
) -> float | None:
    """From what was counted about ten seconds ago; the books of an older Redis say less than those
    before."""
    if counted is None:
        return None
    samples.append((now_s, counted))
    while len(samples) > 2 and now_s - samples[1][0] >= _RATE_OF_S:
        samples.popleft()
    then_s, then = samples[0]
    if now_s - then_s < READ_AGAIN_S or now_s - then_s > 3 * _RATE_OF_S:
        return None
    return max(0.0, (counted - then) / (now_s - then_s))
