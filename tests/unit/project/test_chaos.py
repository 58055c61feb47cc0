"""The campaign's own parts: a deck that is complete, and an oracle that sees what is wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest

from pipeline.event.scale import bounds_of
from pipeline.services import Services
from tests.chaos.cards import Card, deal
from tests.chaos.checks.account import DEAD, Account, Bounds, Log, take_in
from tests.chaos.checks.amounts import count_hundredths, find_bin, make_amount
from tests.chaos.checks.oracle import Verdict, judge, judge_whole
from tests.chaos.checks.people import find_wrong_users
from tests.chaos.points import POINTS, Fate, State
from tests.chaos.processes import control
from tests.chaos.processes.reader import Reader
from tests.helpers.support import ROOT, count_events, event

DAY = "2025-03-14"


def deck(kills: int, seed: int = 1) -> list[Card]:
    return deal(kills, seconds=30, visibility_timeout_s=2, points=POINTS, random=Random(seed))


def fields(n: int, **more: Any) -> dict[str, Any]:
    """An event of publish `n`."""
    return {
        "event_type": "a",
        "user_id": "u",
        "properties": {"publish": f"p/{n}", "amount": "12.50"},
        "timestamp": f"{DAY}T15:30:00+00:00",
        **more,
    }


def bounds(directory: Path) -> Bounds:
    account = Account(directory)
    account.read()
    return account.bounds()


KEYS = {
    "daily": ("daily", "a", DAY),
    "hourly": ("hourly", "a", f"{DAY}T15"),
    "quarter": ("quarter", "a", f"{DAY}T15:30"),
    "user": ("user", "u", "a", DAY),
    "users": ("users", "a", DAY),
    "value": ("value", "a", "p/1", DAY),
    "numbers": ("numbers", "a", f"{DAY}T15:30"),
    "sum": ("sum", "a", f"{DAY}T15:30"),
    "value_sum": ("value sum", "a", "p/1", DAY),
    "bin": ("bin", "a", DAY, f"{find_bin(1250)}"),
}


def verdict_on(found: Bounds, **counts: int) -> Verdict:
    """The verdict when the counters of publish 1 are so many."""
    verdict = Verdict()
    values = {KEYS[name]: count for name, count in counts.items()}
    judge(found, found.most, values, "a test", verdict)
    judge_whole(found, values, verdict)
    return verdict


# The deck


@pytest.mark.parametrize("kills", [20, 66, 120, 500])
def test_a_deck_holds_exactly_the_kills_asked_for(kills: int) -> None:
    assert sum(card.action == "kill" for card in deck(kills)) == kills


@pytest.mark.parametrize("seed", range(20))
def test_from_60_kills_on_every_crash_point_kills(seed: int) -> None:
    points = {card.point for card in deck(60, seed) if card.action == "kill"}
    assert points >= {point for names in POINTS.values() for point in names}


def test_20_decks_of_120_kills_are_the_long_run_that_is_asked_for() -> None:
    kills = Counter(card.role for card in deck(120) if card.action == "kill")
    assert 20 * kills["events"] >= 1_000
    for role in ("producer", "flush", "redis", "postgres"):
        assert 20 * kills[role] >= 300


def test_the_same_seed_gives_the_same_deck() -> None:
    assert deck(66, seed=7) == deck(66, seed=7) != deck(66, seed=8)


# The account


def test_what_was_accepted_must_be_counted_and_what_was_attempted_may_be(tmp_path: Path) -> None:
    log = Log(tmp_path / "p.log")
    log.attempt(1, [fields(1), fields(1)], ours=True)
    log.accepted(1)
    log.attempt(2, [fields(2)], ours=True)
    found = bounds(tmp_path)
    assert (found.least["daily", "a", DAY], found.most["daily", "a", DAY]) == (2, 3)
    assert (found.accepted_events, found.unknown_events, found.published) == (2, 1, [1, 2])


def test_events_with_one_id_are_counted_once_if_any_was_accepted(tmp_path: Path) -> None:
    log = Log(tmp_path / "p.log")
    log.attempt(1, [fields(1, event_id="e")], ours=True)
    log.attempt(2, [fields(1, event_id="e"), fields(1, event_id="f")], ours=True)
    log.accepted(2)
    found = bounds(tmp_path)
    assert (found.least["user", "u", "a", DAY], found.most["user", "u", "a", DAY]) == (2, 2)


def test_a_line_that_a_kill_has_cut_short_is_left_for_later(tmp_path: Path) -> None:
    log = Log(tmp_path / "p.log")
    log.attempt(1, [fields(1)], ours=True)
    with (tmp_path / "p.log").open("a") as file:
        file.write("[1,nu")
    account = Account(tmp_path)
    account.read()
    assert account.accepted == 0
    with (tmp_path / "p.log").open("a") as file:
        file.write("ll]\n")
    account.read()
    assert account.accepted == 1


# The oracle


@pytest.fixture
def two_accepted(tmp_path: Path) -> Bounds:
    log = Log(tmp_path / "p.log")
    log.attempt(1, [fields(1), fields(1)], ours=True)
    log.accepted(1)
    return bounds(tmp_path)


def counts(n: int, **more: int) -> dict[str, int]:
    """Every counter, when `n` events were counted, but for `more`."""
    every = dict.fromkeys(KEYS, n) | {"sum": 1250 * n, "value_sum": 1250 * n, "users": min(n, 1)}
    return every | more


def test_exact_counts_are_good(two_accepted: Bounds) -> None:
    assert verdict_on(two_accepted, **counts(2)).good


def test_an_event_lost_is_found(two_accepted: Bounds) -> None:
    verdict = verdict_on(two_accepted, **counts(1))
    assert (verdict.lost, verdict.doubled, verdict.good) == (1, 0, False)


def test_a_counter_that_is_not_there_is_found(two_accepted: Bounds) -> None:
    for name in KEYS:
        found = {other: n for other, n in counts(2).items() if other != name}
        assert verdict_on(two_accepted, **found).lost == (2 if counts(2)[name] == 2 else 1)


def test_an_event_counted_twice_is_found_in_whichever_counter(two_accepted: Bounds) -> None:
    for name, n in counts(2).items():
        verdict = verdict_on(two_accepted, **counts(2, **{name: n + 1}))
        assert (verdict.lost, verdict.doubled, verdict.good) == (0, 1, False)


def test_a_hundredth_too_little_in_a_sum_is_found(two_accepted: Bounds) -> None:
    for name in ("sum", "value_sum"):
        verdict = verdict_on(two_accepted, **counts(2, **{name: 2499}))
        assert (verdict.lost, verdict.doubled, verdict.good) == (1, 0, False)


def test_a_publish_that_is_unknown_is_counted_whole_or_not_at_all(tmp_path: Path) -> None:
    Log(tmp_path / "p.log").attempt(1, [fields(1), fields(1)], ours=True)
    found = bounds(tmp_path)
    for count in (0, 2):
        assert verdict_on(found, **counts(count)).good
    assert not verdict_on(found, **counts(1)).good
    verdict = verdict_on(found, **counts(2, value_sum=1250))
    assert verdict.wrong == ["of the value sum of p/1, 2500, 1250 was counted"]


def test_what_is_to_be_a_dead_letter_is_no_event(tmp_path: Path) -> None:
    log = Log(tmp_path / "p.log")
    log.attempt(1, [{DEAD: "<p/1>"}], ours=False)
    log.accepted(1)
    found = bounds(tmp_path)
    assert dict(found.least) == {(DEAD, "<p/1>"): 1}
    assert found.accepted_events == 0


def test_amounts_come_to_what_they_say() -> None:
    for amount, hundredths in ((12.5, 1250), ("12.50", 1250), (7, 700), (0.01, 1), (True, None)):
        assert count_hundredths(amount) == hundredths
    assert [count_hundredths(none) for none in ("n/a", None)] == [None, None]
    random = Random(3)
    for amount in (make_amount(random) for _ in range(2_000)):
        found = count_hundredths(amount)
        if found is not None:
            low, high = bounds_of(find_bin(found))
            assert low <= found / 100 < high


def test_a_user_is_distinct_once_a_type_and_day() -> None:
    taken: Counter[Any] = Counter()
    for user in ("u", "v", "u"):
        take_in(taken, fields(1, user_id=user))
    take_in(taken, fields(1, user_id="u", event_type="b"))
    assert (taken["users", "a", DAY], taken["users", "b", DAY]) == (2, 1)


# A point


def test_a_process_acts_once_at_its_point_after_passing_it(tmp_path: Path) -> None:
    campaign, process = Fate(tmp_path / "fate"), Fate(tmp_path / "fate")
    campaign.arm("after apply", State.STOP, passes=1)
    assert process.reach("after apply") is State.NOTHING
    assert process.reach("before apply") is State.NOTHING
    assert not campaign.done
    assert process.reach("after apply") is State.STOP
    assert campaign.done
    assert process.reach("after apply") is State.NOTHING


def test_the_control_runs_without_our_tasks() -> None:
    """It is plain Celery, which `tasks` changes for its process."""
    code = (
        "import sys; from tests.chaos.processes.zygote import Zygote; Zygote('control'); "
        "sys.exit('tasks' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_the_reader_sees_a_sum_that_falls_or_exceeds_what_was_attempted(
    services: Services, tmp_path: Path
) -> None:
    Log(tmp_path / "p.log").attempt(1, [fields(1)], ours=True)
    reader = Reader(services, Account(tmp_path))
    for found, wrong in ((1200, 0), (1250, 0), (1249, 1), (1251, 2)):
        reader._check_counts({KEYS["sum"]: found})
        assert len(reader.seen.wrong) == wrong, reader.seen.wrong


def test_undisturbed_the_control_counts_everything(
    tmp_path: Path, redis_url: str, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would fail for another reason than what it loses."""
    monkeypatch.setenv("ANALYTICS_REDIS_URL", redis_url)
    monkeypatch.setenv("ANALYTICS_POSTGRES_URL", postgres_url)
    control._redis.cache_clear()
    control.create_table(postgres_url)
    log = Log(tmp_path / "p.log")
    for n in range(1, 5):
        event = fields(n, user_id=f"u{n % 2}", event_id=f"{n}")
        log.attempt(n, [event], ours=True)
        log.accepted(n)
        control.track(event)
        if n == 2:
            control.flush()
    found, verdict = bounds(tmp_path), Verdict()
    judge(found, found.most, control.counts(redis_url, postgres_url), "the control", verdict)
    control._redis(os.getpid()).flushdb()
    control._redis.cache_clear()
    assert verdict.good, verdict


def test_a_user_too_few_or_too_many_is_seen(services: Services) -> None:
    found = Bounds()
    found.add(fields(1), accepted=True)
    fewer = find_wrong_users(services, found)
    count_events(services, event("a", "u"), event("a", "other"))
    services.flush()
    more = find_wrong_users(services, found)
    found.add(fields(2, user_id="other"), accepted=True)
    right = find_wrong_users(services, found)

    assert fewer == [
        f"users of a on {DAY} are 0 {how}, must be 1 to 1" for how in ("as rows", "when sealed")
    ]
    assert [line.partition(",")[0] for line in more] == [
        f"users of a on {DAY} are 2 {how}" for how in ("as rows", "when sealed")
    ]
    assert right == []
