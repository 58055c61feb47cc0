"""Breakdowns of the archive by any property, on any conditions: what was not counted when it came
is counted from the rows, within limits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import Engine

from pipeline.counting.increments import decode_value
from pipeline.days import bound_days
from pipeline.errors import InvalidCondition, InvalidEvent, InvalidQuestion
from pipeline.event.rules import check_event_type
from pipeline.reading.conditions.counted_values import read_counted, write_counted
from pipeline.reading.conditions.language import parse_condition
from pipeline.reading.conditions.matching import Properties, matches, split_properties
from pipeline.reading.conditions.sql import ODD, Binder, write_condition
from pipeline.reading.journeys.snapshot import (
    TIME_LIMIT_S,
    Snapshot,
    check_rows,
    describe_kept_since,
    estimate_rows,
    open_snapshot,
    read_as_of,
    read_kept_since,
    write_moment,
)
from pipeline.reading.journeys.steps import Step

MOST_VALUES = 10_000
_MATCHING = (
    "FROM schema$.events WHERE event_type = {event_type} "
    "AND timestamp >= {begin} AND timestamp < {end}{users} AND {condition}"
)
_COUNT_VALUES = (
    "WITH found AS (SELECT {value} AS value, count(*) AS n {matching} GROUP BY 1), "
    "counted AS (SELECT value, n, CAST(sum(n) OVER () AS BIGINT) AS of_all FROM found) "
    "(SELECT * FROM counted WHERE value IS NOT NULL "
    'ORDER BY n DESC, value COLLATE "C" LIMIT {most}) '
    "UNION SELECT * FROM counted WHERE value IS NULL OR value = ANY({odd})"
)
_COUNT = "SELECT count(*), count(DISTINCT user_id) {matching}"
_COUNT_USERS = "SELECT count(DISTINCT user_id) {matching} AND user_id = ANY({odd})"
_READ_ODD = "SELECT user_id, CAST(properties AS TEXT) {matching}"


@dataclass(frozen=True)
class BreakdownQuestion:
    """Events of a type that meet a condition, where there is one: how many by value of property
    `by`, the most frequent `limit` of them; without it, how many, and of how many users."""

    event_type: str
    first: date
    last: date
    by: str | None = None
    where: str | None = None
    limit: int = 10

    def __post_init__(self) -> None:
        """Raises `InvalidQuestion` for what has no answer."""
        self.read_step()
        if not 1 <= self.limit <= MOST_VALUES:
            raise InvalidQuestion("limit", f"{self.limit} is not from 1 to {MOST_VALUES:,}")

    def read_step(self) -> Step:
        """The events as a step."""
        try:
            condition = None if self.where is None else parse_condition(self.where)
        except InvalidCondition as error:
            raise InvalidQuestion("where", f"{error} (in {self.where!r:.200})") from error
        try:
            return Step(check_event_type(self.event_type), condition)
        except InvalidEvent as error:
            raise InvalidQuestion("event_type", error.reason) from error


@dataclass(frozen=True)
class Breakdown:
    """How many events there are, as of the last archive run; of how many users, where no property
    was named; else by value, most first, and how many are of no value (`without`)."""

    count: int
    as_of: datetime | None
    users: int | None = None
    values: list[tuple[str, int]] | None = None
    without: int = 0
    kept_since: date | None = None
    """The days before it were pruned, and are not part of this."""

    def describe(self) -> dict[str, Any]:
        """The answer, JSON-ready; `others` are events of values that are not listed."""
        known = {"as_of": write_moment(self.as_of)} | describe_kept_since(self.kept_since)
        if self.values is None:
            return {"count": self.count, "users": self.users} | known
        others = self.count - self.without - sum(n for _, n in self.values)
        return {
            "breakdown": [{"value": value, "count": n} for value, n in self.values],
            "count": self.count,
            "others": others,
            "without": self.without,
        } | known


def find_breakdown(
    engine: Engine, question: BreakdownQuestion, timeout_s: float = TIME_LIMIT_S
) -> Breakdown:
    """The answer, of the archive at one instant.

    Raises `QuestionTooLarge` beyond the limits, and sqlalchemy.exc.DBAPIError.
    """
    step = question.read_step()
    with open_snapshot(engine, timeout_s) as snapshot:
        as_of, kept_since = read_as_of(snapshot), read_kept_since(snapshot, question.first)
        days = (question.first, question.last)
        check_rows(estimate_rows(snapshot, [step.event_type], *days))
        if question.by is None:
            count, users = _count(snapshot, _Events(step, *days))
            return Breakdown(count, as_of, users, kept_since=kept_since)
        wanted = _Events(step, *days)
        values, count, without = _count_values(snapshot, wanted, question.by, question.limit)
    shown = [(decode_value(value), n) for value, n in values]
    return Breakdown(count, as_of, None, shown, without, kept_since)


def estimate_work(
    engine: Engine, question: BreakdownQuestion, timeout_s: float = TIME_LIMIT_S
) -> int:
    """How many rows of the archive a breakdown reads, about."""
    types = [question.read_step().event_type]
    with open_snapshot(engine, timeout_s) as snapshot:
        return estimate_rows(snapshot, types, question.first, question.last)


def list_largest_values(
    snapshot: Snapshot, step: Step, days: tuple[date, date], name: str, limit: int
) -> list[str]:
    """The values of a property that most events of a step have, of users and in these days, as they
    are counted."""
    wanted = _Events(step, *days, of_users=True)
    values, _, _ = _count_values(snapshot, wanted, name, limit)
    return [value for value, _ in values]


@dataclass(frozen=True)
class _Events:
    """Events of a step on some days; `of_users` leaves out those of no user."""

    step: Step
    first: date
    last: date
    of_users: bool = False

    def write(self, binder: Binder, *, odd: bool, plain: bool = False) -> str:
        """FROM and WHERE: those that are `ODD`, without the condition; or the others that meet it;
        `plain` where nothing is asked of the properties, so that none is odd."""
        begin, end = bound_days(self.first, self.last)
        condition = ODD if odd else "TRUE" if plain else f"NOT {ODD}"
        if self.step.condition is not None and not odd:
            met = write_condition(self.step.condition, binder)
            # Postgres may evaluate the parts of an AND in any order.
            condition = f"CASE WHEN {ODD} THEN FALSE ELSE {met} END"
        return _MATCHING.format(
            event_type=binder.bind(self.step.event_type, "TEXT"),
            begin=binder.bind(begin, "TIMESTAMPTZ"),
            end=binder.bind(end, "TIMESTAMPTZ"),
            users=" AND user_id IS NOT NULL" if self.of_users else "",
            condition=condition,
        )


def _count(snapshot: Snapshot, wanted: _Events) -> tuple[int, int]:
    """How many events there are, and of how many users."""
    is_plain = wanted.step.condition is None
    binder = Binder()
    matching = wanted.write(binder, odd=False, plain=is_plain)
    [(count, users)] = snapshot.rows(_COUNT.format(matching=matching), binder.values)
    if is_plain:
        return count, users
    odd = [user_id for user_id, _ in _read_odd(snapshot, wanted)]
    of_users = sorted({user_id for user_id in odd if user_id is not None})
    binder = Binder()
    matching = wanted.write(binder, odd=False)
    statement = _COUNT_USERS.format(matching=matching, odd=binder.bind(of_users, "TEXT[]"))
    [(known,)] = snapshot.rows(statement, binder.values) if of_users else [(0,)]
    return count + len(odd), users + len(of_users) - known


def _count_values(
    snapshot: Snapshot, wanted: _Events, name: str, limit: int
) -> tuple[list[tuple[str, int]], int, int]:
    """The largest values with their events, all events, and those without a value.

    A value may be the largest only by events that Postgres does not take apart, so those values are
    always read.
    """
    odd = Counter(
        read_counted(properties.get(name)) for _, properties in _read_odd(snapshot, wanted)
    )
    without = odd.pop(None, 0)
    found = Counter({value: n for value, n in odd.items() if value is not None})
    count, of_rows = without + found.total(), 0
    binder = Binder()
    value = _guard(write_counted(name, binder))
    statement = _COUNT_VALUES.format(
        value=value,
        matching=wanted.write(binder, odd=False),
        most=limit,
        odd=binder.bind(list(found), "TEXT[]"),
    )
    for one, n, of_rows in snapshot.rows(statement, binder.values):  # noqa: B007
        if one is None:
            without += n
        else:
            found[one] += n
    largest = sorted(found.items(), key=lambda one: (-one[1], one[0]))[:limit]
    return largest, count + of_rows, without


def _guard(expression: str) -> str:
    return f"CASE WHEN {ODD} THEN NULL ELSE {expression} END"


def _read_odd(snapshot: Snapshot, wanted: _Events) -> Iterator[tuple[str | None, Properties]]:
    """The events that Postgres does not take apart and that meet the condition: user and
    properties."""
    binder = Binder()
    statement = _READ_ODD.format(matching=wanted.write(binder, odd=True))
    condition = wanted.step.condition
    for user_id, text in snapshot.stream(statement, binder.values):
        properties = split_properties(text)
        if condition is None or matches(condition, properties):
            yield user_id, properties
