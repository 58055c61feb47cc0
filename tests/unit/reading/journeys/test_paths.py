from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.reading.journeys.paths import Events, Rules, find_first_reached
from tests.unit.reading.journeys import brute_force

TYPES = st.lists(st.sampled_from("abc"), min_size=2, max_size=4)


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[str], list[brute_force.Event], int, int]:
    """Types of the steps, events with the steps they may be, a window, and what is added to users
    to make their numbers large."""
    types = draw(TYPES)
    events = []
    for _ in range(draw(st.integers(0, 9))):
        event_type = draw(st.sampled_from("abc"))
        own = sum(1 << at for at, one in enumerate(types) if one == event_type)
        mask = own & draw(st.one_of(st.just(255), st.integers(0, 255)))
        events.append((draw(st.integers(0, 2)), draw(st.integers(0, 12)), mask))
    far = draw(st.sampled_from([0, 1, 10**6, 2**40]))
    return types, events, draw(st.integers(0, 12)), far


def as_arrays(events: list[brute_force.Event], far: int) -> Events:
    columns = np.array(events, np.int64).reshape(-1, 3)
    return Events(columns[:, 0] * far + 5, columns[:, 1] - 7, columns[:, 2].astype(np.uint8))


@pytest.mark.parametrize("any_order", [False, True], ids=["in order", "in any order"])
@given(case=cases())
def test_paths_are_those_that_trying_every_path_finds(
    any_order: bool,
    case: tuple[list[str], list[brute_force.Event], int, int],
) -> None:
    types, events, window, far = case
    wanted = brute_force.find_first_reached(
        [(user * far, at, mask) for user, at, mask in events],
        len(types),
        window,
        any_order=any_order,
    )

    found = find_first_reached(as_arrays(events, far), Rules(types, window, any_order))

    assert [
        dict(zip((users - 5).tolist(), (moments + 7).tolist(), strict=True))
        for users, moments in found
    ] == wanted
    assert all((np.diff(users) > 0).all() for users, _ in found)


def test_users_too_many_for_one_key_are_taken_in_parts() -> None:
    years_us = 3 * 366 * 86_400 * 10**6
    users = np.arange(200_000, dtype=np.int64) * 7
    events = Events(
        np.concatenate([users, users]),
        np.concatenate([np.zeros(200_000, np.int64), np.full(200_000, years_us)]),
        np.repeat(np.array([1, 2], np.uint8), 200_000),
    )

    [(all_users, _), (reached, moments)] = find_first_reached(events, Rules("ab", years_us))

    assert (all_users == users).all()
    assert (reached == users).all()
    assert (moments == years_us).all()
