"""The fields of forms that ask about journeys: an event type, and conditions beside it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.contract import MAX_EVENT_TYPE_CHARACTERS
from pipeline.web.errors import InvalidParameter

MOST_CONDITION_CHARACTERS = 4_000


@dataclass(frozen=True)
class StepField:
    """A step as a form has it: its type, and its conditions where it has any."""

    event_type: str = ""
    where: str = ""

    @property
    def text(self) -> str:
        """The step as `parse_step` reads it."""
        return write_step(self.event_type, self.where)


def write_step(event_type: str, where: str = "") -> str:
    """The text of a step; a type that could be read as another one stands in quotes."""
    name = event_type.strip()
    if "[" in name or name.startswith('"'):
        escaped = name.replace("\\", "\\\\").replace('"', '\\"')
        name = f'"{escaped}"'
    return f"{name}[{where.strip()}]" if where.strip() else name


def read_step_field(query: Mapping[str, str], name: str, where: str) -> StepField:
    """The step of these two parameters. Raises `InvalidParameter` for what is too long, and for
    conditions without a type."""
    found = StepField(query.get(name, "").strip(), query.get(where, "").strip())
    if len(found.event_type) > MAX_EVENT_TYPE_CHARACTERS or "\x00" in found.event_type:
        raise InvalidParameter(name, f"give at most {MAX_EVENT_TYPE_CHARACTERS} characters")
    if len(found.where) > MOST_CONDITION_CHARACTERS or "\x00" in found.where:
        raise InvalidParameter(where, f"give at most {MOST_CONDITION_CHARACTERS} characters")
    if found.where and not found.event_type:
        raise InvalidParameter(where, f"conditions need the event type of {name}: give both")
    return found


def choose(query: Mapping[str, str], name: str, choices: Mapping[str, str], otherwise: str) -> str:
    """A parameter that has one of these values. Raises `InvalidParameter`."""
    given = query.get(name, "") or otherwise
    if given not in choices:
        raise InvalidParameter(name, f"{given[:80]!r} is not known; use {', '.join(choices)}")
    return given
