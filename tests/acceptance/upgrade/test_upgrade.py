"""An installation of the version before the rooms, stopped in the middle of its work, goes on with
today's code: nothing is lost and nothing is counted twice."""

from __future__ import annotations

import json
import shutil
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from pipeline import server_addresses
from pipeline.errors import CountedByHour
from pipeline.reading.series.reader import SeriesRequest
from pipeline.redis.keys import Keys
from pipeline.services import Services
from tests.acceptance.drivers.command import Analytics, Up, rows_of
from tests.acceptance.drivers.truth import Seen, Truth, assert_reads, assert_stored
from tests.acceptance.upgrade.installation import (
    COUNT_BY,
    EXPECTED,
    LEFT,
    LOGGED,
    accepted,
    open_services,
    take_up,
)
from tests.conftest import keys_that_stay
from tests.helpers.support import eventually, execute
from tests.helpers.tracking import run

pytestmark = pytest.mark.timeout(240)

ERASED = "ann@example.com"
NEXT = Seen("next", None, datetime(2025, 3, 14, 21, tzinfo=UTC))
DAYS = (date(2020, 1, 1), date(2025, 12, 31))

# What an application does that starts again after the upgrade.
TRACKER = """
import sys
from pathlib import Path
from pipeline import Tracker
from tests.helpers.support import eventually

with Tracker(when_full="spool", spool_dir=sys.argv[1]) as tracker:
    tracker.track("page_view", "next", timestamp="2025-03-14T21:00:00Z")
    eventually(lambda: not list(Path(sys.argv[1]).iterdir()))
"""


@dataclass(frozen=True)
class Upgraded:
    """The installation under `analytics up` of today, with everything counted, stored and
    archived."""

    analytics: Analytics
    up: Up
    services: Services


@pytest.fixture(scope="module")
def upgraded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upgraded]:
    settings = {
        "COUNT_BY": json.dumps(COUNT_BY),
        "EVENT_LOG": json.dumps(LOGGED),
        "FLUSH_INTERVAL_S": "3600",
        "FLOWER_PORT": "0",
    }
    analytics = Analytics(tmp_path_factory.mktemp("upgrade"), settings)
    take_up(analytics.data_dir)
    spool = analytics.directory / "spool"
    shutil.copytree(LEFT / "spool", spool)
    up = analytics.up()
    try:
        servers = server_addresses.read(analytics.data_dir)
        assert servers is not None
        with closing(open_services(servers.redis_url, servers.postgres_url)) as services:
            run(TRACKER, str(servers.redis_url), str(spool))
            eventually(lambda: is_consumed(services), what="what was left is consumed")
            services.flush()
            services.archive_events()
            yield Upgraded(analytics, up, services)
    finally:
        up.stop()


def is_consumed(services: Services) -> bool:
    """Neither a queue nor a worker holds an event."""
    status = services.status()
    return not status["queue_depth"] and not status["unacknowledged"]


def test_every_accepted_event_is_counted_and_stored_once(upgraded: Upgraded) -> None:
    truth = Truth([*accepted(), NEXT])

    assert_reads(upgraded.services, truth)
    assert_stored(upgraded.services, truth)


def test_what_was_counted_by_the_hour_serves_zones_of_whole_hours(upgraded: Upgraded) -> None:
    stats = upgraded.services.stats
    times = [one.at for one in [*accepted(), NEXT] if one.event_type == "page_view"]
    local = [at.astimezone(ZoneInfo("Europe/Berlin")).date() for at in times]
    days = date(2025, 3, 13), date(2025, 3, 15)

    request = SeriesRequest("page_view", *days, "day", "Europe/Berlin")
    (found,) = stats.read_series(request)

    expected = Counter(f"{day}" for day in local if days[0] <= day <= days[1])
    assert {day: n for day, n in found.points if n} == expected
    with pytest.raises(CountedByHour, match="rebuild"):
        stats.read_series(SeriesRequest("page_view", *days, "quarter_hour"))


def test_properties_are_counted_since_the_upgrade(upgraded: Upgraded) -> None:
    found = upgraded.services.list_properties("page_view", DAYS[1], 9)

    assert found.since is not None
    assert (datetime.now(UTC) - found.since).total_seconds() < 600
    rows = "SELECT event_type FROM analytics_event_types WHERE since IS NULL"
    assert [event_type for (event_type,) in execute(upgraded.services, rows)] == []


def test_event_ids_and_task_ids_counted_before_are_duplicates(upgraded: Upgraded) -> None:
    books = upgraded.services.status()["books"]

    assert books["balanced"]
    # One of them came before the upgrade.
    assert books["by_type"]["order"]["duplicate"] == 1 + 4
    assert books["by_type"]["page_view"]["duplicate"] == 1


def test_raw_events_are_archived_once(upgraded: Upgraded) -> None:
    logged = Counter(
        (one.event_type, one.user, one.at)
        for one in [*accepted(), NEXT]
        if one.event_type in LOGGED and one.at.year > 2020  # earlier days are pruned
    )

    found = execute(upgraded.services, "SELECT event_type, user_id, timestamp FROM events")

    assert Counter(tuple(row) for row in found) == logged
    assert upgraded.services.event_log.read_status()["entries"] == 0


def test_the_audit_finds_no_difference(upgraded: Upgraded) -> None:
    assert upgraded.services.audit(*DAYS) == []


def test_an_erased_user_is_named_no_more(upgraded: Upgraded) -> None:
    assert upgraded.services.stats.user_counts(ERASED, *DAYS) == {}
    assert upgraded.services.status()["books"]["by_type"]["page_view"]["forgotten"] == 1
    assert list(upgraded.services.redis.scan_iter(f"*{ERASED}*")) == []


def test_dead_letters_of_before_are_listed_beside_new_ones(upgraded: Upgraded) -> None:
    letters = upgraded.analytics.json("dead-letters", "list")["dead_letters"]

    assert {json.loads(letter["body"])["user_id"] for letter in letters} == {
        "moved to Postgres",
        "still in Redis",
        "in the queue",
    }


def test_access_keys_are_valid_and_one_that_was_revoked_is_not(upgraded: Upgraded) -> None:
    where = next(row[2] for row in rows_of(upgraded.up.said()) if row[0] == "web")
    keys = EXPECTED["keys"]

    # No event is in the body, so a valid key gets as far as that.
    for name, status in (("first_write", 400), ("shop", 400), ("revoked", 401)):
        assert ask(f"{where}/track", keys[name], b"{}")[0] == status, name
    count = f"{where}/api/stats/count?event_type=quiet&from=2025-03-14&to=2025-03-14"
    for name in ("first_read", "forgetter"):
        status, answer = ask(count, keys[name])
        assert (status, json.loads(answer)["count"]) == (200, 2), name
    assert ask(count, keys["shop"])[0] == 401


def test_ids_of_before_are_known_and_new_ones_are_of_a_source_and_a_type(
    upgraded: Upgraded,
) -> None:
    """The keys of before are of pages: each has a source of its own."""
    where = next(row[2] for row in rows_of(upgraded.up.said()) if row[0] == "web")
    keys = EXPECTED["keys"]
    for key, event_type, event_id in [
        ("shop", "paid", "1001"),
        ("shop", "paid", "1001"),
        ("first_write", "paid", "1001"),
        ("shop", "created", "1001"),
        ("shop", "paid", "order-0"),
        ("first_write", "created", "order-0"),
    ]:
        body = json.dumps({"event_type": event_type, "event_id": event_id}).encode()
        assert ask(f"{where}/track", keys[key], body)[0] == 200

    eventually(lambda: is_consumed(upgraded.services), what="it is consumed")
    by_type = upgraded.services.status()["books"]["by_type"]
    assert (by_type["paid"]["counted"], by_type["paid"]["duplicate"]) == (2, 2)
    assert (by_type["created"]["counted"], by_type["created"]["duplicate"]) == (1, 1)


def ask(url: str, key: str, body: bytes | None = None) -> tuple[int, bytes]:
    """Status and body of the answer."""
    request = urllib.request.Request(url, body, {"Authorization": f"Bearer {key}"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_the_data_directory_keeps_its_passwords_and_keys(upgraded: Upgraded) -> None:
    def passwords(directory: Path) -> list[Any]:
        servers = json.loads((directory / "credentials.json").read_text())
        return [servers[name]["password"] for name in ("redis", "postgres")]

    assert passwords(upgraded.analytics.data_dir) == passwords(LEFT)
    for name in ("first_write", "first_read"):
        assert EXPECTED["keys"][name] in upgraded.up.said()


def test_no_key_of_before_stays_in_redis_for_ever(upgraded: Upgraded) -> None:
    assert keys_that_stay(upgraded.services.redis, Keys()) == []
