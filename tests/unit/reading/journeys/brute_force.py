"""Journeys by trying every path: the reference, of which it can be seen that it is right."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise, permutations, product

Event = tuple[int, int, int]
"""User, moment, and a bit for each step that it is one of."""


def find_first_reached(
    events: Sequence[Event], steps: int, window: int, *, any_order: bool
) -> list[dict[int, int]]:
    """For each step the users who reached it, and when first."""
    found: list[dict[int, int]] = []
    for step in range(1, steps + 1):
        first: dict[int, int] = {}
        for user in {event[0] for event in events}:
            own = [event for event in events if event[0] == user]
            paths = list_sets(own, step) if any_order else list_paths(own, step)
            ends = [max(path) for path in paths if max(path) - min(path) <= window]
            if ends:
                first[user] = min(ends)
        found.append(first)
    return found


def list_paths(events: Sequence[Event], step: int) -> Iterator[list[int]]:
    """The moments of every choice of an event for each step, each later than the one before."""
    choices = [[at for _, at, mask in events if mask >> one & 1] for one in range(step)]
    for path in product(*choices):
        if all(earlier < later for earlier, later in pairwise(path)):
            yield list(path)


def list_sets(events: Sequence[Event], step: int) -> Iterator[list[int]]:
    """The moments of every choice of another event for each step."""
    for chosen in permutations(events, step):
        if all(mask >> one & 1 for one, (_, _, mask) in enumerate(chosen)):
            yield [at for _, at, _ in chosen]
