"""A count of 0 comes with the number, and with a line on standard error that says why."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pipeline.event.model import Event
from pipeline.reading.suggestions import suggest, suggest_combination
from pipeline.services import Services
from tests.conftest import MakeServices
from tests.helpers.support import count_events

NOW = datetime.now(UTC)
TODAY = f"{NOW.date()}"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def counted(make_services: MakeServices) -> Services:
    """Page views of today, whose workers count `path`: two are stored, one is not."""
    services = make_services(count_by={"page_view": ["path"]})
    properties = {"path": "/pricing", "plan": "free"}
    count_events(services, *[Event("page_view", NOW, "u1", properties)] * 2)
    count_events(services, Event("sign up", NOW - timedelta(days=3)))
    services.flush()
    services.archive_events()
    count_events(services, Event("page_view", NOW, "u2", properties))
    return services


@pytest.fixture
def run(analytics: Run, counted: Services) -> Run:
    """The command on these counts; without the settings of their workers."""
    return analytics


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("stats count page_veiw", "type page_veiw was ever counted; did you mean page_view?"),
        ("stats count Page_View", "did you mean page_view?"),
        ("stats count nothing_alike", "`analytics types` lists those that were"),
        (f"stats hourly pageview --date {TODAY}", "did you mean page_view?"),
        (f"stats series page_views --from {TODAY}", "did you mean page_view?"),
        ("stats count page_view --date 2020-02-03", f"stored are {TODAY} to {TODAY}"),
        ("stats user U1", "nothing of the user U1 was counted in these days"),
        ("stats property page_view plan free", "values of plan are not counted for page_view"),
        ("stats property page_view paths /pricing", "did you mean path? or set ANALYTICS_COUNT_BY"),
        ("stats property page_veiw path /", "did you mean page_view?; and values of path"),
        ("stats property page_view path /other", "no such value of path was counted"),
        ("stats top page_view plan", "values of plan are not counted for page_view"),
        ("stats top page_veiw user", "did you mean page_view?"),
        ("stats top nothing plan --fresh", "values of plan are not counted for nothing"),
        ("events --type page_veiw", "did you mean page_view?"),
        ("events --user U9", "no such event is archived"),
        ("types remove page_veiw --yes", "did you mean page_view?"),
        ("types restore page_veiw", "none of these types was removed"),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_what_is_not_there_is_explained_beside_the_number(
    run: Run, command: str, line: str, as_json: bool
) -> None:
    status, out, err = run(*command.split(), *(["--json"] if as_json else []))

    assert status == 0
    [said] = [one for one in err.splitlines() if one.startswith("analytics: ")]
    assert line in said
    if as_json:
        json.loads(out)
    else:
        assert out


@pytest.mark.parametrize(
    "command",
    [
        "stats count page_view",
        f"stats hourly page_view --date {TODAY}",
        "stats user u2",
        "stats property page_view path /pricing",
        "stats top page_view path",
        "events --type page_view",
    ],
)
def test_what_is_there_needs_no_word(run: Run, command: str) -> None:
    assert run(*command.split())[2] == ""


def test_the_setting_that_is_named_counts_the_property_beside_those_that_are_counted(
    run: Run, monkeypatch: pytest.MonkeyPatch, make_services: MakeServices
) -> None:
    monkeypatch.setenv("ANALYTICS_COUNT_BY", '{"page_view": ["path"], "sale": ["shop"]}')
    _, _, err = run("stats", "property", "page_view", "plan", "free")
    setting = err.partition("ANALYTICS_COUNT_BY='")[2].partition("'")[0]
    wanted = json.loads(setting)
    assert wanted == {"page_view": ["path", "plan"], "sale": ["shop"]}

    count_events(make_services(count_by=wanted), Event("page_view", NOW, None, {"plan": "free"}))
    assert run("stats", "property", "page_view", "plan", "free")[2] == ""


def test_an_export_without_events_says_why_and_leaves_its_output_clean(run: Run) -> None:
    status, out, err = run("export", "-", "--type", "page_veiw")

    assert (status, out) == (0, "")
    assert "did you mean page_view?" in err


def test_messages_that_no_worker_has_taken_are_said(
    analytics: Run, services: Services, sending: Any
) -> None:
    from pipeline import track_event

    track_event.delay("page_view")

    _, _, err = analytics("stats", "count", "page_view")

    assert "was ever counted" in err
    assert "(messages that wait for an event worker: 1)" in err


def test_a_name_is_suggested_where_it_is_alike_and_only_there() -> None:
    known = {"page_view", "sign up", "Größe"}
    assert suggest("PAGE-VIEW", known) == "did you mean page_view?"
    assert suggest("grösse", known) == "did you mean Größe?"
    assert suggest("x" * 200, known) == ""
    assert suggest("", set()) == ""


def test_properties_counted_together_in_another_order_are_suggested() -> None:
    known = ["path", "plan+country", "plan+country+path"]
    assert suggest_combination("country+plan", known) == "did you mean plan+country?"
    assert not suggest_combination("country", known)
