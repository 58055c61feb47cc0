"""Makes `installation/`: what the version before the rooms leaves when it is stopped in the middle
of its work. No test runs this; it documents how the files came to be.

It runs in a checkout of commit 336aebe, with that version's own environment, and needs Redis 7 and
Postgres 15, the oldest servers that are supported:

    PYTHONPATH=. .venv/bin/python PATH/make_installation.py PATH/installation

Every module that it imports is one of that version. `expected.json` is written from what was sent,
without any code that counts.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import redis

REDIS_SERVER = Path("/usr/bin/redis-server")
POSTGRES_BIN = Path("/usr/lib/postgresql/15/bin")

DAY = "2025-03-14"
OLD_DAY = "2020-06-01"
SETTINGS = {
    "COUNT_BY": '{"page_view": ["path"]}',
    "EVENT_LOG": '["page_view", "order", "old"]',
    "VISIBILITY_TIMEOUT_S": "60",
}
ERASED = "ann@example.com"

# A tracker that is killed at a moment; the events are of a day that never lies ahead.
TRACKER = """
import sys
from pipeline import Tracker
from tests.acceptance.flush_driver import Stop, kill
from tests.acceptance.tracker_driver import install

spool_dir, prefix, count, at, moment, nth = sys.argv[1:]
install(Stop(moment, int(nth), kill))
tracker = Tracker(max_events=5, max_age_s=0, when_full="spool", spool_dir=spool_dir)
for n in range(int(count)):
    tracker.track("page_view", f"{prefix}{n}", {"path": "/spooled"}, timestamp=at)
tracker.flush()
"""

# Celery's own client, which knows the names of the wire contract alone.
STOCK_CLIENT = """
import json, sys
from celery import Celery

app = Celery(broker=sys.argv[1], set_as_current=False)
for kwargs, options in json.loads(sys.argv[2]):
    app.send_task("analytics.track_event", [], kwargs, queue="analytics.events", **options)
"""


class Accepted:
    """What was sent and must be counted once each; `waits`: no worker has counted it yet."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.waits = False

    def add(self, event_type: str, user: str | None, path: str | None, at: str) -> None:
        event = {"event_type": event_type, "user": user, "path": path, "at": at}
        self.events.append({**event, "waits": self.waits})


class Installation:
    """The servers, a worker at a time, and what was sent."""

    def __init__(self, directory: Path) -> None:
        from pipeline.embedded import PrivateServers

        self.data_dir = directory / ".analytics"
        self.spool_dir = directory / "spool"
        self.log = directory / "worker.log"
        self.accepted = Accepted()
        self.servers = PrivateServers.start(
            self.data_dir, redis_binary=REDIS_SERVER, postgres_bin_dir=POSTGRES_BIN
        )
        os.environ |= {f"ANALYTICS_{name}": value for name, value in SETTINGS.items()}
        os.environ |= {"ANALYTICS_DATA_DIR": str(self.data_dir)}
        self.redis_url = str(self.servers.redis_url)
        self.postgres_url = str(self.servers.postgres_url)
        self.services = self.connect()
        self.client = redis.Redis.from_url(self.redis_url)

    def connect(self, **more: Any) -> Any:
        from config.settings import Settings
        from pipeline.services import connect

        return connect(Settings(**more), self.redis_url, self.postgres_url)

    def send(
        self, event_type: str, user: str | None = None, path: str | None = None, **more: Any
    ) -> None:
        """Send an event by `.delay()`; it is one to be counted, unless `again`."""
        from pipeline.producer import track_event

        again, at = more.pop("again", False), more.pop("at", f"{DAY}T10:30:00+00:00")
        properties = {"path": path} if path else None
        track_event.delay(event_type, user, properties, timestamp=at, **more)
        if not again:
            self.accepted.add(event_type, user, path, at)

    def send_stock(self, *messages: tuple[dict[str, Any], dict[str, Any]]) -> None:
        """Send with Celery's own client."""
        run("-c", STOCK_CLIENT, self.redis_url, json.dumps(messages))

    @contextmanager
    def worker(self) -> Iterator[None]:
        """An event worker; at the end of the block all that was sent is consumed."""
        options = ("-Q", "analytics.events", "-P", "solo", "-n", "old@fixture")
        with self.log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "tasks", "worker", *options],
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        yield
        wait_until(self.is_consumed)
        process.terminate()
        process.wait(30)

    def is_consumed(self) -> bool:
        status = self.services.status()
        return not status["queue_depth"] and not status["unacknowledged"]

    def kill(self, driver: str, moment: str, nth: int = 1) -> None:
        """Run one of that version's drivers, which dies at a moment."""
        options = ("--at", moment, "--nth", str(nth))
        if driver == "flush_driver":
            options = (*options, "--then", "kill")
        command = ("-m", f"tests.acceptance.{driver}", self.redis_url, self.postgres_url)
        run(*command, *options, code=-9)


def run(*arguments: str, code: int = 0) -> None:
    done = subprocess.run([sys.executable, *arguments], check=False)
    assert done.returncode == code, (arguments, done.returncode)


def wait_until(condition: Any) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def live(this: Installation) -> dict[str, Any]:
    """A life of the old version; returns what it made that has a name."""
    from pipeline.cli.access import first_keys
    from pipeline.web.access import Access

    from config.settings import Settings
    from pipeline import producer, schema

    schema.migrate(this.services.engine)
    producer.configure(producer.ProducerSettings(redis_url=this.redis_url))
    first = first_keys(Settings())
    access = Access(this.client, this.services.keys)
    _, shop = access.create("write", "shop", ["https://shop.example"])
    _, forgetter = access.create("read", "privacy desk", may_forget=True)
    revoked, old = access.create("write", "left in a repository")
    access.revoke(revoked.id)
    keys = {"first_write": first.write, "first_read": first.read, "shop": shop}
    keys |= {"forgetter": forgetter, "revoked": old}

    count_and_store(this)
    erase(this)
    leave_batches_and_entries(this)
    with this.worker():
        leave_live_counters(this)
    leave_messages(this)
    leave_spool(this)
    return {"keys": keys}


def count_and_store(this: Installation) -> None:
    """Rows in every table: counts, gaps, the archive, dead letters, pruned days."""
    with this.worker():
        for n in range(6):
            this.send("page_view", f"u{n % 3}", f"/{n % 2}", at=f"{DAY}T0{n}:59:59+00:00")
        for n in range(3):
            this.send("order", f"u{n}", event_id=f"order-{n}")
        this.send("order", "u0", event_id="order-0", again=True)
        this.send("quiet", "u1")
        this.send("old", "u1", at=f"{OLD_DAY}T12:00:00+00:00")
        stock = {"event_type": "page_view", "user_id": "stock", "timestamp": f"{DAY}T10:00:00Z"}
        this.send_stock(
            (stock, {"task_id": "task-1"}),
            ({"event_type": "", "user_id": "moved to Postgres"}, {}),
        )
        this.accepted.add("page_view", "stock", None, f"{DAY}T10:00:00+00:00")
    this.services.flush()
    this.services.archive_events()
    this.services.move_dead_letters()
    # Days before 2021 are pruned from the archive.
    kept_days = (datetime.now(UTC).date() - date(2021, 1, 1)).days
    services = this.connect(events_retention_days=kept_days, counters_retention_days=0)
    services.prune(datetime.now(UTC).date())
    services.close()


def erase(this: Installation) -> None:
    """A user who is erased: the totals stay."""
    with this.worker():
        for path in ("/0", "/1"):
            this.send("page_view", ERASED, path)
    this.services.flush()
    this.services.archive_events()
    this.services.forget(ERASED)
    for event in this.accepted.events:
        if event["user"] == ERASED:
            event["user"] = None


def leave_batches_and_entries(this: Installation) -> None:
    """An entry that is archived and not acknowledged, one that a dead consumer has read, a batch
    that is stored and not settled, one that is claimed and not stored."""
    from pipeline.flush import claim_batch

    with this.worker():
        this.send("page_view", "u1", "/0")
        this.send("order", "u1", event_id="order-archived")
    this.kill("archive_driver", "after commit")
    with this.worker():
        this.send("page_view", "u2", "/1")
    log = this.services.event_log
    log.open()
    assert log.read(0, "dead consumer", 1)
    this.kill("flush_driver", "after commit")
    with this.worker():
        this.send("page_view", "u3", "/0", at=f"{DAY}T23:00:00+00:00")
        this.send("order", "u3", event_id="order-claimed")
    with this.services.store.transaction() as transaction:
        newest = transaction.newest_claim()
    assert claim_batch(this.services.counters, 1_000, newest).counts


def leave_live_counters(this: Installation) -> None:
    """Counters, a gap, a dead letter and remembered ids that no flush has seen."""
    this.send("page_view", "u0", "/a: b%")
    this.send("page_view", "u4", "/" + "x" * 300)
    this.send("order", "u4", event_id="order-live")
    this.send("quiet", "u4")
    this.send_stock(({"event_type": "", "user_id": "still in Redis"}, {}))


def leave_messages(this: Installation) -> None:
    """Messages that a dead worker has fetched, and messages in the queue."""
    from tests.support import fetch

    from pipeline import Tracker

    this.accepted.waits = True
    this.send("page_view", "u5", "/fetched")
    this.send("order", "u5", event_id="order-fetched")
    assert len(fetch(this.services)) == 2
    this.send("page_view", "u6", "/queued")
    this.send("order", "u6", event_id="order-queued")
    for event_id in ("order-1", "order-archived", "order-live", "order-fetched"):
        this.send("order", "u1", event_id=event_id, again=True)
    this.send("page_view", ERASED, "/0", again=True)  # was in flight when the user was erased
    again = {"event_type": "page_view", "user_id": "stock", "timestamp": f"{DAY}T10:00:00Z"}
    this.send_stock(
        (again, {"task_id": "task-1"}),
        ({"event_type": "", "user_id": "in the queue"}, {}),
    )
    with Tracker() as tracker:
        for n in range(4):
            at = f"{DAY}T12:00:0{n}+00:00"
            tracker.track("page_view", "tracked", {"path": "/tracked"}, timestamp=at)
            this.accepted.add("page_view", "tracked", "/tracked", at)


def leave_spool(this: Installation) -> None:
    """Messages on disk. The first of them was sent, and its tracker killed before it noted that."""
    at = f"{DAY}T20:00:00+00:00"
    this.spool_dir.mkdir()
    os.environ |= {"ANALYTICS_REDIS_URL": this.redis_url}
    this.client.config_set("maxmemory", 1)
    run("-c", TRACKER, str(this.spool_dir), "s", "15", at, "after spool", "3", code=-9)
    this.client.config_set("maxmemory", 0)
    before = this.client.llen("analytics.events")
    run("-c", TRACKER, str(this.spool_dir), "t", "1", at, "after publish", "1", code=-9)
    assert this.client.llen("analytics.events") == before + 1
    spooled = [
        json.loads(line.removeprefix(b"-"))
        for path in this.spool_dir.glob("*.spool")
        for line in path.read_bytes().splitlines()
    ]
    users = {event["user_id"] for _, _, events in spooled for event in events}
    assert users >= {f"s{n}" for n in range(15)}
    for user in sorted(users):
        this.accepted.add("page_view", user, "/spooled", at)


def save(this: Installation, directory: Path, expected: dict[str, Any]) -> None:
    """Stop everything and copy what is left."""
    # As text, which is read in a review and by every server.
    this.client.config_set("aof-use-rdb-preamble", "no")
    this.client.bgrewriteaof()
    wait_until(lambda: not this.client.info("persistence")["aof_rewrite_in_progress"])
    dump = subprocess.run(
        [
            *(POSTGRES_BIN / "pg_dump", this.postgres_url.replace("+psycopg", "")),
            *("--no-owner", "--no-privileges", "--inserts", "--rows-per-insert=100"),
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    stopped_at_ms = round(time.time() * 1000)
    this.servers.stop()
    shutil.rmtree(directory, ignore_errors=True)
    shutil.copytree(this.data_dir / "redis" / "appendonlydir", directory / "redis/appendonlydir")
    for name in ("credentials.json", "servers.json", "web-keys.json"):
        shutil.copy(this.data_dir / name, directory / name)
    shutil.copytree(this.spool_dir, directory / "spool")
    # Comments, and what only psql understands.
    lines = [one for one in dump.splitlines() if one and not re.match(r"--|\\", one)]
    (directory / "postgres.sql").write_text("\n".join(lines) + "\n")
    expected |= {"stopped_at_ms": stopped_at_ms, "events": this.accepted.events}
    # A line an event.
    text = re.sub(r"\n {3,}|\n  (?=\})", " ", json.dumps(expected, indent=1))
    (directory / "expected.json").write_text(text + "\n")


def main() -> None:
    directory = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as temporary:
        this = Installation(Path(temporary))
        try:
            save(this, directory, live(this))
        except BaseException:
            print(this.log.read_text() if this.log.exists() else "")
            raise
        finally:
            this.servers.stop()


if __name__ == "__main__":
    main()
