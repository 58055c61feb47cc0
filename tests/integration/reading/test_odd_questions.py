"""Measures of what is not there, is not summed, changes, or is written oddly: a right answer, or
one line that says what to do."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from pipeline.event.model import Event
from pipeline.reading.series.reader import SeriesRequest
from pipeline.reading.sums import PropertySum
from pipeline.services import Services
from tests.conftest import MakeServices
from tests.helpers.measures.people import CLOCK, TODAY, day_before, visit
from tests.helpers.support import count_events, execute

EMOJI = "😀" * 256
YESTERDAY = day_before(1)


def sale(total: object, day: date = YESTERDAY, user_id: str | None = None) -> Event:
    return visit(day, user_id, "sale", total=total, plan="pro")


# What is not there


@pytest.mark.parametrize("command", ["sum", "percentiles", "histogram"])
@pytest.mark.parametrize(
    ("event_type", "name", "said"),
    [
        ("sale", "total", "numbers of total are not summed for sale: set ANALYTICS_SUM="),
        ("time_on_page", "second", "did you mean seconds? or set ANALYTICS_SUM="),
        ("time_on_page", "seconds", "time_on_page"),
    ],
)
def test_numbers_that_are_not_there_are_explained_in_one_line(
    services: Services, analytics: Any, command: str, event_type: str, name: str, said: str
) -> None:
    count_events(services, sale(5))

    code, out, err = analytics("stats", command, event_type, name, "--json")

    found = json.loads(out)
    assert (code, found["count"], err.count("\n")) == (0, 0, 1)
    assert said in err
    if command == "sum":
        assert (found["sum"], found["average"], found["not_numbers"]) == ("0", None, 0)
    if command == "percentiles":
        assert {found[f"p{n}"] for n in (50, 75, 90, 95, 99)} == {None}


def test_what_an_explanation_says_to_set_is_what_sums(
    services: Services, make_services: MakeServices, analytics: Any
) -> None:
    count_events(services, sale(5))
    _, _, err = analytics("stats", "sum", "sale", "total", "--date", f"{YESTERDAY}")
    setting = json.loads(err.partition("ANALYTICS_SUM='")[2].partition("'")[0])

    configured = make_services(sum=setting)
    count_events(configured, sale(7))
    assert configured.stats.sums.read_sum("sale", "total", YESTERDAY, TODAY).sum == 7
    configured.rebuild([YESTERDAY], CLOCK)
    assert configured.stats.sums.read_sum("sale", "total", YESTERDAY, TODAY).sum == 12


@pytest.mark.parametrize(
    "question",
    [
        ("users", "sale"),
        ("users", "--any"),
        ("sum", "sale", "total"),
        ("sum", "sale", "total", "--by", "day"),
        ("sum", "sale", "total", "--by-value", "plan"),
        ("percentiles", "sale", "total"),
        ("histogram", "sale", "total"),
    ],
    ids=" ".join,
)
def test_a_day_without_events_is_0_and_explained_in_one_line(
    make_services: MakeServices,
    analytics: Any,
    monkeypatch: pytest.MonkeyPatch,
    question: tuple[str, ...],
) -> None:
    settings: dict[str, Any] = {"sum": {"sale": {"total": 2}}, "count_by": {"sale": ["plan"]}}
    for name, value in settings.items():
        monkeypatch.setenv(f"ANALYTICS_{name.upper()}", json.dumps(value))
    services = make_services(**settings)
    count_events(services, sale(5, user_id="u"))
    services.flush()

    code, out, err = analytics("stats", *question, "--date", f"{day_before(9)}", "--json")

    found = json.loads(out)
    assert (code, err.count("\n")) == (0, 1), err
    assert not any(found.get(name) for name in ("users", "count", "series", "values", "bars"))


# What changes


def test_a_change_of_decimals_adds_what_was_summed_before(make_services: MakeServices) -> None:
    numbers = ["1.005", 2.25, -0.5, "0.4999"]
    expected = Decimal()
    for decimals in (2, 9, 0, 3):
        services = make_services(sum={"sale": {"total": decimals}})
        count_events(services, *map(sale, numbers))
        if decimals == 9:
            services.flush()
        for number in numbers:
            away = Decimal("0.5").scaleb(-decimals).copy_sign(Decimal(str(number)))
            kept = (Decimal(str(number)) + away).scaleb(decimals)
            expected += Decimal(int(kept)).scaleb(-decimals)

        found = services.stats.sums.read_sum("sale", "total", YESTERDAY, YESTERDAY)
        assert found.sum == expected
        sizes = services.stats.sums.read_distribution("sale", "total", YESTERDAY, YESTERDAY)
        assert sizes.count == found.count
    services.flush()
    services.archive_events()
    assert services.rebuild([YESTERDAY], CLOCK)[0].changed  # with the decimals of now
    found = services.stats.sums.read_sum("sale", "total", YESTERDAY, YESTERDAY)
    assert found == PropertySum(4 * Decimal("3.255"), 16)
    assert services.audit(YESTERDAY, YESTERDAY) == []


# What is written oddly


def test_a_user_of_256_emoji_is_one_user_in_every_measure(make_services: MakeServices) -> None:
    services = make_services(sum={"sale": {"total": 2}})
    days = day_before(3), YESTERDAY
    for day in days:
        count_events(services, visit(day, EMOJI), sale(5, day, EMOJI), sale(5, day, EMOJI + "😁"))
    services.flush()
    services.archive_events()
    for _ in range(2):
        users = services.stats.users([], *days)
        assert (users.users, users.new) == (2, 2)
        assert services.stats.users(["page_view"], YESTERDAY, YESTERDAY).returning == 1
        assert services.stats.user_counts(EMOJI)["sale"] == dict.fromkeys(days, 1)
        services.seal_users(CLOCK)
        services.seal_events(CLOCK)
    services.erase_user(EMOJI)
    assert services.stats.users([], *days).users == 2
    assert services.stats.sums.read_sum("sale", "total", *days).sum == 20
    assert execute(services, "SELECT count(*) FROM analytics_user_daily")[0][0] == 2


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", date(2026, 3, 29), 23),
        ("Europe/Berlin", date(2026, 10, 25), 25),
        ("America/New_York", date(2026, 3, 8), 23),
        ("America/New_York", date(2026, 11, 1), 25),
    ],
)
def test_a_day_on_which_clocks_change_has_its_hours_each_way(
    services: Services, zone: str, day: date, hours: int
) -> None:
    here = ZoneInfo(zone)
    begin = datetime.combine(day, datetime.min.time(), here).astimezone(UTC)
    moments = [begin + timedelta(minutes=15 * n + 7) for n in range(-4, 4 * hours + 4)]
    count_events(services, *[Event("page_view", at, None, None) for at in moments])

    for by, points, of_each in (("day", 1, 4 * hours), ("hour", hours, 4), ("quarter_hour", 4, 1)):
        [found] = services.stats.read_series(SeriesRequest("page_view", day, day, by, zone))
        assert found.count == 4 * hours
        assert len(found.points) == (points if by != "quarter_hour" else points * hours)
        assert {n for _, n in found.points} == {of_each}
        assert len({at for at, _ in found.points}) == len(found.points)
