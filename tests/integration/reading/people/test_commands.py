"""`analytics stats users`, `active`, `retention` and `seal`, as their users run them."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest

from pipeline.services import Services
from tests.helpers.measures.people import TODAY, day_before, track, visit
from tests.helpers.support import count_events, execute

SINCE = f"{day_before(9)}"


@pytest.fixture
def lived(services: Services) -> Services:
    """Some days of some users."""
    track(services, (day_before(9), "ann"), (day_before(9), "ann", "purchase"))
    track(services, *[(day_before(2), one) for one in ("ann", "bob")])
    return services


def read(analytics: Any, *arguments: str) -> dict[str, Any]:
    code, out, err = analytics("stats", *arguments, "--json")
    assert (code, err) == (0, ""), err
    found: dict[str, Any] = json.loads(out)
    return found


def test_users_of_a_type_or_of_any(lived: Services, analytics: Any) -> None:
    found = read(analytics, "users", "page_view", "--from", f"{day_before(2)}")
    stored_at = execute(lived, "SELECT max(stored_at) FROM flush_batches")[0][0]
    assert datetime.fromisoformat(found.pop("as_of")) == stored_at
    assert found == {"users": 2, "new": 1, "returning": 1}
    found = read(analytics, "users", "--any", "--date", SINCE)
    assert (found["users"], found["new"], found["returning"]) == (1, 1, 0)


def test_users_by_day_as_json_and_csv(lived: Services, analytics: Any) -> None:
    found = read(analytics, "users", "--any", "--from", SINCE, "--by", "day")
    assert (found["users"], len(found["series"])) == (2, 10)
    assert found["series"][7] == {
        "at": f"{day_before(2)}",
        "users": 2,
        "new": 1,
        "returning": 1,
    }
    _, out, _ = analytics("stats", "users", "--any", "--from", SINCE, "--by", "day", "--csv")
    assert out.splitlines()[0] == "at,users,new,returning"
    assert out.splitlines()[8] == f"{day_before(2)},2,1,1"


def test_active_users(lived: Services, analytics: Any) -> None:
    found = read(analytics, "active", "--date", f"{day_before(2)}")
    numbers = [found[name] for name in ("dau", "wau", "mau", "stickiness")]
    assert numbers == [2, 2, 2, 1.0]
    _, out, _ = analytics("stats", "active", "--date", f"{day_before(2)}")
    assert "100.00%" in out


def test_retention(lived: Services, analytics: Any) -> None:
    days = ("--from", SINCE, "--to", f"{day_before(2)}")
    found = read(analytics, "retention", "page_view", "page_view", *days)
    assert found["cohorts"][0] == {"start": SINCE, "users": 1, "returned": [1] + [0] * 6 + [1]}
    assert [len(one["returned"]) for one in found["cohorts"]] == list(range(8, 0, -1))
    assert found["as_of"]
    _, out, _ = analytics("stats", "retention", "page_view", "page_view", *days, "--csv")
    assert out.splitlines()[8] == f"{SINCE},1,7,1"
    code, out, _ = analytics("stats", "retention", "page_view", "page_view", "--by", "month")
    assert code == 0
    assert "so many months later" in out


def test_fresh_flushes_first(lived: Services, analytics: Any) -> None:
    count_events(lived, visit(TODAY, "cid"))
    assert read(analytics, "users", "page_view", "--fresh")["users"] == 1


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("users", "pageview"), "did you mean page_view?"),
        (("users", "page_view"), "as of the last flush"),
        (("active", "--date", "2020-01-01"), "users are counted as of the last flush"),
        (("retention", "signup", "page_view"), "no event of the type signup"),
    ],
)
def test_nothing_found_is_0_and_one_line_that_says_why(
    lived: Services, analytics: Any, arguments: tuple[str, ...], reason: str
) -> None:
    code, out, err = analytics("stats", *arguments, "--json")
    assert code == 0
    assert json.loads(out)["as_of"]
    assert reason in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("stats", "users"), "name event types, or give --any"),
        (("stats", "users", "page_view", "--any"), "name event types, or give --any"),
        (("stats", "users", "--any", "--by", "year"), "year"),
        (("stats", "active", "--date", "2026-02-30"), "is not a day"),
        (("stats", "retention", "a", "b", "--from", "2020-01-01"), "at most 400 are compared"),
        (("seal", "--anew"), "--from"),
        (("seal", "--from", "2026-01-01"), "--anew"),
    ],
)
def test_what_cannot_be_asked_is_said_in_a_line(
    services: Services, analytics: Any, arguments: tuple[str, ...], reason: str
) -> None:
    code, out, err = analytics(*arguments)
    assert code in (1, 2)
    assert out == ""
    assert reason in " ".join(err.split())


def test_a_wrong_seal_is_found_and_made_anew(lived: Services, analytics: Any) -> None:
    day = f"{day_before(2)}"
    code, out, _ = analytics("seal", "--json")
    both = [SINCE, day]
    assert (code, json.loads(out)) == (0, {"sealed": both, "packed_events": both})
    assert analytics("audit", "--from", SINCE)[0] == 0
    execute(lived, f"DELETE FROM analytics_user_daily WHERE user_id = 'bob' AND date = '{day}'")
    code, out, _ = analytics("audit", "--from", SINCE, "--json")
    assert code == 1
    assert json.loads(out)["users"] == [
        {"event_type": name, "day": day, "sealed": 2, "stored": 1} for name in ("", "page_view")
    ]
    _, out, _ = analytics("audit", "--from", SINCE)
    assert f"analytics seal --anew --from {day} --to {day}" in out
    assert analytics("seal", "--anew", "--from", day, "--to", day)[:2] == (0, "Sealed 1 days.\n")
    assert analytics("audit", "--from", SINCE)[0] == 0


def test_pruned_days_are_said(lived: Services, analytics: Any) -> None:
    execute(lived, f"INSERT INTO pruned VALUES ('analytics_user_daily', '{day_before(5)}')")
    code, out, err = analytics("stats", "users", "--any", "--from", SINCE, "--json")
    assert (code, json.loads(out)["counted_from"]) == (0, f"{day_before(5)}")
    assert "were pruned (ANALYTICS_COUNTERS_RETENTION_DAYS)" in err


def test_a_type_with_brackets_in_its_name_is_no_condition(lived: Services, analytics: Any) -> None:
    track(lived, (TODAY, "ann", "a[b]"))
    found = read(analytics, "retention", '"a[b]"', "page_view", "--from", f"{TODAY}")
    assert found["cohorts"] == [{"start": f"{TODAY}", "users": 1, "returned": [0]}]
    code, _, err = analytics("stats", "retention", "a[b", "page_view")
    assert code == 2
    assert "add ] at the end" in err


@pytest.mark.parametrize(
    "arguments",
    [
        ("count", "\udcff"),
        ("users", "\udcff"),
        ("funnel", "\udcff", "b"),
        ("breakdown", "a", "\udcff"),
        ("sum", "a", "\udcff"),
        ("sum", "a", "b", "--by-value", "\udcff"),
        ("properties", "\udcff"),
        ("top", "a", "\udcff"),
    ],
)
def test_an_argument_that_is_no_utf_8_is_said_in_a_line(
    services: Services, analytics: Any, arguments: tuple[str, ...]
) -> None:
    code, out, err = analytics("stats", *arguments)
    assert (code, out) == (2, "")
    assert err == r"analytics: the argument '\udcff' is no UTF-8; write it in UTF-8" + "\n"
