"""A recount finds nothing where nothing is wrong, whatever is set and whatever is under way."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from random import Random
from typing import Any

import pytest

from pipeline.counting import erased_users
from pipeline.services import Services
from pipeline.upkeep.audits.recount_state import read_recount_state, write_recount_state
from tests.conftest import MakeServices
from tests.helpers.support import count_events, execute, field_place
from tests.integration.upkeep.test_recount import (
    AT,
    COUNT_BY,
    DAY,
    SUMS,
    count_some,
    recount,
    sale,
    view,
)


def test_counting_flushing_and_archiving_meanwhile_make_no_difference(
    make_services: MakeServices,
) -> None:
    services = make_services(count_by=COUNT_BY, sum=SUMS, values_cap=5, flush_batch_size=7)
    is_over, random = threading.Event(), Random(5)

    def count() -> None:
        while not is_over.is_set():
            days = (AT, AT, AT - timedelta(days=1), AT - timedelta(days=40))
            some = [
                view(f"u{random.randrange(30)}", f"/{random.randrange(9)}", at)
                for at in random.choices(days, k=9)
            ]
            count_events(services, *some, sale())
            is_over.wait(0.01)

    def store() -> None:
        while not is_over.is_set():
            services.flush()
            services.archive_events()
            is_over.wait(0.01)

    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(count), pool.submit(store)]
        try:
            found = [recount(services) for _ in range(4)]
            services.erase_user("u1")
            services.remove_types(["sale"], AT.date())
            found += [recount(services) for _ in range(2)]
        finally:
            is_over.set()
        for one in running:
            one.result()
    assert found == [[]] * 6
    assert recount(services) == []


@pytest.mark.parametrize("log", ["none", ["sale"]])
def test_types_that_are_not_logged_are_compared_among_themselves(
    make_services: MakeServices, log: Any
) -> None:
    services = make_services(count_by=COUNT_BY, event_log=log)
    count_some(services)
    assert recount(services) == []
    services.flush()
    count_some(services)
    assert recount(services) == []
    services.redis.incrby(services.keys.daily("page_view", DAY), 2)
    assert recount(services) == [f"hours of page_view on {DAY}"]


def test_events_for_which_the_log_has_no_room_are_no_difference(
    make_services: MakeServices,
) -> None:
    services = make_services(count_by=COUNT_BY, event_log_max_entries=1)
    count_some(services)
    count_some(services)
    assert recount(services) == []


def test_an_erasure_under_way_is_no_difference(services: Services) -> None:
    count_some(services)
    erased_users.enter(services.redis, services.keys, "u1", ())
    assert recount(services) == []
    services.erase_user("u1")
    assert recount(services) == []


def test_values_counted_since_the_middle_of_a_day_are_no_difference(
    make_services: MakeServices,
) -> None:
    before = make_services()
    count_some(before)
    assert recount(before) == []
    services = make_services(count_by=COUNT_BY, sum=SUMS)
    assert recount(services) == []
    count_some(services)
    count_some(before)  # a worker that was not started again yet
    assert recount(services) == []
    state = read_recount_state(services.redis, services.keys)
    assert state is not None
    state.changed_s -= 7_200
    write_recount_state(services.redis, services.keys, state)
    tomorrow = AT.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    count_events(services, view(at=tomorrow))
    assert recount(services) == []
    name = services.keys.value("page_view", "path", "/a", f"{tomorrow:%F}")
    services.redis.hdel(*field_place(services, name))
    assert recount(services) == [f"values of path of page_view on {tomorrow:%F}"]


def test_a_raised_cap_on_values_is_no_difference(make_services: MakeServices) -> None:
    narrow = make_services(count_by=COUNT_BY, sum=SUMS, values_cap=2)
    count_events(narrow, *[view(path=f"/{n}") for n in range(5)])
    assert recount(narrow) == []
    wide = make_services(count_by=COUNT_BY, sum=SUMS, values_cap=100)
    assert recount(wide) == []
    wide.flush()
    wide.archive_events()
    assert recount(wide) == []


def test_pruned_counters_are_no_difference(make_services: MakeServices) -> None:
    services = make_services(count_by=COUNT_BY, counters_retention_days=30)
    old = AT - timedelta(days=60)
    count_events(services, view(), view(at=old))
    services.flush()
    services.archive_events()
    assert recount(services) == []
    services.prune(AT.date())
    execute(services, f"DELETE FROM analytics_user_daily WHERE date = '{old:%F}'")
    assert recount(services) == recount(services) == []


def test_the_clock_of_a_day_makes_no_difference(services: Services) -> None:
    midnight = AT.replace(hour=0, minute=0, second=0, microsecond=0)
    second = timedelta(seconds=1)
    count_events(services, *[view(at=midnight + n * second) for n in (-1, 0, 1)])
    assert recount(services) == []
