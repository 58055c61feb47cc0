"""What changes rows of a sealed day breaks its seal, and those of the months after it."""

from __future__ import annotations

from datetime import date

import pytest

from pipeline.postgres.sealing.seals import read_sealed
from pipeline.services import Services
from tests.helpers.measures.people import CLOCK, TODAY, day_before, track, visit
from tests.helpers.support import count_events, execute

DAY, EARLIER = day_before(2), day_before(100)


def sealed(services: Services, kind: str = "users") -> set[date]:
    with services.engine.connect() as connection:
        return read_sealed(connection, kind)  # type: ignore[arg-type]


def users(services: Services, *types: str, day: date = DAY) -> tuple[int, int]:
    found = services.stats.users(types, day, day)
    return found.users, found.new


def is_right(services: Services) -> bool:
    return services.audit_users(date.min, date.max) == []


@pytest.fixture
def lived(services: Services) -> Services:
    """Ann was seen long before, bob was not, and all that is closed is sealed."""
    track(services, (EARLIER, "ann"), (DAY, "ann"), (DAY, "bob"), (DAY, "bob", "junk"))
    services.archive_events()
    services.seal_users(CLOCK)
    assert sealed(services) == {EARLIER, DAY}
    return services


def test_a_late_event_breaks_the_seals_of_its_day_and_of_later_months(lived: Services) -> None:
    assert sealed(lived, "past")
    track(lived, (EARLIER, "bob"))
    assert sealed(lived) == {DAY}
    assert {month for month in sealed(lived, "past") if month > EARLIER} == set()
    assert users(lived) == (2, 0)
    lived.seal_users(CLOCK)
    assert users(lived) == (2, 0)
    assert is_right(lived)


def test_a_rebuild_breaks_the_seal_of_a_day_that_it_changes(lived: Services) -> None:
    execute(
        lived,
        f"DELETE FROM analytics_user_daily WHERE user_id = 'bob' AND date = '{DAY}';"
        "DELETE FROM analytics_seals",
    )
    lived.seal_users(CLOCK)
    assert users(lived) == (1, 0)
    lived.rebuild([DAY, EARLIER], CLOCK)
    assert sealed(lived) == {EARLIER}
    assert users(lived) == (2, 1)
    assert is_right(lived)


def test_a_removal_of_types_breaks_the_seals_of_their_days(lived: Services) -> None:
    lived.remove_types(["junk"], TODAY)
    assert sealed(lived) == {EARLIER}
    for _ in range(2):
        assert users(lived, "junk") == (0, 0)
        assert users(lived, "__other__") == (1, 1)
        assert users(lived) == (2, 1)
        lived.seal_users(CLOCK)
    assert is_right(lived)


def test_types_of_erased_persons_are_removed_too(lived: Services) -> None:
    lived.erase_user("bob")
    lived.seal_users(CLOCK)
    lived.remove_types(["junk"], TODAY)
    lived.seal_users(CLOCK)
    assert users(lived, "junk") == (0, 0)
    assert users(lived, "__other__") == (1, 1)
    assert is_right(lived)


def test_an_erasure_of_what_is_not_stored_yet_breaks_the_seal_of_its_day(lived: Services) -> None:
    count_events(lived, visit(DAY, "cid"))
    lived.erase_user("cid")
    assert sealed(lived) == {EARLIER}
    assert users(lived) == (3, 2)
    lived.erase_user("bob")
    lived.seal_users(CLOCK)
    assert users(lived) == (3, 2)
    assert is_right(lived)


def test_an_erasure_of_what_is_stored_leaves_every_seal(lived: Services) -> None:
    before = sealed(lived)
    lived.erase_user("bob")
    assert sealed(lived) == before
    assert users(lived) == (2, 1)
    assert is_right(lived)
