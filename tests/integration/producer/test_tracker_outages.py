"""A broker that stands still, dies or refuses: a tracker's events wait, in memory or on disk, and
count once."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import redis

from pipeline import Tracker
from pipeline.embedded import PrivateServers
from pipeline.errors import EventsNotAccepted, InvalidConfiguration
from pipeline.producer.app import configure
from pipeline.services import Services
from tests.conftest import chosen_programs
from tests.helpers.support import eventually
from tests.helpers.tracking import (
    WAIT_FOR_EVER_S,
    count_queue,
    refusing,
    standing_still,
    track_all,
    users,
    users_sent,
)

pytestmark = pytest.mark.usefixtures("sending")


@pytest.fixture
def spool_dir(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[PrivateServers]:
    """A Redis to kill."""
    programs = {"redis_binary": chosen_programs()["redis_binary"]}
    with PrivateServers.start(tmp_path / "own", postgres=False, **programs) as running:
        yield running


def all_is_sent(spool_dir: Path) -> bool:
    return not spool_dir.exists() or not list(spool_dir.iterdir())


def spooled_bytes(spool_dir: Path) -> int:
    return sum(path.stat().st_size for path in spool_dir.iterdir())


def spooling(spool_dir: Path, **options: float) -> Tracker:
    return Tracker(when_full="spool", spool_dir=spool_dir, **{"max_events": 10, **options})  # type: ignore[arg-type]


# Redis itself


@pytest.mark.parametrize("spools", [False, True])
def test_events_sent_while_redis_stands_still_are_counted_once(
    servers: PrivateServers,
    services: Services,
    spool_dir: Path,
    caplog: pytest.LogCaptureFixture,
    spools: bool,
) -> None:
    assert servers.redis is not None
    with spooling(spool_dir) if spools else Tracker(max_events=10) as tracker:
        track_all(tracker, users(15, "before "))
        tracker.flush()
        with standing_still(servers.redis):
            track_all(tracker, users(25))
            if spools:
                tracker.flush()  # to the disk
            else:
                eventually(lambda: "events wait in memory" in caplog.text)  # tried for once
                with pytest.raises(EventsNotAccepted, match="25 events"):
                    tracker.flush(timeout_s=0)
        track_all(tracker, users(15, "after "))
        tracker.flush()
        eventually(lambda: all_is_sent(spool_dir))
    names = users(15, "before ") + users(25) + users(15, "after ")
    assert count_queue(services) == dict.fromkeys(names, 1)
    assert services.status()["books"]["balanced"]


@pytest.mark.parametrize("spools", [False, True])
def test_events_sent_while_redis_is_killed_and_started_are_sent_once(
    own_redis: PrivateServers, spool_dir: Path, spools: bool
) -> None:
    assert own_redis.redis is not None
    assert own_redis.redis_url is not None
    configure(redis_url=own_redis.redis_url)
    sent: list[str] = []
    enough, stop = threading.Event(), threading.Event()
    tracker = spooling(spool_dir) if spools else Tracker(max_events=10, max_age_s=0)

    def work() -> None:
        while not stop.is_set():
            sent.append(f"u{len(sent)}")
            tracker.track("page_view", sent[-1])
            if len(sent) % 1_000 == 0:
                enough.set()
                stop.wait(0.01)

    worker = threading.Thread(target=work)
    worker.start()
    for _ in range(2):
        assert enough.wait(30)
        own_redis.redis.kill()
        own_redis.redis.start()
        enough.clear()
    stop.set()
    worker.join()
    tracker.flush()
    eventually(lambda: all_is_sent(spool_dir))
    tracker.close()
    with redis.Redis.from_url(own_redis.redis_url) as client:
        assert users_sent(client) == sent


# The spool


def test_while_redis_is_away_flush_returns_when_the_disk_has_the_events(
    client: redis.Redis, spool_dir: Path
) -> None:
    with refusing(client):
        tracker = spooling(spool_dir, max_age_s=WAIT_FOR_EVER_S)
        track_all(tracker, users(25))
        tracker.flush()
        [path] = spool_dir.iterdir()
        assert path.read_bytes().count(b"\n") == 3
        assert path.read_bytes().count(b'"user_id"') == 25
        track_all(tracker, users(10, "more "))
        tracker.flush()
    eventually(lambda: all_is_sent(spool_dir))
    assert users_sent(client) == users(25) + users(10, "more ")
    tracker.track("page_view", "last")
    tracker.close()
    assert users_sent(client)[-1] == "last"
    assert list(spool_dir.iterdir()) == []


def test_what_waits_on_disk_goes_before_what_is_tracked_later(
    client: redis.Redis, spool_dir: Path
) -> None:
    tracker = spooling(spool_dir, max_age_s=0)
    names = users(3_000)
    with refusing(client):
        track_all(tracker, names[:1_000])
        tracker.flush()
    for name in names[1_000:]:
        tracker.track("page_view", name)
    tracker.flush()
    eventually(lambda: all_is_sent(spool_dir))
    tracker.close()
    assert users_sent(client) == names


def test_a_close_while_redis_is_away_leaves_the_events_to_the_next_tracker(
    services: Services, client: redis.Redis, spool_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with refusing(client):
        for n in range(3):
            with spooling(spool_dir) as tracker:
                track_all(tracker, users(15, f"t{n} "))
        assert len(list(spool_dir.iterdir())) >= 1
        assert f"events wait in {spool_dir} for the next tracker" in caplog.text
    with spooling(spool_dir) as tracker:
        tracker.track("page_view", "new")
    assert list(spool_dir.iterdir()) == []
    names = [name for n in range(3) for name in users(15, f"t{n} ")]
    assert count_queue(services) == dict.fromkeys([*names, "new"], 1)


def test_more_files_than_are_opened_at_once_are_all_sent(
    client: redis.Redis, spool_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.producer.sender._SPOOLS_AT_ONCE", 0)
    with refusing(client):
        for n in range(5):
            with spooling(spool_dir) as tracker:
                tracker.track("page_view", f"u{n}")
    monkeypatch.setattr("pipeline.producer.sender._SPOOLS_AT_ONCE", 2)
    with spooling(spool_dir) as tracker:
        tracker.track("page_view", "u5")
    assert sorted(users_sent(client)) == users(6)


def test_two_trackers_share_a_directory(client: redis.Redis, spool_dir: Path) -> None:
    with spooling(spool_dir) as one, spooling(spool_dir) as other:
        with refusing(client):
            for name in users(30):
                one.track("page_view", name)
                other.track("page_view", f"other {name}")
            one.flush()
            other.flush()
            assert len(list(spool_dir.iterdir())) == 2
        eventually(lambda: all_is_sent(spool_dir))
    assert sorted(users_sent(client)) == sorted(users(30) + users(30, "other u"))


def test_a_full_spool_holds_the_caller_up_and_takes_no_more_than_a_message_too_many(
    client: redis.Redis, spool_dir: Path
) -> None:
    tracker = spooling(spool_dir, capacity=10, spool_bytes=3_000)
    done = threading.Event()

    def work() -> None:
        track_all(tracker, users(200))
        done.set()

    with refusing(client):
        worker = threading.Thread(target=work)
        worker.start()
        eventually(lambda: spool_dir.exists() and spooled_bytes(spool_dir) >= 3_000)
        with pytest.raises(EventsNotAccepted):
            tracker.flush(timeout_s=0.1)
        assert spooled_bytes(spool_dir) < 4_000
        assert not done.is_set()
    worker.join()
    eventually(lambda: all_is_sent(spool_dir))
    tracker.close()
    assert users_sent(client) == users(200)


def test_where_nothing_can_be_written_events_wait_in_memory(
    client: redis.Redis, spool_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = spooling(spool_dir)
    tracker.track("page_view", "u0")
    tracker.flush()
    spool_dir.rmdir()  # from under it
    with refusing(client):
        track_all(tracker, users(25)[1:])
        with pytest.raises(EventsNotAccepted, match="24 events"):
            tracker.flush(timeout_s=0.4)
        eventually(lambda: "events wait in memory" in caplog.text)
    tracker.flush()
    tracker.close()
    assert users_sent(client) == users(25)


@pytest.mark.parametrize("kind", ["below a file", "a file", "read-only"])
def test_a_directory_that_cannot_be_written_is_named_by_the_first_event(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file, read_only = Path("file"), Path("read-only")
    file.touch()
    read_only.mkdir(mode=0o555)
    directory = {"below a file": file / "spool", "a file": file, "read-only": read_only}[kind]
    user = os.getresuid()
    try:
        if user[1] == 0:
            os.setresuid(65_534, 65_534, 0)
        with pytest.raises(InvalidConfiguration, match=f"spool_dir={directory} cannot be written"):
            spooling(directory).track("page_view")
    finally:
        os.setresuid(*user)


def test_the_events_keep_the_time_at_which_they_were_tracked(
    services: Services, client: redis.Redis, spool_dir: Path
) -> None:
    at = datetime(2025, 3, 14, 15, 9, tzinfo=UTC)
    with spooling(spool_dir) as tracker, refusing(client):
        tracker.track("page_view", "u0", timestamp=at)
        tracker.flush()
    with spooling(spool_dir) as tracker:
        tracker.track("page_view", "u1", timestamp=at)
    count_queue(services)
    assert services.stats.daily_count("page_view", at.date()) == 2
