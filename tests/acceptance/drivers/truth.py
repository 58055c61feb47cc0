"""What events must come to, added up without any code of ours, and how that is compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from pipeline.services import Services
from tests.helpers.support import rows

_LONGEST_VALUE = 200


@dataclass(frozen=True)
class Seen:
    """One event as its source has it."""

    user: str | None
    path: str | None
    at: datetime
    event_type: str = "page_view"


class Truth:
    """The counts of all events seen, in the form of the four tables of Postgres."""

    def __init__(self, events: Iterable[Seen] = ()) -> None:
        self.daily: Counter[tuple[str, date]] = Counter()
        self.hourly: Counter[tuple[str, datetime]] = Counter()
        self.users: Counter[tuple[date, str, str]] = Counter()
        self.paths: Counter[tuple[date, str, str, str]] = Counter()
        self.add(events)

    def add(self, events: Iterable[Seen]) -> None:
        for event in events:
            at = event.at.astimezone(UTC)
            day, event_type, path = at.date(), event.event_type, event.path
            self.daily[event_type, day] += 1
            self.hourly[event_type, at.replace(minute=0, second=0, microsecond=0)] += 1
            if event.user is not None:
                self.users[day, event_type, event.user] += 1
            if path is not None:
                cut = path if len(path) <= _LONGEST_VALUE else path[:_LONGEST_VALUE] + "…"
                self.paths[day, event_type, "path", cut] += 1

    def tables(self) -> dict[str, list[tuple[Any, ...]]]:
        """What Postgres must hold when all is flushed."""
        return {
            "analytics_daily": _sorted(self.daily),
            "analytics_hourly": _sorted(self.hourly),
            "analytics_user_daily": _sorted(self.users),
            "analytics_dimension_daily": _sorted(self.paths),
        }

    def per_user(self) -> Counter[str]:
        return _total(self.users, 2)

    def per_path(self) -> Counter[str]:
        return _total(self.paths, 3)


def stored(services: Services) -> dict[str, list[tuple[Any, ...]]]:
    """What Postgres holds, as `Truth.tables` has it."""
    return {table: rows(services, table) for table in Truth().tables()}


def read(services: Services, truth: Truth, every: int = 1) -> Truth:
    """What `stats` says of everything that `truth` names; of every n-th user and path only."""
    stats, said = services.stats, Truth()
    for event_type, day in truth.daily:
        said.daily[event_type, day] = stats.daily_count(event_type, day)
        for hour, n in enumerate(stats.hourly_counts(event_type, day)):
            if n:
                said.hourly[
                    event_type, datetime(day.year, day.month, day.day, hour, tzinfo=UTC)
                ] = n
    for day, event_type, user in sorted(truth.users)[::every]:
        said.users[day, event_type, user] = stats.user_count(user, event_type, day, day)
    for day, event_type, name, value in sorted(truth.paths)[::every]:
        count = stats.property_count(event_type, name, value, day, day)
        said.paths[day, event_type, name, value] = count
    return said


def assert_reads(services: Services, truth: Truth, every: int = 1) -> None:
    """`stats` gives exactly the true numbers now."""
    said = read(services, truth, every)
    assert said.daily == truth.daily
    assert said.hourly == truth.hourly
    assert said.users == {key: truth.users[key] for key in sorted(truth.users)[::every]}
    assert said.paths == {key: truth.paths[key] for key in sorted(truth.paths)[::every]}


def assert_stored(services: Services, truth: Truth) -> None:
    """Postgres holds exactly the true numbers, and nothing waits for a flush."""
    assert stored(services) == truth.tables()
    status = services.status()
    assert (status["pending_counters"], status["inflight_batches"]) == (0, 0)


def _sorted(counts: Counter[Any]) -> list[tuple[Any, ...]]:
    return sorted((*key, n) for key, n in counts.items())


def _total(counts: Counter[Any], at: int) -> Counter[str]:
    total: Counter[str] = Counter()
    for key, n in counts.items():
        total[key[at]] += n
    return total
