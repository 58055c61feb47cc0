"""What was seen: event types with their newest event, and properties with their values."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pipeline.event.model import Event
from pipeline.services import Services
from tests.conftest import MakeServices
from tests.helpers.support import count_events, event, execute

CLOCK = datetime.now(UTC)
TODAY = CLOCK.date()


@pytest.fixture
def services(make_services: MakeServices) -> Services:
    return make_services(
        count_by={"sale": ["plan", "colour"]}, sum={"sale": {"total": 2, "tax": 2}}
    )


def archive(services: Services, *events: Any) -> None:
    count_events(services, *events)
    services.flush()
    services.archive_events()


def sale(n: int = 1, **properties: Any) -> list[Any]:
    return [Event("sale", CLOCK, None, properties) for _ in range(n)]


def test_the_newest_event_of_a_type_is_known_to_the_quarter_hour_and_once_archived_exactly(
    services: Services,
) -> None:
    times = [datetime(2025, 3, 1, 10, 7, 31, tzinfo=UTC), datetime(2025, 2, 1, tzinfo=UTC)]
    quarter = times[0].replace(minute=0, second=0)

    count_events(services, *(event(timestamp=at) for at in times))
    live = services.list_types(TODAY, 9)[0]
    services.flush()
    stored = services.list_types(TODAY, 9)[0]
    services.archive_events()
    archived = services.list_types(TODAY, 9)[0]
    count_events(services, event(timestamp=times[0] + timedelta(hours=2)))
    later = services.list_types(TODAY, 9)[0]

    assert [(one.event_type, one.total) for one in archived] == [("page_view", 2)]
    assert live[0].last == quarter
    assert stored[0].last == quarter
    assert archived[0].last == times[0]
    assert later[0].last == quarter + timedelta(hours=2)


def test_the_command_lists_types_with_their_newest(services: Services, analytics: Any) -> None:
    archive(services, *sale(3), event())

    code, out, _ = analytics("stats", "types", "--limit", "1", "--json")
    _, table, _ = analytics("stats", "types", "--csv")

    assert code == 0
    assert json.loads(out) == {
        "types": [{"event_type": "sale", "count": 3, "last": CLOCK.isoformat()}],
        "more": 1,
        "as_of": None,
    }
    assert table.splitlines()[:2] == ["event_type,count,last", f"sale,3,{CLOCK.isoformat()}"]


def test_properties_come_with_their_most_frequent_values(services: Services) -> None:
    archive(services, *sale(3, plan="pro", total=12.5), *sale(2, plan="free"), *sale(1, note=[1]))

    found = services.list_properties("sale", TODAY, 9)

    assert (found.events, found.since, found.more, found.sampled) == (6, None, 0, 6)
    assert found.as_of is not None
    assert found.values_as_of is not None
    assert [
        (one.name, one.events, one.last, one.counted, one.summed, one.values)
        for one in found.properties
    ] == [
        ("plan", 5, CLOCK, True, False, [("pro", 3), ("free", 2)]),
        ("total", 3, CLOCK, False, True, [("12.5", 3)]),
        ("note", 1, CLOCK, False, False, [("[1]", 1)]),
        ("colour", None, None, True, False, []),
        ("tax", None, None, False, True, []),
    ]


def test_the_command_lists_properties(services: Services, analytics: Any) -> None:
    count_events(
        services, *sale(2, plan="=1+1", total=12.5), *sale(1, plan="=1+1", total=12.5, x=None)
    )

    code, out, _ = analytics("stats", "properties", "sale", "--fresh", "--json", "--limit", "2")
    _, rows, _ = analytics("stats", "properties", "sale", "--csv")
    _, table, _ = analytics("stats", "properties", "sale")

    found = json.loads(out)
    assert code == 0
    assert (found["events"], found["since"], found["more"]) == (3, None, 1)
    assert found["properties"][0] == {
        "property": "plan",
        "events": 3,
        "last": CLOCK.isoformat(),
        "counted": True,
        "summed": False,
        "values": [{"value": "=1+1", "count": 3}],
        "sampled": False,
    }
    assert found["properties"][1]["values"] == [{"value": "12.5", "count": 3}]
    assert rows.splitlines() == [
        "property,events,last,counted,summed,value,count,sampled",
        f"plan,3,{CLOCK.isoformat()},True,False,'=1+1,3,False",
        f"total,3,{CLOCK.isoformat()},False,True,12.5,3,True",
        f"x,1,{CLOCK.isoformat()},False,False,,,True",
    ]
    assert "12.5 (~3)" in table
    assert "sale, 3 events archived" in table


def test_an_empty_answer_says_why(services: Services, analytics: Any) -> None:
    code, out, err = analytics("stats", "types", "--json")
    assert (code, json.loads(out)["types"], err) == (
        0,
        [],
        "analytics: no event was ever counted\n",
    )

    archive(services, event("page_view"))
    code, out, err = analytics("stats", "properties", "page_veiw", "--json")
    assert (code, json.loads(out)["properties"]) == (0, [])
    assert "did you mean page_view?" in err

    code, out, err = analytics("stats", "properties", "page_view")
    assert "no archived page_view had properties" in err
    assert err.count("\n") == 1


def test_what_was_archived_before_the_catalogue_is_said_to_be_left_out(
    services: Services, analytics: Any
) -> None:
    archive(services, *sale(2, plan="pro"))
    execute(services, "UPDATE analytics_event_types SET since = '2026-01-31 10:00Z'")

    _, out, _ = analytics("stats", "properties", "sale")

    assert "Events archived before 2026-01-31 10:00 UTC are left out." in out
