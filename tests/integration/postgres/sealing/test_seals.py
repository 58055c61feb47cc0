"""A seal stands only while it is right, whatever is stored at the same time, and in which order."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Connection, event, text

from pipeline.flushing import store as flushing_store
from pipeline.flushing.store import FlushTransaction
from pipeline.postgres.sealing import seals
from pipeline.services import Services
from pipeline.upkeep.people import sealing
from tests.helpers.measures.people import CLOCK, TODAY, day_before, track, visit
from tests.helpers.support import count_events, eventually, execute

DAY, OTHER_DAY = day_before(2), day_before(5)
WAITS = (
    "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid IN "
    "(SELECT pid FROM pg_stat_activity WHERE datname = current_database())"
)
Run = Callable[..., Future[Any]]


@pytest.fixture
def run() -> Iterator[Run]:
    """Runs something in a thread; what it raises is raised by `result`."""
    with ThreadPoolExecutor(4) as pool:
        yield pool.submit


def sealed(services: Services) -> set[date]:
    with services.engine.connect() as connection:
        return seals.read_sealed(connection, "users")


def users(services: Services, day: date = DAY) -> int:
    return services.stats.users([], day, day).users


def is_right(services: Services) -> bool:
    return services.audit_users(date.min, date.max) == []


@contextmanager
def begun_flush(services: Services, *visits: tuple[date, str]) -> Iterator[FlushTransaction]:
    """A flush that has written all that it will and commits with the block."""
    count_events(services, *[visit(*one) for one in visits])
    with services.store.transaction() as transaction:
        batch = services.claims.claim(uuid4().hex, 1_000, transaction.newest_claim())
        transaction.save(batch, services.claims.read_buckets(batch))
        yield transaction
    services.claims.settle(batch.batch_id)


def until_something_waits(services: Services) -> None:
    """Until a statement of this database waits for a lock."""
    eventually(lambda: execute(services, WAITS)[0][0], 20, "nothing waits for a lock")


def test_a_sealing_waits_for_a_flush_that_has_not_seen_its_seal(
    services: Services, run: Run
) -> None:
    track(services, (DAY, "ann"))
    with begun_flush(services, (DAY, "bob")):
        sealing_ = run(services.seal_users, CLOCK)
        until_something_waits(services)
        assert not sealing_.done()
    assert sealing_.result(30) == [DAY]
    assert users(services) == 2
    assert is_right(services)


def test_the_test_above_would_notice_a_sealing_that_does_not_wait(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seals, "wait_for_transfers", lambda _: None)
    track(services, (DAY, "ann"))
    with begun_flush(services, (DAY, "bob")):
        assert services.seal_users(CLOCK) == [DAY]
    assert users(services) == 1
    assert not is_right(services)


@pytest.fixture
def late(services: Services, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Has a late event be stored between what a sealing reads and its end."""

    def arrange(kind: str = "day", at: date = DAY) -> None:
        name = "_write_day" if kind == "day" else "write_past"
        write = getattr(sealing, name)

        def write_and_be_late(connection: Connection, day: date) -> None:
            write(connection, day)
            monkeypatch.setattr(sealing, name, write)
            track(services, (at, "late"))

        monkeypatch.setattr(sealing, name, write_and_be_late)

    return arrange


def test_what_is_stored_while_a_day_is_sealed_leaves_it_open(
    services: Services, late: Callable[..., None]
) -> None:
    track(services, (DAY, "ann"))
    late()
    assert services.seal_users(CLOCK) == []
    assert (sealed(services), users(services)) == (set(), 2)
    assert services.seal_users(CLOCK) == [DAY]
    assert users(services) == 2
    assert is_right(services)


def test_the_test_above_would_notice_a_flush_that_deletes_no_seal(
    services: Services, late: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flushing_store, "unseal", lambda *_: None)
    track(services, (DAY, "ann"))
    late()
    assert services.seal_users(CLOCK) == [DAY]
    assert users(services) == 1
    assert not is_right(services)


def test_what_is_stored_while_the_past_is_sealed_leaves_it_open(
    services: Services, late: Callable[..., None]
) -> None:
    track(services, (day_before(70), "ann"))
    services.seal_users(CLOCK)
    execute(services, "DELETE FROM analytics_seals WHERE kind = 'past'")
    late("past", day_before(75))
    services.seal_users(CLOCK)
    with services.engine.connect() as connection:
        assert seals.read_sealed(connection, "past") == set()
    track(services, (TODAY, "late"))
    assert services.stats.users([], TODAY, TODAY).new == 0


@pytest.mark.parametrize("commits", [True, False])
def test_a_sealing_waits_at_its_seal_for_a_flush_that_has_deleted_it(
    services: Services, run: Run, monkeypatch: pytest.MonkeyPatch, commits: bool
) -> None:
    """The flush begins when the sealing has read, and ends after the sealing wants to set."""
    track(services, (DAY, "ann"))
    has_read, is_late = threading.Event(), threading.Event()
    write = sealing._write_day

    def write_slowly(connection: Connection, day: date) -> None:
        write(connection, day)
        has_read.set()
        assert is_late.wait(20)

    monkeypatch.setattr(sealing, "_write_day", write_slowly)
    sealing_ = run(services.seal_users, CLOCK)
    assert has_read.wait(20)
    with begun_flush(services, (DAY, "bob")) as flush:
        is_late.set()
        until_something_waits(services)
        if not commits:
            flush.connection.get_transaction().rollback()  # type: ignore[union-attr]
    assert sealing_.result(30) == ([] if commits else [DAY])
    assert users(services) == (2 if commits else 1)
    assert is_right(services)


def test_a_flush_deletes_a_seal_that_is_set_while_it_waits_for_it(
    services: Services, run: Run
) -> None:
    track(services, (DAY, "ann"))
    token = uuid4()
    seal = {"kind": "users", "day": DAY, "token": token}
    with services.engine.begin() as connection:
        connection.execute(seals._ENTER, {"kind": "users", "token": token, "days": [DAY]})
    with services.engine.begin() as connection:
        sealing._write_day(connection, DAY)
        connection.execute(seals._SET, seal)
        flush = run(track, services, (DAY, "bob"))
        until_something_waits(services)
    flush.result(30)
    assert sealed(services) == set()
    assert users(services) == 2


def test_of_two_sealings_the_one_that_began_last_sets_the_seal(services: Services) -> None:
    track(services, (DAY, "ann"))
    ended: list[list[date]] = []

    def overtaken(connection: Connection, day: date) -> None:
        if not ended:
            ended.append(services.seal_users(CLOCK))

    assert seals.seal(services.engine, "users", [DAY], overtaken) == []
    assert ended == [[DAY]]
    assert users(services) == 1
    assert seals.seal(services.engine, "users", [DAY], overtaken) == []
    assert is_right(services)


def test_flushes_of_the_same_closed_days_do_not_wait_for_each_other_for_ever(
    services: Services, run: Run
) -> None:
    days = [day_before(age) for age in range(1, 40)]
    for _ in range(3):
        track(services, *[(day, "ann") for day in days])
        services.seal_users(CLOCK)
        flushes = [
            run(track, services, *[(day, f"u{n}") for day in days[:: 1 - 2 * (n % 2)]])
            for n in range(4)
        ]
        for flush in flushes:
            flush.result(60)
    assert is_right(services)


def test_a_seal_that_was_never_set_is_taken_over(services: Services) -> None:
    track(services, (DAY, "ann"))

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        seals.seal(services.engine, "users", [DAY], die)
    assert sealed(services) == set()
    assert users(services) == 1
    assert services.seal_users(CLOCK) == [DAY]


def test_a_flush_of_today_says_nothing_about_seals(services: Services) -> None:
    said: list[str] = []
    event.listen(services.engine, "before_cursor_execute", lambda *args: said.append(args[2]))
    track(services, (TODAY, "ann"))
    assert [one for one in said if "seals" in one] == []
    track(services, (DAY, "ann"), (OTHER_DAY, "ann"))
    assert len([one for one in said if "seals" in one]) == 2


def test_sealing_ends_when_its_time_is_over_and_goes_on_with_the_next_run(
    services: Services,
) -> None:
    track(services, (DAY, "ann"), (OTHER_DAY, "bob"))
    assert sealing.seal_users(services.engine, CLOCK, within_s=0) == []
    assert sealing.seal_users(services.engine, CLOCK, within_s=60) == [DAY, OTHER_DAY]
    assert services.seal_users(CLOCK) == []


def test_a_day_is_closed_an_hour_after_its_end(services: Services) -> None:
    track(services, (day_before(1), "ann"), (TODAY, "ann"))
    midnight = CLOCK.replace(hour=0)
    assert services.seal_users(midnight.replace(minute=59)) == []
    assert services.seal_users(midnight.replace(hour=1)) == [day_before(1)]


def test_a_number_past_two_billions_is_one_clear_line(services: Services) -> None:
    from pipeline.errors import NumbersUsedUp

    execute(services, "ALTER TABLE analytics_user_numbers ALTER number RESTART WITH 2147483646")
    track(services, *[(DAY, f"u{n}") for n in range(2)])
    assert services.seal_users(CLOCK) == [DAY]
    assert users(services) == 2
    track(services, (DAY, "one more"), (TODAY, "u1"), (TODAY, "one more"))
    with pytest.raises(NumbersUsedUp, match=r"2,147,483,647 numbers.*counts stay exact"):
        services.seal_users(CLOCK)
    assert users(services) == 3
    assert services.stats.users([], DAY, TODAY).users == 3
    with services.engine.connect() as connection:
        assert (
            connection.execute(text("SELECT max(number) FROM analytics_user_numbers")).scalar_one()
            == 2**31 - 1
        )
