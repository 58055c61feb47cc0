"""A real web server's log, imported and counted: 9,999 page views, all numbers known before."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import func, select

from pipeline import track_events
from pipeline.cli.files.formats.combined import build_combined_parser
from pipeline.cli.files.importing import Importer, Report
from pipeline.cli.files.line_source import open_lines
from pipeline.postgres.tables import flush_batches
from pipeline.reading.series.reader import SeriesRequest
from pipeline.services import Services
from tests.acceptance.drivers.flushers import Flushers, finish
from tests.acceptance.drivers.truth import Seen, Truth, assert_reads, assert_stored
from tests.conftest import MakeServices
from tests.helpers.processes import run_python
from tests.helpers.support import ROOT, Workers, eventually

DATA = ROOT.parent / "shared" / "data"
LOG = DATA / "access.log.gz"
COUNT_BY = {"page_view": ["path"]}
EVENTS_A_MESSAGE = 700
FLUSH_EVERY_S = "0.4"
# Reading each of 5,000 counters takes its time: every n-th of them is read.
EVERY = 25


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    """What a correct import must show, found by two independent programs."""
    file = DATA / "access.expected.json"
    if not LOG.exists() or not file.exists():
        pytest.skip(f"the real input is not here: {LOG}")
    return dict(json.loads(file.read_text()))


@pytest.fixture(scope="module")
def truth(expected: dict[str, Any]) -> Truth:
    """All counts, added up here, and compared with every number that was given."""
    truth = Truth(page_views(LOG, expected["rejected_lines"]))
    assert {f"{day}": n for (_, day), n in truth.daily.items()} == expected["daily"]
    assert {f"{at:%Y-%m-%dT%H}": n for (_, at), n in truth.hourly.items()} == expected["hourly"]
    assert len(truth.users) == expected["user_day_counters"]
    assert len(truth.per_user()) == expected["unique_visitors_total"]
    assert len(truth.per_path()) == expected["distinct_paths"]
    for user, n in expected["top_visitors"]:
        assert truth.per_user()[user] == n
    for path, n in expected["top_paths"]:
        assert truth.per_path()[path] == n
    return truth


def page_views(log: Path, rejected: Sequence[int]) -> Iterator[Seen]:
    """The lines that are not broken, split without any care: they are known to be well-formed."""
    with gzip.open(log, "rt") as lines:
        for number, line in enumerate(lines, start=1):
            if number in rejected:
                continue
            at = line.partition("[")[2].partition("]")[0]
            path = line.split('"')[1].split(" ")[1]
            yield Seen(line.split(" ")[0], path, datetime.strptime(at, "%d/%b/%Y:%H:%M:%S %z"))


def import_log(workers: Workers) -> dict[str, Any]:
    """Run `analytics import` on the log; returns its report."""
    command = ("-m", "pipeline.cli", "import", str(LOG))
    options = ("--format", "combined", "--event", "page_view", "--json")
    done = run_python(*command, *options, environment=workers.environment)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def counted(services: Services) -> int:
    """How many page views workers have counted so far."""
    return int(services.redis.hget(services.keys.totals, "counted:page_view") or 0)


def flushes(services: Services) -> int:
    """How many batches the ledger holds."""
    with services.engine.connect() as connection:
        return connection.execute(select(func.count()).select_from(flush_batches)).scalar_one()


def test_the_imported_log_reads_exactly_before_during_and_after_a_flush(
    make_services: MakeServices,
    workers: Workers,
    redis_url: str,
    postgres_url: str,
    expected: dict[str, Any],
    truth: Truth,
) -> None:
    services = make_services(count_by=COUNT_BY)
    workers.start("events", COUNT_BY=json.dumps(COUNT_BY))

    report = import_log(workers)

    assert report["lines"] == expected["lines"]
    assert report["sent"] == expected["events"]
    assert report["days"] == [min(expected["daily"]), max(expected["daily"])]
    assert [row["line"] for row in report["rejected"]] == expected["rejected_lines"]
    assert report["rejected"][0]["reason"]

    eventually(lambda: counted(services) == expected["events"], what="not all was counted")
    assert_reads(services, truth, EVERY)
    assert_zones(services, expected["rejected_lines"])

    # One flush has settled three batches and stored a fourth; another has claimed three, no more.
    with Flushers(redis_url, postgres_url, 100).paused("after commit", 5) as flush:
        for n in range(3):
            assert services.claims.claim(f"not-stored-{n}", 100, (0, 0)).number
        assert services.status()["inflight_batches"] == 1 + 3
        assert services.status()["pending_counters"] > 0
        assert_reads(services, truth, EVERY)
        finish(flush)
    assert_reads(services, truth, EVERY)

    services.flush()
    assert_stored(services, truth)
    assert_reads(services, truth, EVERY)
    top = services.stats.top
    assert top("page_view", "user").top == [(v, n) for v, n in expected["top_visitors"]]
    assert top("page_view", "path").top == [(v, n) for v, n in expected["top_paths"]]
    assert_people(services, expected["rejected_lines"])
    services.seal_users(datetime.now(UTC))
    assert_people(services, expected["rejected_lines"])
    assert_zones(services, expected["rejected_lines"])


def assert_zones(services: Services, rejected: Sequence[int]) -> None:
    """Days, hours and quarter hours of zones, by an account of the lines."""
    for name in ("Asia/Kolkata", "Asia/Kathmandu", "Australia/Adelaide", "America/New_York"):
        times = [one.at.astimezone(ZoneInfo(name)) for one in page_views(LOG, rejected)]
        days = min(times).date(), max(times).date()
        names = {
            "day": [f"{at.date()}" for at in times],
            "hour": [at.replace(minute=0, second=0).isoformat() for at in times],
            "quarter_hour": [
                at.replace(minute=at.minute // 15 * 15, second=0).isoformat() for at in times
            ],
        }
        for by, expected in names.items():
            request = SeriesRequest("page_view", *days, by, name)  # type: ignore[arg-type]
            (found,) = services.stats.read_series(request)
            assert {at: n for at, n in found.points if n} == Counter(expected)


def assert_people(services: Services, rejected: Sequence[int]) -> None:
    """Visitors of each range of days, and those not seen before it, by an account of the lines."""
    visitors: dict[date, set[str]] = {}
    for one in page_views(LOG, rejected):
        visitors.setdefault(one.at.astimezone(UTC).date(), set()).add(one.user)
    days = sorted(visitors)
    assert len(days) == 4
    for at, first in enumerate(days):
        before = set[str]().union(*(visitors[day] for day in days[:at]))
        for last in days[at:]:
            of_range = set[str]().union(*(visitors[day] for day in days if first <= day <= last))
            found = services.stats.users(["page_view"], first, last)
            assert (found.users, found.new) == (len(of_range), len(of_range - before))
            assert found.returning == len(of_range & before)
    cohorts = services.stats.retention("page_view", "page_view", "day", days[0], days[-1]).cohorts
    for cohort, at in zip(cohorts, range(4), strict=True):
        later = [len(visitors[days[at]] & visitors[day]) for day in days[at:]]
        assert (cohort.users, list(cohort.returned)) == (len(visitors[days[at]]), later)


def test_a_reader_sees_no_count_fall_or_exceed_the_truth_while_flushes_run(
    make_services: MakeServices,
    workers: Workers,
    sending: None,
    expected: dict[str, Any],
    truth: Truth,
) -> None:
    services = make_services(count_by=COUNT_BY)
    workers.start("flush", ready=False)
    workers.celery("beat", "beat", "--pidfile=", FLUSH_INTERVAL_S=FLUSH_EVERY_S)
    workers.start("events", COUNT_BY=json.dumps(COUNT_BY))
    reader = Reader(services, truth, expected)

    def send(events: Sequence[dict[str, Any]]) -> None:
        for first in range(0, len(events), EVENTS_A_MESSAGE):
            some = list(events[first : first + EVENTS_A_MESSAGE])
            track_events.delay(some)
            reader.sent += len(some)
            before = flushes(services)
            eventually(lambda before=before: reader.look() and flushes(services) > before)

    report = Report()
    with open_lines(str(LOG)) as lines:
        Importer(build_combined_parser("page_view"), send, report).run(lines)
    report.close()
    eventually(lambda: reader.look() == expected["events"])

    def all_stored() -> bool:
        reader.look()
        status = services.status()
        return (status["pending_counters"], status["inflight_batches"]) == (0, 0)

    eventually(all_stored)
    assert_stored(services, truth)
    assert reader.rises >= expected["events"] // EVENTS_A_MESSAGE


class Reader:
    """Polls counts; fails when one falls, exceeds the truth or is not what has been counted."""

    def __init__(self, services: Services, truth: Truth, expected: dict[str, Any]) -> None:
        days = [day for _, day in truth.daily]
        first, last = min(days), max(days)
        stats, at = services.stats, max(truth.hourly, key=lambda key: truth.hourly[key])[1]
        user, of_user = expected["top_visitors"][0]
        path, of_path = expected["top_paths"][0]
        self._services = services
        self._total = lambda: stats.count("page_view", first, last)
        self._counts: dict[str, tuple[Callable[[], int], int]] = {
            "hour": (
                lambda: stats.hourly_counts("page_view", at.date())[at.hour],
                truth.hourly["page_view", at],
            ),
            "user": (lambda: stats.user_count(user, "page_view", first, last), of_user),
            "path": (
                lambda: stats.property_count("page_view", "path", path, first, last),
                of_path,
            ),
        }
        self._last = dict.fromkeys(self._counts, 0)
        self.sent = 0
        self.rises = 0
        self._last_total = 0

    def look(self) -> int:
        """Read everything once; returns the total."""
        before = counted(self._services)
        total = self._total()
        # What is counted at this moment is in the books, which one script keeps with the counters.
        assert before <= total <= counted(self._services) <= self.sent
        assert self._last_total <= total
        self.rises += total > self._last_total
        self._last_total = total
        for name, (count, truth) in self._counts.items():
            now = count()
            assert self._last[name] <= now <= truth, name
            self._last[name] = now
        return total
