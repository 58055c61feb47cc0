"""What is shown of requests that wait, of runs, and of what falls behind."""

from __future__ import annotations

from typing import Any

import pytest
from celery import Celery

from pipeline.contract import ARCHIVE_EVENTS, FLUSH_COUNTERS, FLUSH_QUEUE
from pipeline.lanes.lanes import Lanes
from pipeline.lanes.status import find_warnings
from pipeline.metrics.reading import StateReader
from pipeline.metrics.state import make_registry
from pipeline.services import Services
from tests.helpers.support import count_events, event


def lanes_of(services: Services) -> dict[str, Any]:
    found: dict[str, Any] = services.status()["lanes"]
    return found


def test_nothing_waits_at_first(services: Services) -> None:
    assert services.status_of_lanes()["warnings"] == []
    assert {lane["waiting"] for lane in lanes_of(services).values()} == {0}
    assert {lane["running_s"] for lane in lanes_of(services).values()} == {None}


def test_requests_that_wait_are_shown_by_lane(services: Services, redis_url: str) -> None:
    with Celery(broker=redis_url) as stock:
        for task in (FLUSH_COUNTERS, FLUSH_COUNTERS, ARCHIVE_EVENTS):
            stock.send_task(task, queue=FLUSH_QUEUE)
    found = lanes_of(services)
    assert [found[lane]["waiting"] for lane in ("flush", "archive", "maintenance")] == [2, 1, 0]


def test_a_run_and_what_it_is_behind_are_shown(services: Services) -> None:
    count_events(services, event())
    services.redis.hincrby(services.keys.totals, "pending_since_s", -1_000)
    lanes = Lanes(services.redis, services.keys)
    run = lanes.begin(FLUSH_COUNTERS, "a")
    assert run
    lanes.begin(FLUSH_COUNTERS, "b")
    found = services.status_of_lanes()
    flush = found["lanes"]["flush"]
    assert flush["running_s"] is not None
    assert flush["behind_s"] >= 1_000
    assert flush["runs"] == 1
    assert [line.split(":")[0] for line in found["warnings"]] == [
        f"flush is {flush['behind_s']:.0f} s behind"
    ]
    lanes.end(run, is_done=True)
    services.flush()
    assert services.status_of_lanes()["warnings"] == []


def age(services: Services, seconds: int, *fields: str) -> None:
    """Make what is noted of flushes so much older."""
    for field in fields:
        client, requests = services.redis, services.keys.requests
        client.hincrby(requests, f"{FLUSH_COUNTERS}:{field}", -seconds * 1000)


def test_flushes_that_fail_are_shown_since_the_first_until_one_ends_well(
    services: Services,
) -> None:
    lanes = Lanes(services.redis, services.keys)
    for _ in range(2):
        run = lanes.begin(FLUSH_COUNTERS, "a")
        assert run
        lanes.end(run, is_done=False)
        age(services, 30, "tried_ms")
    assert 60 <= lanes_of(services)["flush"]["tried_s"] < 90
    [warning] = services.status_of_lanes()["warnings"]
    assert warning.startswith("flush has been failing for 6")
    run = lanes.begin(FLUSH_COUNTERS, "b")
    assert run
    assert lanes_of(services)["flush"]["tried_s"] >= 60
    lanes.end(run, is_done=True)
    assert lanes_of(services)["flush"]["tried_s"] is None


def test_a_flush_that_stores_batch_after_batch_does_not_stand_still(services: Services) -> None:
    lanes = Lanes(services.redis, services.keys)
    assert lanes.begin(FLUSH_COUNTERS, "a")
    age(services, 100, "tried_ms")
    services.redis.hincrby(services.keys.lane("flush"), "began_ms", -100_000)
    assert lanes_of(services)["flush"]["tried_s"] >= 100
    count_events(services, event())
    services.flush()
    assert lanes_of(services)["flush"]["tried_s"] < 50
    assert lanes_of(services)["flush"]["running_s"] >= 100


def test_what_fails_for_want_of_a_server_has_an_alarm_of_its_own(services: Services) -> None:
    lanes = Lanes(services.redis, services.keys)
    run = lanes.begin(FLUSH_COUNTERS, "a")
    assert run
    lanes.end(run, is_done=False, is_away=True)
    assert lanes_of(services)["flush"]["tried_s"] is None


STATUS: dict[str, Any] = {
    "waiting": 1,
    "waiting_s": 0.0,
    "asked_s": 3.0,
    "running_s": None,
    "tried_s": None,
    "runs": 0,
    "took_s": 0.0,
    "behind_s": 0,
}
UNASKED: dict[str, Any] = {"waiting": 0, "asked_s": 700.0, "behind_s": 611}
"""Beat is away: more than two intervals have passed without a request."""


@pytest.mark.parametrize(
    ("lane", "fields", "said"),
    [
        ("flush", {"behind_s": 419}, None),
        ("flush", {"behind_s": 421}, "flush is 421 s behind"),
        ("archive", {"behind_s": 206}, "archive is 206 s behind"),
        ("archive", {"waiting_s": 130.0}, "archive was asked for 130 s ago and has not begun"),
        ("archive", {"waiting_s": 130.0, "running_s": 131.0}, None),
        ("flush", UNASKED | {"behind_s": 419}, None),
        ("flush", UNASKED, "flush has not been asked for, and is 611 s behind"),
        ("flush", UNASKED | {"asked_s": None}, "flush has not been asked for, and is 611 s behind"),
        ("flush", UNASKED | {"asked_s": 300.0}, "flush is 611 s behind"),
        ("flush", UNASKED | {"asked_s": 0.0}, "flush is 611 s behind"),
        ("flush", UNASKED | {"waiting": 1}, "flush is 611 s behind"),
        ("flush", UNASKED | {"waiting": None, "waiting_s": 9.0}, "flush is 611 s behind"),
        ("flush", UNASKED | {"running_s": 5.0}, "flush is 611 s behind"),
        ("archive", UNASKED, "archive has not been asked for, and is 611 s behind"),
        ("flush", {"running_s": 100.0, "tried_s": 44.0}, None),
        ("flush", {"running_s": 50.0, "tried_s": 46.0}, "flush has stood still for 46 s"),
        ("flush", {"tried_s": 46.0}, "flush has been failing for 46 s"),
        ("archive", {"running_s": 61.0, "tried_s": 61.0}, None),
        ("maintenance", {"running_s": 1_000.0}, "maintenance has been running for 1000 s"),
    ],
)
def test_a_line_says_what_falls_behind(lane: str, fields: Any, said: str | None) -> None:
    found = find_warnings({lane: STATUS | fields}, 300)
    assert [line.split(":")[0] for line in found] == ([] if said is None else [said])
    if said is not None:
        assert ("`analytics beat`" in found[0]) == ("not been asked" in said)


def test_beat_is_missed_after_two_intervals_where_they_are_short() -> None:
    for behind_s, expected in (
        (12, []),
        (13, ["flush has not been asked for, and is 13 s behind"]),
    ):
        found = find_warnings({"flush": STATUS | UNASKED | {"behind_s": behind_s}}, 1)
        assert [line.split(":")[0] for line in found] == expected


def test_when_a_run_was_asked_for_is_shown(services: Services) -> None:
    assert lanes_of(services)["flush"]["asked_s"] is None
    Lanes(services.redis, services.keys).ask(FLUSH_COUNTERS, None)
    assert 0 <= lanes_of(services)["flush"]["asked_s"] < 60
    assert lanes_of(services)["archive"]["asked_s"] is None


def test_metrics_have_the_lanes(services: Services) -> None:
    registry = make_registry(StateReader(services).read)
    for lane in ("flush", "archive", "maintenance"):
        assert registry.get_sample_value("analytics_requests_waiting", {"lane": lane}) == 0
        assert registry.get_sample_value("analytics_run_seconds", {"lane": lane}) == 0
    assert registry.get_sample_value("analytics_behind_seconds", {"lane": "archive"}) == 0
    assert registry.get_sample_value("analytics_warnings") == 0
