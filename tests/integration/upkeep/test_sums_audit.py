"""The audit finds sums that are not those of the numbers in the archive."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from pipeline.reading.sums import PropertySum
from pipeline.services import Services
from pipeline.upkeep.audits.sums import SumDifference
from tests.conftest import MakeServices
from tests.helpers.support import NOW, TODAY, count_events, event, execute

YESTERDAY = TODAY - timedelta(days=1)
HOSTILE = [
    *(12.345, -3, "7.25", "x", None, True, [1], {"a": 1}, 1e300, -0.0, 0.005, -0.005, 10**19),
    *(10**18, "1e5", "", "007", " 1", "1" * 41, "\x00", 1e-300, 2**70),
]


@pytest.fixture
def services(make_services: MakeServices) -> Services:
    return make_services(sum={"sale": {"total": 2}, "other": {"x": 0}})


def sell(services: Services, *totals: object, day: int = 0) -> None:
    at = NOW - timedelta(days=day)
    sales = [event("sale", properties={"total": one}, timestamp=at) for one in totals]
    count_events(services, *sales, event("sale", properties={"\x00": 1}, timestamp=at))


def audit(services: Services) -> list[SumDifference]:
    services.archive_events()
    return services.audit_sums(YESTERDAY, TODAY)


def test_sums_that_are_right_do_not_differ_wherever_they_are(services: Services) -> None:
    """The numbers are read once by a worker, and once by Postgres."""
    sell(services, *HOSTILE)
    assert services.audit_sums(YESTERDAY, TODAY) == []  # all of it waits
    sell(services, 1, day=1)
    services.flush()
    services.archive_events()
    sell(services, 2.5, *HOSTILE)
    assert services.audit_sums(YESTERDAY, TODAY) == []
    assert audit(services) == []
    services.claims.claim("b1", 1_000, (0, 0))
    assert audit(services) == []


@pytest.mark.parametrize(
    "tamper",
    [
        "UPDATE analytics_sums SET count = count + 1 WHERE part = 'e-2'",
        "UPDATE analytics_sums SET count = count + 1 WHERE part = 'count'",
        "UPDATE analytics_sums SET count = count + 1 WHERE part = 'not_numbers'",
        "UPDATE analytics_distributions SET count = count + 1",
        "DELETE FROM analytics_distributions",
        "DELETE FROM analytics_sums WHERE part = 'e-2'",
        "UPDATE events SET properties = '{\"total\": 3}' WHERE event_type = 'sale'",
        "DELETE FROM events",
    ],
)
def test_what_was_tampered_with_is_found(services: Services, tamper: str) -> None:
    sell(services, 2.5, "x", day=1)
    services.flush()
    assert audit(services) == []

    execute(services, tamper)

    [found] = services.audit_sums(YESTERDAY, TODAY)
    assert (found.event_type, found.property, found.day) == ("sale", "total", YESTERDAY)


def test_a_difference_says_both_sides(services: Services) -> None:
    sell(services, 2.5, 4, "x")
    services.flush()
    services.archive_events()
    execute(services, "UPDATE analytics_sums SET count = count - 50 WHERE part = 'e-2'")
    [found] = services.audit_sums(TODAY, TODAY)
    assert found.counted == PropertySum(Decimal("6.00"), 2, 1)
    assert found.logged == PropertySum(Decimal("6.50"), 2, 1)
    assert found.sized == 2


def test_what_was_not_summed_from_the_first_is_no_difference(make_services: MakeServices) -> None:
    sell(make_services(sum={}), 1, 2)
    services = make_services(sum={"sale": {"total": 2}})
    sell(services, 3)
    assert audit(services) == []
    more = make_services(sum={"sale": {"total": 3}})
    sell(more, 1.125)
    assert audit(more) == []


def test_days_of_types_that_are_not_logged_are_left_out(make_services: MakeServices) -> None:
    services = make_services(sum={"sale": {"total": 2}}, event_log="none")
    sell(services, 1, 2)
    assert audit(services) == []
    services.flush()
    assert audit(services) == []
