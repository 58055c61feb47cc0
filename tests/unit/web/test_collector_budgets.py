"""Shares of memory and of unproven bytes."""

from __future__ import annotations

import random
import time

import pytest

from pipeline.access.access_key import AccessKey, create_key
from pipeline.web.collector import budgets
from pipeline.web.collector.budgets import HeldMemory, Memory, UnprovenBytes
from pipeline.web.errors import TooManyRequests, Unavailable

LIMIT = 64 * 2**20
LARGE = 500_000


def key(*origins: str) -> AccessKey:
    return create_key("write", "tests", origins, may_forget=False)[0]


def fill(memory: Memory, of: AccessKey | None, addresses: int, size: int = LARGE) -> int:
    """Bytes that requests from so many addresses, one after the other, can take at most."""
    held = 0
    for number in range(10 * LIMIT // size):
        try:
            memory.hold(of, f"address {number % addresses}").take(size)
        except Unavailable:
            continue
        held += size
    return held


@pytest.mark.parametrize(
    ("of", "addresses", "part"),
    [
        (None, 1, 1 / 60),
        (None, 1_000, 1 / 8),
        (key("*"), 1, 1 / 60),
        (key("*"), 1_000, 1 / 4),
        (key(), 1, 1 / 2),
        (key(), 1_000, 1 / 2),
    ],
)
def test_large_requests_take_a_share_of_the_memory(
    of: AccessKey | None, addresses: int, part: float
) -> None:
    held = fill(Memory(LIMIT), of, addresses)
    assert part * LIMIT - LARGE <= held <= part * LIMIT + 3 * LARGE


def test_a_usual_request_fits_whatever_large_ones_of_its_address_and_key_hold() -> None:
    for of in (None, key("*"), key()):
        memory = Memory(LIMIT)
        fill(memory, of, 1)
        memory.hold(of, "address 0").take(4_000)


@pytest.mark.parametrize("of", [None, key("*"), key()])
def test_a_body_is_refused_by_its_head_when_its_share_has_no_room(of: AccessKey | None) -> None:
    memory = Memory(LIMIT)
    memory.hold(of, "address").check(LARGE)
    fill(memory, of, 1_000)
    held = memory.hold(of, "address")
    with pytest.raises(Unavailable):
        held.check(LARGE)
    held.check(4_000)


def test_servers_have_room_whatever_pages_and_strangers_hold() -> None:
    memory = Memory(LIMIT)
    for size in (LARGE, 4_000):
        fill(memory, None, 1_000, size)
        for _ in range(10):
            fill(memory, key("*"), 1_000, size)
    assert fill(memory, key(), 1) >= LIMIT / 4 - LARGE


def test_what_was_given_back_can_be_taken_again() -> None:
    memory, keys = Memory(LIMIT), [None, key("*"), key("*"), key()]
    rng, holding = random.Random(1), list[HeldMemory]()
    for _ in range(5_000):
        held = memory.hold(rng.choice(keys), f"address {rng.randrange(5)}")
        holding.append(held)
        try:
            for _ in range(rng.randrange(4)):
                held.take(rng.randrange(200_000))
            if rng.random() < 0.3:
                held.move_to(memory.hold(rng.choice(keys), "another"))
        except Unavailable:
            pass
        if len(holding) > 100 or rng.random() < 0.5:
            holding.pop(rng.randrange(len(holding))).release()
    for held in holding:
        held.release()
    assert fill(memory, key(), 1) >= LIMIT / 2 - LARGE
    assert fill(Memory(LIMIT), None, 1_000) == fill(memory_after(memory), None, 1_000)


def memory_after(memory: Memory) -> Memory:
    """The memory, with what `fill` took for a server's key given back."""
    budget = memory._of_servers
    for name, size in list(budget._shared.items()):
        budget.give_back_share(name, size)
        budget.give_back(LIMIT - budget._left)
    assert not memory._of_pages._shared
    assert not memory._of_unknown._shared
    return memory


# Unproven bytes


def test_an_address_that_proves_nothing_is_refused_and_others_are_not() -> None:
    unproven = UnprovenBytes()
    for _ in range(3):
        unproven.check("192.0.2.1")
        unproven.add("192.0.2.1", LARGE)
    with pytest.raises(TooManyRequests) as refused:
        unproven.check("192.0.2.1")
    assert 1 <= int(refused.value.headers["Retry-After"]) <= 10
    unproven.check("192.0.2.2")


def test_what_was_proven_is_given_back() -> None:
    unproven = UnprovenBytes()
    for _ in range(100):
        unproven.check("192.0.2.1")
        unproven.add("192.0.2.1", LARGE)
        unproven.add("192.0.2.1", -LARGE)


def test_an_address_may_go_on_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    unproven = UnprovenBytes()
    unproven.add("192.0.2.1", 4 * LARGE)
    with pytest.raises(TooManyRequests):
        unproven.check("192.0.2.1")
    later_s = time.monotonic() + 20
    monkeypatch.setattr(budgets.time, "monotonic", lambda: later_s)
    unproven.check("192.0.2.1")


def test_networks_of_one_owner_share_a_budget() -> None:
    unproven = UnprovenBytes()
    for number in range(12):
        unproven.add(f"2001:db8:1:{number:x}::/64", LARGE)
    with pytest.raises(TooManyRequests):
        unproven.check("2001:db8:1:ffff::/64")
    unproven.check("2001:db8:2:1::/64")


def test_all_addresses_together_have_a_budget_and_few_are_remembered() -> None:
    unproven = UnprovenBytes()
    for number in range(50_000):
        unproven.add(f"address {number}", LARGE)
    with pytest.raises(TooManyRequests):
        unproven.check("another address")
    assert len(unproven._of_address._had) <= 10_000
