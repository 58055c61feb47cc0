"""What a recount has compared: how counters differ, by kind, and which of it is judged. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from pipeline.counting.increments import OTHER
from pipeline.redis.counters import (
    BinCounter,
    Counter,
    DailyCounter,
    HourlyCounter,
    QuarterCounter,
    SumCounter,
    UserCounter,
    ValueCounter,
    ValueSumCounter,
)
from pipeline.redis.keys import Keys
from pipeline.upkeep.audits.by_counter import Changed
from pipeline.upkeep.audits.by_type import TypeCounts
from pipeline.upkeep.audits.recount_state import RecountState, name_key

WAYS = BY_COUNTER, BY_USER, BY_TYPE = "counters", "users", "types"
"""Ways of comparing a day: each counter with its events; those of users by Postgres; the counts of
types among themselves."""
SETTLED_S = 3_600.0
"""For so long after a change of settings or version workers of both may count."""
_HOURS, _QUARTERS, _USERS, _SUMS = "hours of ", "quarter hours of ", "users of ", "sums of "
"""What the kinds of counters begin with; an event type follows, or a property of one. No setting
switches on users and hours in the middle of a day."""


@dataclass
class Difference:
    """What differs of one kind: the names of its counters, and how many too many they count."""

    names: set[str] = field(default_factory=set)
    drift: int = 0

    def add(self, name: str, drift: int) -> None:
        """Add a counter."""
        self.names.add(name)
        self.drift += drift


Differences = dict[str, Difference]
"""By kind, such as "users of page_view"."""
Compared = dict[tuple[str, date], Differences]
"""By way of comparing and day."""


def group(keys: Keys, changed: Changed, is_judged: Callable[[Counter], bool]) -> Differences:
    """Counters that differ, by kind."""
    found: Differences = {}
    capped = set[str]()
    for name, (shown, right) in changed.items():
        counter = keys.parse(name)
        if not is_judged(counter):
            continue
        kind = _name_kind(counter)
        found.setdefault(kind, Difference()).add(name, shown - right)
        if isinstance(counter, ValueCounter | ValueSumCounter) and counter.value == OTHER:
            capped.add(kind)
    # Which values have found room under the cap, their events do not say.
    return {kind: one for kind, one in found.items() if one.drift or kind not in capped}


def compare_types(counts: TypeCounts, day: date, types: Collection[str] | None) -> Differences:
    """What differs on a day among the counts of these event types; of all where None."""
    found: Differences = {}
    for event_type, one in counts.found[day].items():
        if types is not None and event_type not in types:
            continue
        for kind, drift in (
            (_HOURS, one.of_day - one.of_hours),
            (_QUARTERS, one.of_quarters - one.of_hours),
        ):
            if drift:
                found.setdefault(kind + event_type, Difference()).add(event_type, drift)
    return found


def confirm(
    compared: Compared, days: Collection[date], again: Mapping[tuple[str, date], Differences]
) -> None:
    """Leave of what differs on these days what differs `again`. A day that could not be compared
    again was not compared."""
    for key in [key for key in compared if key[1] in days]:
        before = compared.pop(key)
        if key not in again:
            continue
        compared[key] = {}
        for kind, one in again[key].items():
            names = one.names & before[kind].names if kind in before else set()
            if names:
                compared[key][kind] = Difference(names, one.drift)


def excuse(state: RecountState, compared: Compared, now: datetime) -> None:
    """Note what is not judged of days that are compared for the first time, or while a change of
    settings or version comes to all workers."""
    is_settling = now.timestamp() - state.changed_s < SETTLED_S
    for (way, day), found in compared.items():
        key = name_key(way, day)
        is_past = day < now.date() - timedelta(days=1) and key not in state.excused
        excused = set(state.excused.get(key, ()))
        known = {kind for one in WAYS for kind in state.found.get(name_key(one, day), ())}
        for kind, one in found.items():
            may_lack = is_settling and not kind.startswith((_HOURS, _USERS))
            is_lack = may_lack and (one.drift <= 0 or kind.startswith(_SUMS))
            if (is_past or is_lack) and kind not in known:
                excused.add(kind)
        state.excused[key] = sorted(excused)


def judge(state: RecountState, key: tuple[str, date], found: Differences) -> dict[str, int]:
    """How many counters differ, by kind, without what is excused."""
    excused = state.excused[name_key(*key)]
    return {kind: len(one.names) for kind, one in found.items() if kind not in excused}


def _name_kind(counter: Counter) -> str:
    match counter:
        case DailyCounter() | HourlyCounter():
            return _HOURS + counter.event_type
        case QuarterCounter():
            return _QUARTERS + counter.event_type
        case UserCounter():
            return _USERS + counter.event_type
        case ValueCounter():
            return f"values of {counter.property} of {counter.event_type}"
        case SumCounter() | ValueSumCounter() | BinCounter():
            return f"{_SUMS}{counter.property} of {counter.event_type}"
    return f"gaps of {counter.event_type}"
