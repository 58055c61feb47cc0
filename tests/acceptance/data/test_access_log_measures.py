"""The measures of a real web server's log, by command: each equals an account of the log's own
lines."""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from math import ceil
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from pipeline.services import Services
from tests.conftest import MakeServices
from tests.helpers.processes import run_python
from tests.helpers.support import ROOT, Workers, eventually

DATA = ROOT.parent / "shared" / "data"
LOG = DATA / "access.log.gz"
COUNT_BY = {"page_view": ["status"]}
SUM = {"page_view": {"bytes": 0}}
RANGE = ("--from", "2015-05-17", "--to", "2015-05-20")

Ask = Callable[..., dict[str, Any]]


@dataclass(frozen=True)
class Line:
    user: str
    at: datetime
    path: str
    status: str
    size: int


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    file = DATA / "access.expected.json"
    if not LOG.exists() or not file.exists():
        pytest.skip(f"the real input is not here: {LOG}")
    return dict(json.loads(file.read_text()))


@pytest.fixture(scope="module")
def lines(expected: dict[str, Any]) -> list[Line]:
    return list(read_lines(expected["rejected_lines"]))


def read_lines(rejected: list[int]) -> Iterator[Line]:
    """The lines that are not broken, which are known to be well-formed."""
    with gzip.open(LOG, "rt") as log:
        for number, line in enumerate(log, start=1):
            if number not in rejected:
                at = line.partition("[")[2].partition("]")[0]
                found = re.search(r'" (\d{3}) (\d+|-) "', line)
                assert found is not None, line
                yield Line(
                    user=line.partition(" ")[0],
                    at=datetime.strptime(at, "%d/%b/%Y:%H:%M:%S %z").astimezone(UTC),
                    path=line.split('"')[1].split(" ")[1],
                    status=found[1],
                    size=int(found[2].replace("-", "0")),
                )


@pytest.fixture
def imported(
    make_services: MakeServices,
    workers: Workers,
    monkeypatch: pytest.MonkeyPatch,
    expected: dict[str, Any],
) -> Services:
    """Services to which the log was sent by `analytics import`, and counted by a worker."""
    for name, setting in (("COUNT_BY", COUNT_BY), ("SUM", SUM)):
        monkeypatch.setenv(f"ANALYTICS_{name}", json.dumps(setting))
    services = make_services(count_by=COUNT_BY, sum=SUM)
    workers.start("events", COUNT_BY=json.dumps(COUNT_BY), SUM=json.dumps(SUM))
    command = ("-m", "pipeline.cli", "import", f"{LOG}", "--format", "combined")
    done = run_python(*command, "--event", "page_view", environment=workers.environment)
    assert done.returncode == 0, done.stderr
    eventually(lambda: services.status()["books"]["counted"] == expected["events"])
    return services


@pytest.fixture
def ask(analytics: Any) -> Ask:
    """Runs `analytics stats … --json`."""

    def run(*arguments: str) -> dict[str, Any]:
        code, out, err = analytics("stats", *arguments, "--json")
        assert (code, err) == (0, ""), err
        return dict(json.loads(out))

    return run


def test_measures_of_a_log_are_those_of_its_lines_before_and_after_a_flush(
    imported: Services, ask: Ask, lines: list[Line], expected: dict[str, Any]
) -> None:
    def compare() -> None:
        compare_sums(ask, lines, expected)
        compare_zones(ask, lines, expected)

    compare()
    imported.claims.claim("open", 10**6, (0, 0))
    compare()
    imported.flush()
    compare()
    compare_visitors(ask, lines, expected)
    imported.seal_users(datetime.now(UTC))
    compare_visitors(ask, lines, expected)
    imported.archive_events()
    compare_funnel(ask, lines)
    compare_catalogue(ask, lines)


def compare_sums(ask: Ask, lines: list[Line], expected: dict[str, Any]) -> None:
    sizes = [line.size for line in lines]
    assert sum(sizes) == expected["bytes_sum"]
    found = ask("sum", "page_view", "bytes", *RANGE)
    average = found.pop("average")
    assert found == {"sum": f"{sum(sizes)}", "count": 9999, "not_numbers": 0, "as_of": None}
    assert abs(float(average) - sum(sizes) / len(sizes)) < 0.0001

    by_day, by_status = Counter[str](), Counter[str]()
    for line in lines:
        by_day[f"{line.at.date()}"] += line.size
        by_status[line.status] += line.size
    found = ask("sum", "page_view", "bytes", *RANGE, "--by", "day")
    assert {one["at"]: int(one["sum"]) for one in found["series"]} == by_day
    found = ask("sum", "page_view", "bytes", *RANGE, "--by-value", "status")
    assert {one["value"]: int(one["sum"]) for one in found["values"]} == by_status
    assert {one["value"]: one["count"] for one in found["values"]} == expected["status"]

    ordered = sorted(sizes)
    found = ask("percentiles", "page_view", "bytes", *RANGE)
    assert (found["count"], found["as_of"]) == (9999, None)
    for percent in (50, 75, 90, 95, 99):
        right = ordered[ceil(percent / 100 * len(ordered)) - 1]
        assert abs(found[f"p{percent}"] - right) <= 0.01 * right


def compare_zones(ask: Ask, lines: list[Line], expected: dict[str, Any]) -> None:
    quarters = Counter(f"{begin(line.at, 15):%Y-%m-%dT%H:%M}" for line in lines)
    assert quarters == expected["quarter_hourly"]
    for zone in ("Asia/Kolkata", "Asia/Kathmandu"):
        times = [line.at.astimezone(ZoneInfo(zone)) for line in lines]
        of_day = [at for at in times if f"{at.date()}" == "2015-05-19"]
        for by, names in (
            ("quarter_hour", [begin(at, 15).isoformat() for at in of_day]),
            ("hour", [begin(at, 60).isoformat() for at in of_day]),
            ("day", [f"{at.date()}" for at in of_day]),
        ):
            day = ("--from", "2015-05-19", "--to", "2015-05-19")
            found = ask("series", "page_view", "--by", by, "--zone", zone, *day)
            points = {point["at"]: point["count"] for point in found["series"]}
            assert {at: n for at, n in points.items() if n} == Counter(names), (zone, by)


def begin(at: datetime, minutes: int) -> datetime:
    return at.replace(minute=at.minute // minutes * minutes, second=0)


def compare_visitors(ask: Ask, lines: list[Line], expected: dict[str, Any]) -> None:
    visitors: defaultdict[date, set[str]] = defaultdict(set)
    for line in lines:
        visitors[line.at.date()].add(line.user)
    found = ask("users", "page_view", *RANGE)
    assert found.pop("as_of")
    assert found == {"users": expected["unique_visitors_total"], "new": 1753, "returning": 0}
    seen: set[str] = set()
    for day, users in sorted(visitors.items()):
        found = ask("users", "page_view", "--date", f"{day}")
        assert found["users"] == len(users) == expected["unique_visitors_daily"][f"{day}"]
        assert (found["new"], found["returning"]) == (len(users - seen), len(users & seen))
        seen |= users


def compare_funnel(ask: Ask, lines: list[Line]) -> None:
    """Who asked for one path and then, within an hour, for another; by trying every pair."""
    first, second = "/style2.css", "/favicon.ico"
    began: defaultdict[str, list[datetime]] = defaultdict(list)
    for line in lines:
        if line.path == first:
            began[line.user].append(line.at)
    went_on = {
        line.user
        for line in lines
        if line.path == second
        and any(timedelta(0) < line.at - at <= timedelta(hours=1) for at in began[line.user])
    }
    steps = [f'page_view[path="{path}"]' for path in (first, second)]
    found = ask("funnel", *steps, "--window", "1h", *RANGE)
    began = {user: times for user, times in began.items() if times}
    assert [step["users"] for step in found["steps"]] == [len(began), len(went_on)]


def compare_catalogue(ask: Ask, lines: list[Line]) -> None:
    last = max(line.at for line in lines)
    [found] = ask("types")["types"]
    assert (found["event_type"], found["count"]) == ("page_view", len(lines))
    assert datetime.fromisoformat(found["last"]) == last
    properties = {one["property"]: one for one in ask("properties", "page_view")["properties"]}
    assert properties["bytes"]["events"] == properties["path"]["events"] == len(lines)
