"""An independent account of who did what on which day, beside which measures of users are held."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from pipeline.event.model import Event
from pipeline.services import Services
from tests.helpers.support import count_events

CLOCK = datetime.combine(datetime.now(UTC).date(), time(12), UTC)
"""Noon, when yesterday is closed."""
TODAY = CLOCK.date()


def day_before(days: int) -> date:
    """The day so many days before today."""
    return TODAY - timedelta(days=days)


def visit(day: date, user_id: str | None, event_type: str = "page_view", **more: Any) -> Event:
    """An event of a user in the middle of a day."""
    at = datetime.combine(day, time(11), UTC)
    return Event(event_type, at, user_id, more or None)


def track(services: Services, *visits: tuple[date, str] | tuple[date, str, str]) -> None:
    """Count and flush visits: a day, a user, and an event type."""
    count_events(services, *[visit(*one) for one in visits])
    services.flush()


@dataclass
class Account:
    """Who was seen when: (day, event type, person). Measures are counted one by one."""

    seen: set[tuple[date, str, str]] = field(default_factory=set)

    def find(self, types: Collection[str], first: date, last: date) -> set[str]:
        """The persons who did one of these, or anything, in the days."""
        return {
            person
            for day, event_type, person in self.seen
            if first <= day <= last and (not types or event_type in types)
        }

    def count(self, types: Collection[str], first: date, last: date) -> tuple[int, int]:
        """How many persons, and how many of them were not seen before."""
        users = self.find(types, first, last)
        past = self.find(types, date.min, first - timedelta(days=1))
        return len(users), len(users - past)

    def retain(self, start: str, return_: str, days: Iterable[date]) -> list[tuple[int, list[int]]]:
        """Cohorts by day: how many, and how many of them returned on each day since."""
        every = list(days)
        return [
            (
                len(cohort := self.find([start], day, day)),
                [len(cohort & self.find([return_], later, later)) for later in every[at:]],
            )
            for at, day in enumerate(every)
        ]
