"""The deck: what happens to which role, and when. Pure: the same seed gives the same deck."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from random import Random

_WEIGHTS = {"events": 10, "producer": 3, "flush": 3, "redis": 3, "postgres": 3, "beat": 1}
"""How the kills are shared out between the roles."""
_STOPS = 0.3
_RESTARTS = 0.15
_POINT_STOPS = 0.2
"""Of the kills and of the points, how many more cards are stops, restarts and stops at a point."""
_LONGEST_STOP_S = 1.7
"""In visibility timeouts: a process that sleeps longer finds its messages given to others."""


@dataclass(frozen=True)
class Card:
    """One thing to do to one process of a role.

    `action` is "kill", "stop" (for `lasts_s`) or "restart" (as SIGTERM does); `point` the place at
    which the process does it to itself, after having passed it `passes` times, or None for `at_s`,
    seconds from the start, itself.
    """

    role: str
    action: str
    at_s: float
    point: str | None = None
    passes: int = 0
    lasts_s: float = 0


def deal(
    kills: int,
    seconds: float,
    visibility_timeout_s: float,
    points: Mapping[str, Sequence[str]],
    random: Random,
) -> list[Card]:
    """Cards with `kills` kills, spread over `seconds`, in the order of their time.

    Half of the kills of a role fall on its crash points, and each point comes at least once as soon
    as the role has that many kills.
    """
    deck: list[Card] = []
    for role, count in _shares(kills, points).items():
        known = list(points.get(role, []))
        random.shuffle(known)
        at_points = min(count, max(count // 2, len(known))) if known else 0
        acts: list[tuple[str, str | None]] = [
            ("kill", point) for point in islice(cycle(known), at_points)
        ]
        acts += [("kill", None)] * (count - at_points)
        acts += [("stop", point) for point in islice(cycle(known), round(count * _POINT_STOPS))]
        acts += [("stop", None)] * round(count * _STOPS)
        acts += [("restart", None)] * round(count * _RESTARTS)
        random.shuffle(acts)
        for place, (action, point) in enumerate(acts):
            deck.append(
                Card(
                    role,
                    action,
                    at_s=seconds * (place + random.random()) / len(acts),
                    point=point,
                    passes=random.choice([0, 0, 1]) if point else 0,
                    lasts_s=random.uniform(0.1, _LONGEST_STOP_S * visibility_timeout_s),
                )
            )
    return sorted(deck, key=lambda card: card.at_s)


def _shares(kills: int, points: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Kills by role: by weight, but first of all so many that every crash point has its turn."""
    total = sum(_WEIGHTS.values())
    shares = {role: kills * weight // total for role, weight in _WEIGHTS.items()}
    needed = {role: max(share, len(points.get(role, []))) for role, share in shares.items()}
    # What rounding and points ask for is settled with the event workers, who have the most.
    left = kills - sum(needed.values()) + needed["events"]
    if left >= len(points.get("events", [])):
        return needed | {"events": left}
    return shares | {"events": kills - sum(shares.values()) + shares["events"]}
