"""The numbers of now, read at most once a second for all viewers of this process."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from threading import Lock

import redis

from pipeline.event.model import Event
from pipeline.event_log.streams import EventLog
from pipeline.reading.raw.newest import NewestEvents
from pipeline.reading.totals import read_status
from pipeline.web.dashboard.page import Sources

READ_AGAIN_S = 0.9
SHOWN_EVENTS = 15
QUARTERS = 8
"""Whole quarter hours before the one that goes on."""
_QUARTERS_AGAIN_S = 5.0
_RATE_OF_S = 10.0
_QUARTER = timedelta(minutes=15)


@dataclass(frozen=True)
class LiveNumbers:
    """What is true at a moment. The events of `quarters` and `types` are exact, as of some seconds
    before."""

    at: datetime
    per_s: float | None
    """Events counted in a second, of the last ten; None where this process has just begun to
    read."""
    waiting: int
    """Messages in the queue."""
    in_flight: int
    """Messages that workers hold."""
    unarchived: int
    """Events in the event log that are not archived."""
    counted: int
    """Events, ever."""
    quarters: Sequence[tuple[str, int]]
    """By the time that a quarter hour begins at; the last one goes on."""
    types: dict[str, int]
    """Today (UTC), most first."""
    events: Sequence[Event]

    @property
    def lately(self) -> int:
        """Events of this quarter hour and the two before it."""
        return sum(n for _, n in self.quarters[-3:])


class LiveReader:
    """Reads the numbers; readers that come within a second of another get what that one got."""

    def __init__(self, sources: Sources, client: redis.Redis) -> None:
        """`client` gives the server little time to answer."""
        services = sources.services
        self._sources, self._client, self._keys = sources, client, services.keys
        self._log = EventLog(client, services.keys)
        options = services.counters.options
        self._newest = NewestEvents(client, services.keys, options, SHOWN_EVENTS)
        self._lock = Lock()
        self._read: LiveNumbers | None = None
        self._read_s = self._quarters_s = -_RATE_OF_S
        self._samples: deque[tuple[float, int]] = deque()
        self._quarters: Sequence[tuple[str, int]] = []
        self._types: dict[str, int] = {}

    def read(self) -> LiveNumbers:
        """The numbers. Raises redis.RedisError or sqlalchemy.exc.OperationalError when a server is
        away."""
        with self._lock:
            now_s = time.monotonic()
            if self._read is None or now_s - self._read_s >= READ_AGAIN_S:
                self._read = self._read_now(datetime.now(UTC), now_s)
                self._read_s = now_s
            return self._read

    def _read_now(self, now: datetime, now_s: float) -> LiveNumbers:
        services = self._sources.services
        status = read_status(self._client, self._keys)
        has_rabbitmq = services.broker_url is not None
        waiting = services.queue_depth() if has_rabbitmq else status.queue_depth
        if now_s - self._quarters_s >= _QUARTERS_AGAIN_S:
            self._read_quarters(now)
            self._quarters_s = now_s
        counted = int(status.books["counted"])
        return LiveNumbers(
            now,
            self._find_rate(counted, now_s),
            waiting,
            status.unacknowledged,
            int(self._log.read_status()["events"]),
            counted,
            self._quarters,
            self._types,
            self._newest.read(services.engine),
        )

    def _read_quarters(self, now: datetime) -> None:
        earliest = now - (QUARTERS + 1) * _QUARTER
        today = now.date()
        ranges = [(today, today)]
        if earliest.date() < today:
            ranges = [(earliest.date(), earliest.date()), *ranges]
        found = self._sources.stats.read_all_types(ranges, "quarter_hour", "UTC")
        points = [one for period in found.periods for one in period.points]
        begun = [(at, n) for at, n in points if datetime.fromisoformat(at) <= now]
        self._quarters, self._types = begun[-QUARTERS - 1 :], found.types[-1]

    def _find_rate(self, counted: int, now_s: float) -> float | None:
        """From what was counted about ten seconds ago; the books of an older Redis say less than
        those before."""
        self._samples.append((now_s, counted))
        while len(self._samples) > 2 and now_s - self._samples[1][0] >= _RATE_OF_S:
            self._samples.popleft()
        then_s, then = self._samples[0]
        if now_s - then_s < READ_AGAIN_S or now_s - then_s > 3 * _RATE_OF_S:
            return None
        return max(0.0, (counted - then) / (now_s - then_s))
