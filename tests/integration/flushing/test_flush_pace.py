"""A flush holds Redis for longer at a time while nobody else uses it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event as Flag
from threading import Thread

import redis

from pipeline.flushing.claims import Claim, Claims
from pipeline.flushing.flush import flush
from pipeline.flushing.pace import CLAIMED_AT_ONCE, CLAIMED_AT_ONCE_IN_QUIET, requests_read
from pipeline.services import Services
from tests.helpers.support import count_users, stored_total

USERS = 60_000


class NotingClaims(Claims):
    """Notes how much each claim might take."""

    def __init__(self, original: Claims) -> None:
        super().__init__(original.client, original.keys)
        self.limits: list[int] = []

    def claim(
        self, batch_id: str, limit: int, newest_stored: tuple[int, int], part: int = 1
    ) -> Claim:
        if batch_id:  # else a guard, which takes nothing
            self.limits.append(limit)
        return super().claim(batch_id, limit, newest_stored, part)


def limits_of_a_flush(services: Services) -> list[int]:
    """Flush many counters; returns how much each claim might take."""
    count_users(services, USERS)
    claims = NotingClaims(services.claims)
    assert flush(claims, services.store, batch_size=10_000) == USERS + 2
    assert stored_total(services) == USERS
    return claims.limits


@contextmanager
def traffic(client: redis.Redis) -> Iterator[None]:
    """Requests, one after the other."""
    ended = Flag()

    def ask() -> None:
        while not ended.wait(0.001):
            client.ping()

    thread = Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def test_redis_tells_how_many_requests_it_has_read(services: Services) -> None:
    before = requests_read(services.redis)
    for _ in range(5):
        services.redis.ping()
    after = requests_read(services.redis)
    assert before is not None
    assert after is not None
    assert after - before >= 6


def test_claims_are_large_while_nobody_else_uses_redis(services: Services) -> None:
    limits = limits_of_a_flush(services)
    assert limits[:10] == [CLAIMED_AT_ONCE] * 10
    assert CLAIMED_AT_ONCE_IN_QUIET in limits


def test_claims_stay_small_beside_traffic(services: Services) -> None:
    with traffic(services.redis):
        limits = limits_of_a_flush(services)
    assert set(limits) == {CLAIMED_AT_ONCE}
