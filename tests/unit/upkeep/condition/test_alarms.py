"""Each finding raises an alarm of the list, each alarm is raised by one, and what another explains
is left out."""

from __future__ import annotations

import pytest

from pipeline.upkeep.condition.alarms import ALARMS, BY_NAME, find_alarms
from pipeline.upkeep.condition.findings import Finding, explain_outage, find_faults
from tests.unit.upkeep.condition.test_findings import OUTAGES, status_of

LINES = {
    "flush was asked for 130 s ago and has not begun: r": "flush_late",
    "flush has stood still for 46 s: r": "flush_late",
    "flush has been failing for 46 s: r": "flush_late",
    "flush is 500 s behind: r": "counters_waiting",
    "flush has not been asked for, and is 611 s behind: r": "counters_waiting",
    "archive is 206 s behind: r": "archive_late",
    "maintenance has been running for 1000 s: r": "maintenance_late",
    "event log is 97% full, and what finds no room is not logged: r": "event_log_full",
}


def raise_alarms(*names: str) -> set[str]:
    return set(find_alarms(find_faults(status_of(*names))))


def test_a_silent_event_worker_alone_is_no_alarm_yet() -> None:
    without = {name for name in OUTAGES if not raise_alarms(name)}
    assert without == {"silent event worker"}  # somewhat later it is away


def test_what_is_late_is_no_alarm_while_it_is_not_known_whether_its_worker_lives() -> None:
    status = {**status_of("late"), "silence_s": {"events": 1, "flush": 16, "beat": 1}}
    assert [one.alarm for one in find_faults(status)] == [""]
    status["silence_s"]["flush"] = 15
    assert set(find_alarms(find_faults(status))) == {"counters_waiting"}


@pytest.mark.parametrize(("line", "alarm"), LINES.items())
def test_a_warning_raises_its_alarm(line: str, alarm: str) -> None:
    assert set(find_alarms(find_faults({**status_of(), "warnings": [line]}))) == {alarm}


def test_every_alarm_is_raised_by_something() -> None:
    found = {alarm for name in OUTAGES for alarm in raise_alarms(name)} | set(LINES.values())
    found |= {explain_outage(server).alarm for server in ("Redis", "The broker")}
    assert found == BY_NAME.keys()


@pytest.mark.parametrize(
    ("names", "alarms"),
    [
        (("no postgres", "late", "no partitions"), {"postgres_away"}),
        (("no flush worker", "late"), {"no_flush_worker"}),
        (("went back", "late"), {"redis_went_back"}),
        (("no event worker", "growing queue"), {"no_event_worker"}),
        (("silent beat", "late"), {"beat_silent", "counters_waiting"}),
        (("no postgres", "dead letters"), {"postgres_away", "dead_letters"}),
    ],
)
def test_what_another_alarm_explains_is_not_raised(names: tuple[str, ...], alarms: object) -> None:
    assert raise_alarms(*names) == alarms


def test_causes_are_alarms_and_explain_no_cause_of_their_own() -> None:
    for alarm in ALARMS:
        assert alarm.causes <= BY_NAME.keys()
        assert not any(alarm.name in BY_NAME[cause].causes for cause in alarm.causes)


def test_findings_of_one_alarm_are_together() -> None:
    faults = [Finding("lost", what, "Do.", "books_off") for what in ("One.", "Two.")]
    assert find_alarms(faults) == {"books_off": faults}
