"""Which users reach which step, and when: over arrays, without a loop over events. Pure.

In order, a user reaches step k by events e1 < e2 < … < ek, each strictly later than the one before,
with ek - e1 at most the window. For each event of a step it is enough to know the latest e1 of a
path that led to the step before: any other start is earlier, hence worse.

In any order, a user reaches step k when events of the steps 1 to k, each another event, lie within
one window. For a window that ends with an event this is Hall's theorem: every set of these steps
must have at least as many events there as it has steps. Steps of different event types share no
events, so only sets of steps of one type are asked about.

An event has one number for user and time, so that one sort orders all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]
Masks = NDArray[np.uint8]
_SMALL_SPAN = 1 << 16


@dataclass(frozen=True)
class Events:
    """Events of some users by column, in no order: `users` are any numbers from 0 on, `times` in
    microseconds; bit k of a mask says that the event is one of step k, from 0 on."""

    users: Numbers
    times: Numbers
    masks: Masks

    def __len__(self) -> int:
        return len(self.users)


@dataclass(frozen=True)
class Rules:
    """What is a path: the event types of the steps, the longest duration in microseconds, and
    whether the order of the steps does not matter."""

    types: Sequence[str]
    window_us: int
    any_order: bool = False


def find_first_reached(events: Events, rules: Rules) -> list[tuple[Numbers, Numbers]]:
    """For each step the users who reached it, in ascending order, and the moment at which each did
    so first."""
    steps = len(rules.types)
    if not len(events):
        empty = np.empty(0, np.int64)
        return [(empty, empty)] * steps
    begin = int(events.times.min())
    bits = max(int(events.times.max()) - begin, rules.window_us).bit_length() + 1
    found: list[list[tuple[Numbers, Numbers]]] = [[] for _ in range(steps)]
    for some, users in _split(events, 63 - bits):
        keys = (some.users << bits) | (some.times - begin)
        reach = _reach_in_any_order if rules.any_order else _reach_in_order
        for step, reached in enumerate(reach(keys, some.masks, rules, bits)):
            first = reached[_begins(reached >> bits)]
            moments = (first & ((1 << bits) - 1)) + begin
            found[step].append((users[first >> bits], moments))
    return [_join(parts) for parts in found]


def _split(events: Events, user_bits: int) -> list[tuple[Events, Numbers]]:
    """The events by users whose numbers fit, and what these stand for. A user's number is its
    position among the users; a second part is needed where a range of years has millions of
    users."""
    most, lowest = 1 << user_bits, int(events.users.min())
    span = int(events.users.max()) - lowest + 1
    if span <= min(most, max(_SMALL_SPAN, 2 * len(events))):  # as in one bucket: nothing to sort
        near = Events(events.users - lowest, events.times, events.masks)
        return [(near, np.arange(lowest, lowest + span, dtype=np.int64))]
    users, positions = np.unique(events.users, return_inverse=True)
    positions = positions.astype(np.int64)
    if len(users) <= most:
        return [(Events(positions, events.times, events.masks), users)]
    parts = []
    for low in range(0, len(users), most):
        chosen = (positions >= low) & (positions < low + most)
        part = Events(positions[chosen] - low, events.times[chosen], events.masks[chosen])
        parts.append((part, users[low : low + most]))
    return parts


def _join(parts: Sequence[tuple[Numbers, Numbers]]) -> tuple[Numbers, Numbers]:
    if len(parts) == 1:
        return parts[0]
    return np.concatenate([one[0] for one in parts]), np.concatenate([one[1] for one in parts])


def _begins(users: Numbers) -> NDArray[np.bool_]:
    """Where another user begins, among users in order."""
    begins = np.empty(len(users), np.bool_)
    begins[:1] = True
    np.not_equal(users[1:], users[:-1], out=begins[1:])
    return begins


def _reach_in_order(keys: Numbers, masks: Masks, rules: Rules, bits: int) -> list[Numbers]:
    """For each step the keys of the events by which a user reaches it, in order."""
    moment = (1 << bits) - 1
    reached = np.sort(keys[(masks & 1) != 0])
    starts = reached
    """The key of the latest start of a path to each of `reached`. They ascend as these do: what is
    later has as late a start, or a later one."""
    found = [reached]
    for step in range(1, len(rules.types)):
        wanted = np.sort(keys[(masks >> np.uint8(step) & 1) != 0])
        before = np.searchsorted(reached, wanted) - 1
        known = before >= 0
        wanted, start = wanted[known], starts[before[known]]
        # The same user, and not too long ago: keys of one user differ by their times alone.
        within = ((wanted >> bits) == (start >> bits)) & (
            (wanted & moment) - (start & moment) <= rules.window_us
        )
        reached, starts = wanted[within], start[within]
        found.append(reached)
    return found


def _reach_in_any_order(keys: Numbers, masks: Masks, rules: Rules, bits: int) -> list[Numbers]:
    """For each step the keys of the events that end a window in which it is reached, in order."""
    order = np.argsort(keys)
    keys, masks = keys[order], masks[order]
    # A window begins no earlier than its user does: their first moment is 0.
    since = np.maximum(keys - rules.window_us, keys >> bits << bits)
    lows = np.searchsorted(keys, since)
    reached = np.ones(len(keys), np.bool_)
    found = []
    for step in range(len(rules.types)):
        for chosen in _list_sets(rules.types, step):
            counts = np.zeros(len(keys) + 1, np.int64)
            np.cumsum((masks & np.uint8(sum(1 << one for one in chosen))) != 0, out=counts[1:])
            reached &= counts[1:] - counts[lows] >= len(chosen)
        found.append(keys[reached])
    return found


def _list_sets(types: Sequence[str], step: int) -> list[tuple[int, ...]]:
    """The sets of steps of one event type of which this is the last."""
    same = [one for one in range(step) if types[one] == types[step]]
    return [(*others, step) for size in range(len(same) + 1) for others in combinations(same, size)]
