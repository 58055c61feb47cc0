"""How many people there must be, by what the producers wrote down: open days and sealed ones."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime

from pipeline.services import Services
from tests.chaos.checks.account import UNSTAMPED, Bounds, Key

Group = tuple[str, date]
"""An event type and a day."""


def find_wrong_users(services: Services, bounds: Bounds) -> list[str]:
    """A line for each event type and day whose distinct users are fewer or more than there may be,
    after a flush: as the rows have them, and once more when closed days are sealed."""
    least, most = _group_users(bounds.least), _group_users(bounds.most)
    wrong: list[str] = []
    for state in ("as rows", "when sealed"):
        for (name, day), users in sorted(most.items()):
            found = services.stats.users([name], day, day).users
            fewest = len(least.get((name, day), ()))
            if not fewest <= found <= len(users):
                allowed = f"{fewest} to {len(users)}"
                wrong.append(f"users of {name} on {day} are {found} {state}, must be {allowed}")
        services.seal_users(datetime.now(UTC))
    differing = services.audit_users(date.min, date.max)
    return wrong + [f"sealed users: {one}" for one in differing]


def _group_users(counts: Mapping[Key, int]) -> dict[Group, set[str]]:
    groups: dict[Group, set[str]] = {}
    for key, n in counts.items():
        match key:
            case ("user", user, name, day) if n and day and name != UNSTAMPED:
                groups.setdefault((name, date.fromisoformat(day)), set()).add(user)
    return groups
