"""Funnels: how many users did one thing after another within a window, and how long it took them.

Users are taken in buckets, so many that about two million events are worked on at once: memory is
bounded however long the range is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
from sqlalchemy import Engine

from pipeline.counting.increments import decode_value
from pipeline.days import bound_days
from pipeline.errors import InvalidQuestion
from pipeline.reading.journeys.archived import Marked, Source, Wanted, to_microseconds
from pipeline.reading.journeys.breakdown import list_largest_values
from pipeline.reading.journeys.parts import Progress, estimate_source, take_in_parts
from pipeline.reading.journeys.paths import Events, Numbers, Rules, find_first_reached
from pipeline.reading.journeys.snapshot import (
    TIME_LIMIT_S,
    check_rows,
    describe_kept_since,
    open_snapshot,
    read_as_of,
    read_kept_since,
    write_moment,
)
from pipeline.reading.journeys.steps import Step, parse_steps, parse_window

MOST_VALUES = 100
_FIRST_STEP = np.uint8(1)


@dataclass(frozen=True)
class FunnelQuestion:
    """A funnel: its steps, each as `parse_step` reads it, and the days of the first step's events.
    The others follow within `window`, or, in any order, lie within it together. `by` names a
    property of the first step's event, of which the `limit` most frequent values are told apart."""

    steps: tuple[str, ...]
    first: date
    last: date
    window: str
    any_order: bool = False
    by: str | None = None
    limit: int = 10

    def __post_init__(self) -> None:
        """Raises `InvalidQuestion` for what has no answer."""
        parse_steps(self.steps)
        parse_window(self.window)
        if not 1 <= self.limit <= MOST_VALUES:
            raise InvalidQuestion("limit", f"{self.limit} is not from 1 to {MOST_VALUES}")


@dataclass(frozen=True)
class FunnelStep:
    """How many users reached a step. The median, in seconds, is that of the time from when a user
    first reached the step before to when they first reached this one."""

    event_type: str
    step: str
    users: int
    median_s: float | None


@dataclass(frozen=True)
class Funnel:
    """The steps; by value where that was asked for, the most users first; `as_of` is the last
    archive run."""

    steps: list[FunnelStep]
    as_of: datetime | None
    values: list[tuple[str, list[FunnelStep]]] | None = None
    kept_since: date | None = None
    """The days before it were pruned, and are not part of this."""

    def describe(self) -> dict[str, Any]:
        """The answer, JSON-ready."""
        found: dict[str, Any] = {"steps": _describe(self.steps)}
        if self.values is not None:
            found["values"] = [
                {"value": value, "steps": _describe(steps)} for value, steps in self.values
            ]
        return found | {"as_of": write_moment(self.as_of)} | describe_kept_since(self.kept_since)


def find_funnel(
    engine: Engine,
    question: FunnelQuestion,
    progress: Progress = lambda _: None,
    timeout_s: float = TIME_LIMIT_S,
) -> Funnel:
    """The answer, of the archive at one instant.

    Raises `QuestionTooLarge` beyond the limits, and sqlalchemy.exc.DBAPIError.
    """
    steps, window = parse_steps(question.steps), parse_window(question.window)
    first, last = _find_days(question, window)
    with open_snapshot(engine, timeout_s) as snapshot:
        as_of, kept_since = read_as_of(snapshot), read_kept_since(snapshot, question.first)
        values = list[str]()
        if question.by is not None:
            days = (question.first, question.last)
            values = list_largest_values(snapshot, steps[0], days, question.by, question.limit)
        source = Source(snapshot, Wanted(steps, first, last, question.by, values))
        tallies = _Tallies(question, steps, window, len(values))
        packed = source.list_packed_days()
        check_rows(estimate_source(source, packed))
        for events in take_in_parts(source, packed, progress):
            tallies.add(events)
    by_value = [
        (decode_value(value), tallies.of_value(position).list_steps(question, steps))
        for position, value in enumerate(values, start=1)
    ]
    by_value.sort(key=lambda one: -one[1][0].users)
    return Funnel(
        tallies.of_all.list_steps(question, steps),
        as_of,
        None if question.by is None else by_value,
        kept_since,
    )


def estimate_work(engine: Engine, question: FunnelQuestion, timeout_s: float = TIME_LIMIT_S) -> int:
    """How many rows a funnel reads, about; ten packed events count as a row."""
    first, last = _find_days(question, parse_window(question.window))
    with open_snapshot(engine, timeout_s) as snapshot:
        wanted = Wanted(parse_steps(question.steps), first, last, question.by)
        source = Source(snapshot, wanted)
        packed = source.list_packed_days()
        return estimate_source(source, packed) + source.count_packed_events(packed) // 10


def _find_days(question: FunnelQuestion, window: timedelta) -> tuple[date, date]:
    """The days of which events are read."""
    begin, end = bound_days(question.first, question.last)
    first = question.first
    if question.any_order and begin - begin.min.replace(tzinfo=begin.tzinfo) > window:
        first = (begin - window).date()
    last = question.last
    if begin.max.replace(tzinfo=begin.tzinfo) - end > window:
        last = (end + window - timedelta(microseconds=1)).date()
    return first, last


@dataclass
class _Tally:
    """Users by step, and from the second on how long each took, in microseconds."""

    users: list[int]
    durations: list[list[Numbers]]

    def add(self, reached: Sequence[tuple[Numbers, Numbers]]) -> None:
        """Add what some users reached, and when."""
        for step, (users, moments) in enumerate(reached):
            self.users[step] += len(users)
            if step:
                before, earlier = reached[step - 1]
                took = moments - earlier[np.searchsorted(before, users)]
                self.durations[step].append(took)

    def list_steps(self, question: FunnelQuestion, steps: Sequence[Step]) -> list[FunnelStep]:
        """The steps, each with its numbers."""
        return [
            FunnelStep(step.event_type, text, self.users[at], _find_median_s(self.durations[at]))
            for at, (step, text) in enumerate(zip(steps, question.steps, strict=True))
        ]


@dataclass
class _Tallies:
    """The tally of all users, and one for each value."""

    question: FunnelQuestion
    steps: Sequence[Step]
    window: timedelta
    values: int
    _made: dict[int, _Tally] = field(default_factory=dict)

    @property
    def of_all(self) -> _Tally:
        """That of all users."""
        return self.of_value(0)

    def of_value(self, position: int) -> _Tally:
        """That of the users by events of this value."""
        n = len(self.steps)
        return self._made.setdefault(position, _Tally([0] * n, [[] for _ in range(n)]))

    def add(self, marked: Marked) -> None:
        """Add the journeys of some users, of whom these are all events."""
        window_us = round(self.window / timedelta(microseconds=1))
        types = [step.event_type for step in self.steps]
        rules = Rules(types, window_us, self.question.any_order)
        events = self._begin_in_range(marked.events)
        self.of_all.add(find_first_reached(events, rules))
        begins = (events.masks & _FIRST_STEP) != 0
        for value in range(1, self.values + 1):
            ours = begins & (marked.values == value)
            masks = np.where(begins & ~ours, events.masks & ~_FIRST_STEP, events.masks)
            near = np.isin(events.users, np.unique(events.users[ours]))
            chosen = Events(events.users[near], events.times[near], masks[near])
            self.of_value(value).add(find_first_reached(chosen, rules))

    def _begin_in_range(self, events: Events) -> Events:
        """The events, those outside the range no first step."""
        begin, end = bound_days(self.question.first, self.question.last)
        outside = (events.times < to_microseconds(begin)) | (events.times >= to_microseconds(end))
        masks = np.where(outside, events.masks & ~_FIRST_STEP, events.masks)
        return Events(events.users, events.times, masks)


def _find_median_s(durations: Sequence[Numbers]) -> float | None:
    every = np.concatenate(durations) if durations else np.empty(0, np.int64)
    return round(float(np.median(every)) / 1e6, 6) if len(every) else None


def _describe(steps: Sequence[FunnelStep]) -> list[dict[str, Any]]:
    """The steps, JSON-ready: `conversion` is the part of the step before, `of_first` of the
    first."""
    at_first = steps[0].users
    return [
        {
            "event_type": step.event_type,
            "step": step.step,
            "users": step.users,
            "lost": before.users - step.users,
            "conversion": _divide(step.users, before.users),
            "of_first": _divide(step.users, at_first),
            "median_s": step.median_s,
        }
        for before, step in zip([steps[0], *steps], steps, strict=False)
    ]


def _divide(users: int, of: int) -> float | None:
    return round(users / of, 6) if of else None
