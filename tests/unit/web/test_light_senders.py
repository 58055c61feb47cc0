"""Who sends little with a page's key, beside those who send much."""

from __future__ import annotations

import pytest

from pipeline.web.collector import light_senders
from pipeline.web.collector.light_senders import WINDOW_S, LightSenders


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(light_senders, "time", clock)
    return clock


def ask(senders: LightSenders, address: str, cost: int, times: int = 1) -> None:
    for _ in range(times):
        senders.note_request("key", address)
        senders.note_cost("key", address, cost)


def test_one_address_alone_is_not_light(clock: Clock) -> None:
    senders = LightSenders()
    ask(senders, "a", 1)

    assert not senders.is_light("key", "a")
    assert not senders.spend_reserve("key", "a", 1, 1_000)


def test_addresses_of_the_same_demand_are_not_light(clock: Clock) -> None:
    senders = LightSenders()
    for address in "abcdef":
        ask(senders, address, 10)

    assert not any(senders.is_light("key", address) for address in "abcdef")


@pytest.mark.parametrize("attackers", [1, 20, 100])
def test_an_address_of_little_demand_is_light_beside_any_number_of_others(
    clock: Clock, attackers: int
) -> None:
    senders = LightSenders()
    for number in range(attackers):
        ask(senders, f"attacker {number}", 100, times=20)
    ask(senders, "visitor", 1, times=200)

    assert senders.is_light("key", "visitor")
    assert not senders.is_light("key", "attacker 0")


def test_a_request_that_is_refused_unread_counts_as_the_last_one_did(clock: Clock) -> None:
    senders = LightSenders()
    ask(senders, "attacker", 500)
    ask(senders, "visitor", 1, times=300)
    assert not senders.is_light("key", "visitor")

    for _ in range(10):
        senders.note_request("key", "attacker")  # refused by its head

    assert senders.is_light("key", "visitor")


def test_a_new_address_that_sends_a_large_batch_is_not_light(clock: Clock) -> None:
    senders = LightSenders()
    ask(senders, "attacker", 500, times=20)
    ask(senders, "another", 200)
    ask(senders, "visitor", 20)

    assert not senders.is_light("key", "another")
    assert not senders.spend_reserve("key", "another", 200, 10_000)
    assert senders.is_light("key", "visitor")


def test_what_was_wanted_is_forgotten_after_two_windows(clock: Clock) -> None:
    senders = LightSenders()
    ask(senders, "attacker", 500)
    clock.now_s += WINDOW_S + 1
    ask(senders, "visitor", 1)
    assert senders.is_light("key", "visitor")

    clock.now_s += 2 * WINDOW_S + 1
    ask(senders, "visitor", 1)

    assert not senders.is_light("key", "visitor")


def test_an_address_that_was_never_read_is_judged_by_the_size_of_its_requests(clock: Clock) -> None:
    senders = LightSenders()
    ask(senders, "visitor", 1, times=20)
    for number in range(50):
        senders.note_request("key", f"attacker {number}", declared_bytes=40_000)

    assert senders.is_light("key", "visitor")
    assert not senders.is_light("key", "attacker 0")


def test_the_reserve_is_half_of_the_rate(clock: Clock) -> None:
    senders = LightSenders()
    ask(senders, "attacker", 10_000)

    spent = [senders.spend_reserve("key", f"visitor {n}", 10, 50) for n in range(7)]

    assert spent == [True] * 5 + [False] * 2
    assert not senders.spend_reserve("key", "attacker", 1, 100_000)
