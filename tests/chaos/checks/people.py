"""How many people there must be, by what the producers wrote down: open days and sealed ones."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, date, datetime

from sqlalchemy import text

from pipeline.reading.stats import Stats
from pipeline.services import Services
from tests.chaos.checks.account import UNSTAMPED, Bounds, Key

Group = tuple[str, date]
"""An event type and a day."""


def find_wrong_users(services: Services, bounds: Bounds) -> list[str]:
    """A line for each event type and day whose distinct users are fewer or more than there may be,
    after a flush: as the rows have them, and once more when closed days are sealed. And one for
    each range whose users, or new ones, are not those of the rows."""
    least, most = _group_users(bounds.least), _group_users(bounds.most)
    wrong: list[str] = []
    with services.engine.connect() as connection:
        wanted = text("SELECT event_type, date, user_id FROM analytics_user_daily")
        rows = [tuple(row) for row in connection.execute(wanted)]
    for state in ("as rows", "when sealed"):
        for (name, day), users in sorted(most.items()):
            found = services.stats.users([name], day, day).users
            fewest = len(least.get((name, day), ()))
            if not fewest <= found <= len(users):
                allowed = f"{fewest} to {len(users)}"
                wrong.append(f"users of {name} on {day} are {found} {state}, must be {allowed}")
        wrong += [f"{line} {state}" for line in _compare_ranges(services.stats, rows)]
        services.seal_users(datetime.now(UTC))
    differing = services.audit_users(date.min, date.max)
    return wrong + [f"sealed users: {one}" for one in differing]


def _compare_ranges(stats: Stats, rows: Collection[tuple[str, date, str]]) -> Iterator[str]:
    """A line for each that differs: days and the ranges up to the last one, of types and of any."""
    days = sorted({day for _, day, _ in rows})
    ranges = [*((day, day) for day in days), *((day, days[-1]) for day in days[:-1])]
    for types in ([], *([name] for name in {name for name, _, _ in rows})):
        seen = [(day, user) for name, day, user in rows if not types or name in types]
        for first, last in ranges:
            users = {user for day, user in seen if first <= day <= last}
            right = len(users), len(users - {user for day, user in seen if day < first})
            found = stats.users(types, first, last)
            if (found.users, found.new) != right:
                what = f"users of {types or 'any type'} from {first} to {last}, and new ones,"
                yield f"{what} are {found.users}, {found.new} in place of {right}"


def _group_users(counts: Mapping[Key, int]) -> dict[Group, set[str]]:
    groups: dict[Group, set[str]] = {}
    for key, n in counts.items():
        match key:
            case ("user", user, name, day) if n and day and name != UNSTAMPED:
                groups.setdefault((name, date.fromisoformat(day)), set()).add(user)
    return groups
