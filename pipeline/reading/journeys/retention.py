"""Retention with conditions: of the users who did one thing in a period, how many did another so
many periods later, from the archive."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, cast

import numpy as np
from pyroaring import BitMap
from sqlalchemy import Engine

from pipeline.days import begin_day
from pipeline.errors import InvalidQuestion
from pipeline.reading.journeys.archived import UNNUMBERED, Marked, Source, Wanted, to_microseconds
from pipeline.reading.journeys.parts import Progress, estimate_source, take_in_parts
from pipeline.reading.journeys.snapshot import (
    TIME_LIMIT_S,
    check_rows,
    describe_kept_since,
    open_snapshot,
    read_as_of,
    read_kept_since,
    write_moment,
)
from pipeline.reading.journeys.steps import read_step
from pipeline.reading.people.users import MOST_PERIODS, Period, list_periods

PERIODS = ("day", "week", "month")


@dataclass(frozen=True)
class RetentionQuestion:
    """From events of `start` to events of `return_`, each as `parse_step` reads it, by period of a
    range of days; a period that the range cuts has the days within."""

    start: str
    return_: str
    by: str
    first: date
    last: date

    def __post_init__(self) -> None:
        """Raises `InvalidQuestion` for what has no answer."""
        read_step("start", self.start)
        read_step("return", self.return_)
        if self.by not in PERIODS:
            raise InvalidQuestion("by", f"{self.by!r} is none of {', '.join(PERIODS)}")
        if (n := len(self.list_periods())) > MOST_PERIODS:
            raise InvalidQuestion(
                "by",
                f"{self.first} to {self.last} are {n} periods of a {self.by}, and at most "
                f"{MOST_PERIODS} are compared: ask for fewer days, or for weeks or months",
            )

    def list_periods(self) -> list[date]:
        """The periods, by their first days."""
        return list_periods(self.first, self.last, cast("Period", self.by))


@dataclass(frozen=True)
class JourneyRetention:
    """The cohorts: the period's first day, its users, and how many of them returned in the same
    period, the next one, and so on. As of the last archive run."""

    question: RetentionQuestion
    cohorts: Sequence[tuple[date, int, Sequence[int]]]
    as_of: datetime | None
    kept_since: date | None

    def describe(self) -> dict[str, Any]:
        """The answer, JSON-ready."""
        cohorts = [
            {"start": start.isoformat(), "users": users, "returned": list(returned)}
            for start, users, returned in self.cohorts
        ]
        asked = {"start": self.question.start, "return": self.question.return_}
        found = asked | {
            "by": self.question.by,
            "cohorts": cohorts,
            "as_of": write_moment(self.as_of),
        }
        return found | describe_kept_since(self.kept_since)


def find_retention(
    engine: Engine,
    question: RetentionQuestion,
    progress: Progress = lambda _: None,
    timeout_s: float = TIME_LIMIT_S,
) -> JourneyRetention:
    """The answer, of the archive at one instant.

    Raises `QuestionTooLarge` beyond the limits, and sqlalchemy.exc.DBAPIError.
    """
    periods = _Periods(question.list_periods())
    with open_snapshot(engine, timeout_s) as snapshot:
        as_of, kept_since = read_as_of(snapshot), read_kept_since(snapshot, question.first)
        source = Source(snapshot, _wanted(question))
        packed = source.list_packed_days()
        check_rows(estimate_source(source, packed))
        for events in take_in_parts(source, packed, progress):
            periods.add(events)
    return JourneyRetention(question, periods.list_cohorts(), as_of, kept_since)


def estimate_work(
    engine: Engine, question: RetentionQuestion, timeout_s: float = TIME_LIMIT_S
) -> int:
    """How many rows a retention reads, about; ten packed events count as a row."""
    with open_snapshot(engine, timeout_s) as snapshot:
        source = Source(snapshot, _wanted(question))
        packed = source.list_packed_days()
        return estimate_source(source, packed) + source.count_packed_events(packed) // 10


def _wanted(question: RetentionQuestion) -> Wanted:
    steps = (read_step("start", question.start), read_step("return", question.return_))
    return Wanted(steps, question.first, question.last)


@dataclass
class _Periods:
    """The users of each period, by what they did. Those who have no number in Postgres have sets of
    their own, since their numbers here are beyond what a set takes."""

    starts: Sequence[date]
    users: dict[tuple[int, bool, int], BitMap] = field(default_factory=dict)

    def add(self, marked: Marked) -> None:
        """Add events."""
        events = marked.events
        begins = np.array([to_microseconds(begin_day(day)) for day in self.starts], np.int64)
        # The first period may have begun before the range.
        periods = np.maximum(np.searchsorted(begins, events.times, "right") - 1, 0)
        far = events.users >= UNNUMBERED
        numbers = np.where(far, events.users - UNNUMBERED, events.users).astype(np.uint32)
        for step in (0, 1):
            for is_far in (False, True):
                chosen = ((events.masks >> np.uint8(step) & 1) != 0) & (far == is_far)
                self._add(step, is_far, periods[chosen], numbers[chosen])

    def _add(self, step: int, is_far: bool, periods: Any, numbers: Any) -> None:
        for period in np.unique(periods).tolist():
            found = BitMap(array("I", numbers[periods == period].tobytes()))
            known = self.users.setdefault((step, is_far, period), BitMap())
            known |= found

    def list_cohorts(self) -> list[tuple[date, int, list[int]]]:
        """The cohorts, one for each period."""
        none, every = BitMap(), range(len(self.starts))

        def count(at: int, later: int) -> int:
            return sum(
                self.users.get((0, is_far, at), none).intersection_cardinality(
                    self.users.get((1, is_far, later), none)
                )
                for is_far in (False, True)
            )

        return [
            (
                self.starts[at],
                sum(len(self.users.get((0, is_far, at), none)) for is_far in (False, True)),
                [count(at, later) for later in every[at:]],
            )
            for at in every
        ]
