"""Pauses between tries: they grow to a bound, and end at a deadline."""

from __future__ import annotations

import time
from itertools import islice

import pytest

from pipeline.backoff import Rarely, grow_pauses


def test_each_pause_is_twice_the_one_before_up_to_the_longest() -> None:
    assert list(islice(grow_pauses(0.1, 1.0), 6)) == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


@pytest.mark.parametrize("left_s", [-1.0, 0.0, 0.9])
def test_no_pause_ends_after_the_deadline(left_s: float) -> None:
    assert list(grow_pauses(1.0, 1.0, time.monotonic() + left_s)) == []


def test_the_deadline_is_compared_before_each_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    slept = []
    for pause_s in grow_pauses(1.0, 4.0, until_s=110.0):
        slept.append(pause_s)
        now_s += pause_s
    assert slept == [1.0, 2.0, 4.0]


def test_a_line_is_logged_once_in_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    rarely, logged_at_s = Rarely(10.0), []
    for now_s in range(100, 121):
        monkeypatch.setattr(time, "monotonic", lambda now_s=now_s: now_s)
        if rarely.is_time():
            logged_at_s.append(now_s)
    assert logged_at_s == [100, 110, 120]
