"""The steps of a funnel, as they are asked for: `TYPE`, or `TYPE[conditions]`. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from pipeline.errors import InvalidCondition, InvalidEvent, InvalidQuestion
from pipeline.event.rules import check_event_type
from pipeline.reading.conditions.language import Condition, parse_condition

FEWEST_STEPS, MOST_STEPS = 2, 8
DEFAULT_WINDOW = "7d"
LONGEST_WINDOW = timedelta(days=90)
_WINDOW = re.compile(r"([0-9]{1,9})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_QUOTED_TYPE = re.compile(r'"((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class Step:
    """Events of a type, those that meet a condition where there is one."""

    event_type: str
    condition: Condition | None = None


def parse_step(text: str) -> Step:
    """The step that the text says; a type that has a `[` in its name stands in double quotes.

    Raises `InvalidCondition`, its position that within the text, and `InvalidEvent` for what can be
    no event type.
    """
    text = text.strip()
    quoted = _QUOTED_TYPE.match(text)
    if quoted:
        event_type = re.sub(r"\\(.)", r"\1", quoted[1])
        bracket, rest = quoted.end(), text[quoted.end() :]
        if rest and not rest.startswith("["):
            raise InvalidCondition(
                bracket + 1, "after a type in quotes only [conditions] may stand"
            )
    else:
        event_type, _, rest = text.partition("[")
        bracket, rest = len(event_type), text[len(event_type) :]
        event_type = event_type.strip()
        if rest and not event_type:
            raise InvalidCondition(
                1,
                "an event type stands before [conditions]; one that has a [ in its name stands in "
                "double quotes",
            )
    event_type = check_event_type(event_type)
    if not rest:
        return Step(event_type)
    if not rest.endswith("]"):
        raise InvalidCondition(
            len(text) + 1, f"the [ of character {bracket + 1} is open; add ] at the end"
        )
    try:
        return Step(event_type, parse_condition(rest[1:-1]))
    except InvalidCondition as error:
        raise error.moved(bracket + 1) from error


def read_plain_types(start: str, return_: str) -> tuple[str, str] | None:
    """The event types of these two steps of a retention; None where either has conditions. Raises
    `InvalidQuestion`."""
    steps = read_step("start", start), read_step("return", return_)
    if any(step.condition is not None for step in steps):
        return None
    return steps[0].event_type, steps[1].event_type


def parse_steps(texts: Sequence[str]) -> tuple[Step, ...]:
    """The steps of a funnel. Raises `InvalidQuestion` that names the step, from 1 on."""
    if not FEWEST_STEPS <= len(texts) <= MOST_STEPS:
        raise InvalidQuestion(
            "steps", f"a funnel has {FEWEST_STEPS} to {MOST_STEPS} steps; {len(texts)} are given"
        )
    return tuple(read_step(f"step {number}", text) for number, text in enumerate(texts, 1))


def read_step(field: str, text: str) -> Step:
    """The step that the text says. Raises `InvalidQuestion` about this field."""
    try:
        return parse_step(text)
    except InvalidEvent as error:
        raise InvalidQuestion(field, f"the event type {error.reason}") from error
    except InvalidCondition as error:
        raise InvalidQuestion(field, f"{error} (in {text[:200]!r})") from error


def parse_window(text: str) -> timedelta:
    """How long a journey may take: a number and s, m, h or d. Raises `InvalidQuestion`."""
    match = _WINDOW.fullmatch(text.strip())
    if match is None:
        raise InvalidQuestion(
            "window", f"{text[:40]!r} is no duration; write a number and s, m, h or d, such as 7d"
        )
    window = timedelta(**{_UNITS[match[2]]: int(match[1])}) if int(match[1]) < 10**8 else None
    if window is None or not timedelta(0) < window <= LONGEST_WINDOW:
        raise InvalidQuestion(
            "window", f"{text[:40]!r} is out of bounds; give 1s to {LONGEST_WINDOW.days}d"
        )
    return window
