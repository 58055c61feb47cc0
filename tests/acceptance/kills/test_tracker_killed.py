"""A process with a spooling tracker dies at any moment: what `flush` confirmed or the disk holds is
counted once, and the next tracker sends it."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
import redis

from pipeline import Tracker
from pipeline.services import Services
from tests.helpers.support import ROOT, environment_without_settings, eventually
from tests.helpers.tracking import count_queue, refusing, users

EVENTS = 300

pytestmark = pytest.mark.usefixtures("sending")


@dataclass(frozen=True)
class Driver:
    """Starts trackers that die."""

    redis_url: str
    spool_dir: Path

    def start(self, prefix: str, *options: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.acceptance.drivers.tracker_driver"]
        return subprocess.Popen(
            [*command, str(self.spool_dir), prefix, f"{EVENTS}", *options],
            cwd=ROOT,
            env=environment_without_settings() | {"ANALYTICS_REDIS_URL": self.redis_url},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def killed(self, prefix: str, at: str, nth: int) -> int:
        """Run a tracker that must die at this moment; returns how many events were confirmed."""
        return confirmed(self.start(prefix, "--at", at, "--nth", f"{nth}"), -signal.SIGKILL)


def confirmed(process: subprocess.Popen[str], ended: int) -> int:
    said, errors = process.communicate(timeout=60)
    assert process.returncode == ended, said + errors
    return int((said.split() or ["0"])[-1])


@pytest.fixture
def driver(redis_url: str, tmp_path: Path) -> Driver:
    return Driver(redis_url, tmp_path / "spool")


def on_disk(driver: Driver) -> set[str]:
    """The users of the events in whole lines that are not marked as sent."""
    found: set[str] = set()
    for path in driver.spool_dir.glob("*.spool"):
        for line in path.read_bytes().splitlines(keepends=True):
            if line.startswith(b"-") and line.endswith(b"\n"):
                found |= {event["user_id"] for event in msgspec.json.decode(line[1:])[2]}
    return found


def next_tracker_sends(driver: Driver) -> None:
    """What a program does that starts again."""
    with Tracker(when_full="spool", spool_dir=driver.spool_dir) as tracker:
        tracker.track("page_view", "next")
        eventually(lambda: not list(driver.spool_dir.iterdir()))


def assert_counted_once(services: Services, promised: set[str], prefixes: str) -> None:
    counted = count_queue(services)
    assert set(counted.values()) == {1}
    assert promised <= set(counted)
    tracked = {name for prefix in prefixes for name in users(EVENTS, prefix)}
    assert set(counted) <= tracked | {"next"}
    assert services.stats.daily_count("page_view", datetime.now(UTC).date()) == sum(
        counted.values()
    )
    assert services.status()["books"]["balanced"]


@pytest.mark.parametrize(("moment", "nth"), [("before spool", 7), ("after spool", 1)])
def test_killed_while_redis_is_away(
    services: Services, client: redis.Redis, driver: Driver, moment: str, nth: int
) -> None:
    with refusing(client):
        confirmed = driver.killed("a", moment, nth)
    left = on_disk(driver)
    assert left
    assert set(users(confirmed, "a")) <= left
    next_tracker_sends(driver)
    assert_counted_once(services, left | {"next"}, "a")


def test_killed_by_somebody_while_it_flushes_to_disk(
    services: Services, client: redis.Redis, driver: Driver
) -> None:
    with refusing(client), driver.start("a") as process:
        assert process.stdout is not None
        count = int(process.stdout.readline())
        process.kill()
    left = on_disk(driver)
    assert set(users(count, "a")) <= left
    next_tracker_sends(driver)
    assert_counted_once(services, left | {"next"}, "a")


@pytest.mark.parametrize(
    ("moment", "nth"),
    [
        ("after publish", 1),  # of a message on disk, which is not yet marked as sent
        ("after publish", 9),
        ("before delete", 1),
    ],
    ids=str,
)
def test_killed_while_it_sends_what_another_has_left(
    services: Services, client: redis.Redis, driver: Driver, moment: str, nth: int
) -> None:
    with refusing(client):
        first = driver.killed("a", "after spool", 20)
    left = on_disk(driver)
    assert set(users(first, "a")) <= left
    second = driver.killed("b", moment, nth)
    next_tracker_sends(driver)
    assert_counted_once(services, left | set(users(second, "b")) | {"next"}, "ab")


@pytest.mark.parametrize(("moment", "nth"), [("before publish", 25), ("after publish", 25)])
def test_killed_while_redis_takes_everything(
    services: Services, driver: Driver, moment: str, nth: int
) -> None:
    """What a flush has confirmed is in Redis; the rest of the buffer is gone."""
    confirmed = driver.killed("a", moment, nth)
    assert confirmed >= 100
    next_tracker_sends(driver)
    assert_counted_once(services, set(users(confirmed, "a")) | {"next"}, "a")


def test_killed_again_and_again_while_redis_comes_and_goes(
    services: Services, client: redis.Redis, driver: Driver
) -> None:
    promised: set[str] = set()
    for prefix, moment, nth, is_away in [
        ("a", "after spool", 12, True),
        ("b", "after publish", 5, False),
        ("c", "before spool", 8, True),
        ("d", "after mark", 2, False),
    ]:
        if is_away:
            with refusing(client):
                promised |= set(users(driver.killed(prefix, moment, nth), prefix))
        else:
            promised |= set(users(driver.killed(prefix, moment, nth), prefix))
        promised |= on_disk(driver)
    next_tracker_sends(driver)
    assert_counted_once(services, promised | {"next"}, "abcd")
