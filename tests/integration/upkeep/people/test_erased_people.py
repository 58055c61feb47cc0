"""Erasing a person changes no measure of users, sealed or not, and no name stays."""

from __future__ import annotations

from datetime import date

import pytest

from pipeline.days import list_days
from pipeline.event.pseudonyms import pseudonym
from pipeline.services import Services
from tests.conftest import MakeServices
from tests.helpers.measures.people import CLOCK, TODAY, day_before, track, visit
from tests.helpers.support import count_events, execute

ANN = "ann"
FIRST = day_before(70)
SECRET = "s" * 32


def measure(services: Services) -> object:
    """Every measure of users there is."""
    stats = services.stats
    active = stats.active_users(TODAY)
    retained = stats.retention("page_view", "page_view", "day", day_before(3), TODAY)
    return (
        [
            (at, one.users, one.new)
            for types in ((), ("page_view",), ("page_view", "purchase"))
            for by in ("day", "month")
            for at, one in stats.users_by(types, FIRST, TODAY, by).points  # type: ignore[arg-type]
        ],
        [stats.users([], day, TODAY).new for day in list_days(day_before(4), TODAY)],
        (active.dau, active.wau, active.mau),
        [(one.users, list(one.returned)) for one in retained.cohorts],
    )


@pytest.fixture(params=["open", "sealed", "sealed in part"])
def lived(services: Services, request: pytest.FixtureRequest) -> Services:
    """Ann and others, on closed days and today, stored and in Redis."""
    track(services, *[(day, one) for day in (FIRST, day_before(3)) for one in (ANN, "bob")])
    if request.param != "open":
        services.seal_users(CLOCK)
    track(services, (day_before(3), ANN, "purchase"), (TODAY, ANN), (TODAY, "cid"))
    if request.param == "sealed":
        services.seal_users(CLOCK)
    return services


def test_no_measure_changes_and_no_name_stays(lived: Services) -> None:
    before = measure(lived)
    lived.erase_user(ANN)
    assert measure(lived) == before
    assert (ANN,) not in execute(lived, "SELECT user_id FROM analytics_user_numbers")
    assert lived.audit_users(date.min, date.max) == []
    lived.seal_users(CLOCK)
    assert measure(lived) == before
    lived.erase_user(ANN)
    assert measure(lived) == before
    assert lived.audit_users(date.min, date.max) == []


def test_what_was_counted_and_not_flushed_is_counted_too(lived: Services) -> None:
    """In Redis, on a sealed day and on others: all that a flush would have stored."""
    unflushed = [(day_before(3), ANN, "signup"), (day_before(1), ANN), (FIRST, ANN)]
    count_events(lived, *[visit(*one) for one in unflushed])
    lived.seal_users(CLOCK)
    lived.claims.claim("left", 1_000, (0, 0))  # by a flush that died
    count_events(lived, visit(TODAY, ANN, "purchase"))
    lived.erase_user(ANN)
    after = measure(lived)
    lived.flush()
    lived.seal_users(CLOCK)
    assert measure(lived) == after
    assert lived.stats.users(["signup"], day_before(3), TODAY).users == 1
    assert lived.stats.users(["purchase"], TODAY, TODAY).users == 1
    assert lived.stats.users([], day_before(1), day_before(1)).users == 1
    assert lived.audit_users(date.min, date.max) == []


def test_one_who_comes_back_is_another_person(services: Services) -> None:
    track(services, (day_before(3), ANN), (TODAY, ANN))
    services.erase_user(ANN)
    services.redis.delete(services.keys.forgotten)
    services.redis.hincrby(services.keys.totals, "forgotten_version", 1)
    track(services, (TODAY, ANN))
    found = services.stats.users([], TODAY, TODAY)
    assert (found.users, found.new) == (2, 1)
    services.erase_user(ANN)
    found = services.stats.users([], TODAY, TODAY)
    assert (found.users, found.new) == (2, 1)


def test_all_forms_of_an_id_are_erased_and_go_on_counting(make_services: MakeServices) -> None:
    services = make_services(user_id_secret=SECRET)
    forms = (ANN, pseudonym(SECRET, ANN))
    track(services, *[(day, one) for day in (day_before(2), TODAY) for one in forms])
    services.seal_users(CLOCK)
    before = measure(services)
    services.erase_user(ANN)
    assert measure(services) == before
    assert execute(services, "SELECT * FROM analytics_user_numbers") == []
    assert execute(services, "SELECT * FROM analytics_user_daily") == []


def test_a_rebuild_leaves_those_who_were_erased(services: Services) -> None:
    track(services, (day_before(2), ANN), (day_before(2), "bob"))
    services.archive_events()
    services.erase_user(ANN)
    before = measure(services)
    execute(services, "DELETE FROM analytics_user_daily; DELETE FROM analytics_seals")
    services.rebuild([day_before(2)], CLOCK)
    assert measure(services) == before
