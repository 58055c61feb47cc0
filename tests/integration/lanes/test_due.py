"""Work that is due is asked for, however long beat has been running and however many beats there
are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from celery import Celery
from celery.beat import ScheduleEntry, Scheduler

from config.celery import celery_config
from config.schedule import TICK_S, intervals_s, tick_s
from config.settings import Settings
from pipeline.contract import ARCHIVE_EVENTS, AUDIT, FLUSH_COUNTERS, FLUSH_QUEUE, MAINTAIN, PRUNE
from pipeline.lanes.due import Due
from pipeline.lanes.lanes import LANES, Lanes
from pipeline.redis.keys import Keys
from tests.helpers.aging import move_requests

KEYS = Keys()
INTERVALS_S = intervals_s(300)
HOUR = timedelta(hours=1)


@pytest.fixture
def lanes(client: redis.Redis) -> Lanes:
    return Lanes(client, KEYS)


class Beat(Scheduler):
    """Celery's scheduler with our schedule, by the clock of the test. It asks as our tasks do; what
    is asked for runs at once."""

    producer = None
    ran: Counter[str]
    run: Callable[[str], bool]

    def apply_async(self, entry: ScheduleEntry, *_: Any, **__: Any) -> None:
        if self.run(entry.task):
            self.ran[entry.task] += 1


class Clock:
    """The time of beat and of all that is written down in Redis."""

    def __init__(self, client: redis.Redis) -> None:
        self.now = datetime.now(UTC)
        self._client = client

    def go_on(self, by: timedelta) -> None:
        self.now += by
        move_requests(self._client, KEYS, round(by.total_seconds() * 1000))


def start_beat(clock: Clock, ran: Counter[str], run: Callable[[str], bool]) -> Beat:
    class App(Celery):
        def now(self) -> datetime:
            return clock.now

    app = App("beat", set_as_current=False)
    app.conf.update(celery_config(Settings(), "redis://127.0.0.1:1/0"))
    beat = Beat(app=app, schedule=dict(app.conf.beat_schedule))
    beat.update_from_dict(app.conf.beat_schedule)
    beat.ran, beat.run = ran, run
    return beat


def tick(beat: Beat) -> None:
    while beat.tick() == 0:
        pass


def make_run(lanes: Lanes, ask: Callable[[str], int | None]) -> Callable[[str], bool]:
    """Runs a task at once where it is asked for."""

    def run(task: str) -> bool:
        number = ask(task)
        if number is None:
            return False
        under_way = lanes.begin(task, f"{task}{number}", number)
        assert under_way
        lanes.end(under_way, is_done=True)
        return True

    return run


def ask_on_time(lanes: Lanes, task: str) -> int | None:
    due = Due.on_time(INTERVALS_S[task], tick_s(INTERVALS_S[task]))
    return lanes.ask_if_due(task, FLUSH_QUEUE, due)


def live(client: redis.Redis, hours: int, run: Callable[[str], bool]) -> Counter[str]:
    """Beat is started anew every five hours; returns how often each task ran."""
    clock, ran = Clock(client), Counter[str]()
    for _ in range(hours // 5):
        beat = start_beat(clock, ran, run)
        tick(beat)  # starts its intervals
        for _ in range(5):
            clock.go_on(timedelta(seconds=TICK_S))
            tick(beat)
            clock.go_on(HOUR - timedelta(seconds=TICK_S))
    return ran


def test_a_beat_that_never_lives_long_prunes_and_audits_daily(
    lanes: Lanes, client: redis.Redis
) -> None:
    ran = live(client, 50, make_run(lanes, lambda task: ask_on_time(lanes, task)))
    assert (ran[PRUNE], ran[AUDIT]) == (2, 2)
    assert 48 <= ran[MAINTAIN] <= ran[FLUSH_COUNTERS] <= 50  # it ticks once an hour here


def test_a_tick_that_sends_would_prune_too_often(lanes: Lanes, client: redis.Redis) -> None:
    """The check above can fail."""
    ran = live(client, 10, make_run(lanes, lambda task: lanes.ask(task, FLUSH_QUEUE)))
    assert ran[PRUNE] == 10


def test_two_beats_do_no_work_twice(lanes: Lanes, client: redis.Redis) -> None:
    clock, ran = Clock(client), Counter[str]()
    run = make_run(lanes, lambda task: ask_on_time(lanes, task))
    beats = [start_beat(clock, ran, run) for _ in range(2)]
    for _ in range(1 + 400 // round(TICK_S)):
        for beat in beats:
            tick(beat)
        clock.go_on(timedelta(seconds=TICK_S))
    assert ran[FLUSH_COUNTERS] == 2
    assert ran[ARCHIVE_EVENTS] == 7


def test_of_two_who_ask_at_once_one_is_given_a_number(lanes: Lanes, client: redis.Redis) -> None:
    assert ask_on_time(lanes, PRUNE) is None  # its first day begins
    move_requests(client, KEYS, 86_400_000)
    assert ask_on_time(lanes, PRUNE)
    assert ask_on_time(lanes, PRUNE) is None  # nor does its message wait in the list yet


def test_what_goes_on_is_not_asked_for_again(lanes: Lanes, client: redis.Redis) -> None:
    ask_on_time(lanes, AUDIT)
    assert lanes.begin(AUDIT, "a")
    move_requests(client, KEYS, 86_400_000)
    assert ask_on_time(lanes, AUDIT) is None
    client.delete(KEYS.lane("maintenance"))  # it was killed
    assert ask_on_time(lanes, AUDIT)


def test_what_failed_is_due_again_soon_and_not_at_once(lanes: Lanes, client: redis.Redis) -> None:
    ask_on_time(lanes, FLUSH_COUNTERS)
    move_requests(client, KEYS, 300_000)
    run = lanes.begin(FLUSH_COUNTERS, "a")
    assert run
    lanes.end(run, is_done=False)
    assert ask_on_time(lanes, FLUSH_COUNTERS) is None
    move_requests(client, KEYS, 61_000)
    assert ask_on_time(lanes, FLUSH_COUNTERS)


def test_what_was_asked_for_by_hand_and_failed_is_due_too(
    lanes: Lanes, client: redis.Redis
) -> None:
    ask_on_time(lanes, FLUSH_COUNTERS)
    for is_done in (True, False):
        run = lanes.begin(FLUSH_COUNTERS, "a")
        assert run
        lanes.end(run, is_done=is_done)
        move_requests(client, KEYS, 61_000)
        assert bool(ask_on_time(lanes, FLUSH_COUNTERS)) != is_done


def test_what_failed_for_want_of_a_server_is_due_again_as_soon_as_it_may_be_back(
    lanes: Lanes, client: redis.Redis
) -> None:
    ask_on_time(lanes, FLUSH_COUNTERS)
    move_requests(client, KEYS, 300_000)
    for is_away, due in ((True, True), (False, False)):
        run = lanes.begin(FLUSH_COUNTERS, "a")
        assert run
        lanes.end(run, is_done=False, is_away=is_away)
        assert ask_on_time(lanes, FLUSH_COUNTERS) is None
        move_requests(client, KEYS, 11_000)
        assert bool(ask_on_time(lanes, FLUSH_COUNTERS)) == due


def test_a_flush_worker_asks_when_beat_has_not(lanes: Lanes, client: redis.Redis) -> None:
    late = Due.late(INTERVALS_S[FLUSH_COUNTERS])
    run = lanes.begin(FLUSH_COUNTERS, "a")
    assert run
    lanes.end(run, is_done=True)
    move_requests(client, KEYS, 350_000)
    assert lanes.ask_if_due(FLUSH_COUNTERS, FLUSH_QUEUE, late) is None
    move_requests(client, KEYS, 20_000)
    assert lanes.ask_if_due(FLUSH_COUNTERS, FLUSH_QUEUE, late)
    assert ask_on_time(lanes, FLUSH_COUNTERS) is None


@pytest.mark.parametrize("task", LANES)
def test_a_redis_of_the_version_before_is_read(
    lanes: Lanes, client: redis.Redis, task: str
) -> None:
    """It has the end of the last run, and how long that took, or nothing where none was."""
    if task in (AUDIT, PRUNE):
        assert ask_on_time(lanes, task) is None
        move_requests(client, KEYS, 86_400_000)
    assert ask_on_time(lanes, task) == 1
    client.delete(KEYS.requests)
    ended_ms = int(client.time()[0]) * 1000
    client.hset(KEYS.requests, f"{task}:ended_ms", ended_ms)
    client.hset(KEYS.requests, f"{task}:took_ms", 10)
    assert ask_on_time(lanes, task) is None
    move_requests(client, KEYS, round(INTERVALS_S[task] * 1000))
    assert ask_on_time(lanes, task) == 1
