"""How many counters a flush claims at a time, by what else Redis hears."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pipeline.flushing import pace
from pipeline.flushing.pace import CLAIMED_AT_ONCE, CLAIMED_AT_ONCE_IN_QUIET, Pace


class Redis:
    """Counts requests. `claim` is one of the flush, and takes 20 ms."""

    def __init__(self, others_per_s: float = 0) -> None:
        self.others_per_s = others_per_s
        self.now_s = 0.0
        self.ours = 0
        self.asked = 0
        self.others = 0.0
        self.tells = True

    def claim(self, under: Pace) -> int:
        at_once = under.at_once()
        self.ours += 1
        self.now_s += 0.02
        self.others += 0.02 * self.others_per_s
        return at_once

    def claims(self, under: Pace, times: int) -> list[int]:
        return [self.claim(under) for _ in range(times)]

    def requests(self) -> int | None:
        self.asked += 1
        return self.ours + self.asked + round(self.others) if self.tells else None


@pytest.fixture
def redis(monkeypatch: pytest.MonkeyPatch) -> Iterator[Redis]:
    one = Redis()
    monkeypatch.setattr(pace, "monotonic", lambda: one.now_s)
    return one


def test_a_flush_begins_with_small_claims(redis: Redis) -> None:
    under = Pace(redis.requests)
    assert set(redis.claims(under, 20)) == {CLAIMED_AT_ONCE}


def test_claims_are_large_while_nobody_else_is_heard(redis: Redis) -> None:
    under = Pace(redis.requests)
    assert set(redis.claims(under, 120)[20:]) == {CLAIMED_AT_ONCE_IN_QUIET}
    assert redis.asked <= 13, "looks at the traffic now and then only"


@pytest.mark.parametrize(
    ("others_per_s", "at_once"),
    [(10, CLAIMED_AT_ONCE_IN_QUIET), (40, CLAIMED_AT_ONCE), (5_000, CLAIMED_AT_ONCE)],
    ids=["idle-workers", "a-little", "much"],
)
def test_claims_are_small_while_others_are_heard(
    redis: Redis, others_per_s: float, at_once: int
) -> None:
    redis.others_per_s = others_per_s
    under = Pace(redis.requests)
    assert set(redis.claims(under, 200)[20:]) == {at_once}


def test_claims_follow_the_traffic(redis: Redis) -> None:
    under = Pace(redis.requests)
    assert redis.claims(under, 30)[-1] == CLAIMED_AT_ONCE_IN_QUIET
    redis.others_per_s = 200
    assert set(redis.claims(under, 40)[20:]) == {CLAIMED_AT_ONCE}
    redis.others_per_s = 0
    assert set(redis.claims(under, 40)[20:]) == {CLAIMED_AT_ONCE_IN_QUIET}


def test_claims_stay_small_where_redis_does_not_say(redis: Redis) -> None:
    redis.tells = False
    under = Pace(redis.requests)
    assert set(redis.claims(under, 100)) == {CLAIMED_AT_ONCE}


def test_claims_are_small_again_once_redis_says_no_more(redis: Redis) -> None:
    under = Pace(redis.requests)
    assert redis.claims(under, 30)[-1] == CLAIMED_AT_ONCE_IN_QUIET
    redis.tells = False
    assert redis.claims(under, 30)[-1] == CLAIMED_AT_ONCE
