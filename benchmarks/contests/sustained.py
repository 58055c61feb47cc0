"""Minutes of traffic at a steady rate, with the processes and settings of an installation: an event
worker, a flush worker, beat, and a Redis that syncs every write. How far does each fall behind?"""

from __future__ import annotations

import os
import random
import threading
import time
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle

from benchmarks.report.report import Measured
from benchmarks.stage import sides
from benchmarks.stage.processes import Cores, Worker, celery_worker, running
from benchmarks.stage.stage import EVENT_TYPE, PROPERTIES, Stage
from pipeline import Tracker
from pipeline.contract import EVENTS_QUEUE, FLUSH_QUEUE

RATE = 30_000
"""Events a second."""
LIMIT_S = 120.0
_USERS = 100_000
_BURST_S = 0.01
_LOOK_EVERY_S = 1.0
_A_LITTLE_MORE = 1.002
"""So that the last burst does not make the rate that was asked for a little less."""


@dataclass
class Watch:
    """The furthest that each stage fell behind (s), seen once a second, and the most requests that
    waited in the queue of flushes and archive runs."""

    stage: Stage
    sent_at_s: list[float] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)
    furthest_s: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("counting", "flush", "archive"), 0.0)
    )
    most_requests: int = 0

    def note_sent(self, events: int) -> None:
        """So many events were sent in all."""
        self.sent_at_s.append(time.monotonic())
        self.sent.append(events)

    def look(self) -> None:
        """Look at what waits now."""
        services = self.stage.services
        now = {
            "counting": self._counting_s(),
            "flush": float(services.claims.oldest_pending_s()),
            "archive": float(services.event_log.read_status()["oldest_s"]),
        }
        self.furthest_s = {name: max(now[name], was) for name, was in self.furthest_s.items()}
        self.most_requests = max(self.most_requests, services.redis.llen(FLUSH_QUEUE))

    def _counting_s(self) -> float:
        """How long ago as many events had been sent as are counted now."""
        counted = sides.ours(self.stage).counted()
        at = bisect_right(self.sent, counted)
        return time.monotonic() - self.sent_at_s[at] if at < len(self.sent) else 0.0

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Look once a second, from a thread."""
        is_over = threading.Event()

        def look_until_over() -> None:
            while not is_over.wait(_LOOK_EVERY_S):
                self.look()

        thread = threading.Thread(target=look_until_over)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()


def measure(stage: Stage) -> Measured:
    """Events a second that were sent, and how far counting, flush and archive fell behind."""
    redis, watch = stage.services.redis, Watch(stage)
    redis.config_set("appendfsync", "always")
    logs = stage.directory
    stage.say("starting an event worker, a flush worker and beat")
    events = celery_worker("tasks", EVENTS_QUEUE, logs / "sustained-events.log")
    flushes = Worker(["pipeline.cli", "worker", "flush"], logs / "sustained-flush.log")
    beat = Worker(["pipeline.cli", "beat"], logs / "sustained-beat.log")
    pids = {"sender": os.getpid(), "event worker": events.pid, "Redis": stage.redis_pid}
    cores = Cores(pids, "flush worker and Postgres")
    with running(events, flushes, beat):
        sides.ours(stage).send("first")
        sides.ours(stage).wait_until_counted(1)
        stage.say(f"sending {RATE:,} events/s for {stage.sizes.sustained_s:g} s")
        with cores, watch.looking():
            per_s = _send(stage, watch)
        sides.ours(stage).wait_until_counted(watch.sent[-1] + 1)
    exact = _check(stage, watch.sent[-1] + 1)
    redis.config_set("appendfsync", "everysec")
    note = (
        f"{watch.sent[-1]:,} events of {_USERS:,} users in {stage.sizes.sustained_s:g} s, with "
        f"`appendfsync always`; {exact}. At most {watch.most_requests} requests waited for a flush "
        f"or an archive run. CPU used, of {os.cpu_count()} cores: {cores}."
    )
    samples = {name: [furthest] for name, furthest in watch.furthest_s.items()}
    wanted = {"wanted": [float(RATE)], "limit": [LIMIT_S]}
    return Measured(samples | wanted | {"sent": [per_s]}, {"sustained-rate": note})


def _send(stage: Stage, watch: Watch) -> float:
    """Send in bursts by the clock; returns the events a second."""
    chosen = random.Random(1)
    names = [f"u{number}" for number in range(_USERS)]
    began_s, sent = time.monotonic(), 0
    # Two, as two processes of an application have: a tracker waits for the reply to each batch.
    with Tracker() as one, Tracker() as other:
        trackers = cycle((one, other))
        while (elapsed_s := time.monotonic() - began_s) < stage.sizes.sustained_s:
            due = int((elapsed_s + _BURST_S) * RATE * _A_LITTLE_MORE)
            tracker = next(trackers)
            for user in chosen.choices(names, k=due - sent):
                tracker.track(EVENT_TYPE, user, PROPERTIES)
            sent = due
            watch.note_sent(sent)
            time.sleep(_BURST_S)
    return sent / (time.monotonic() - began_s)


def _check(stage: Stage, sent: int) -> str:
    """Store and archive what is left; says whether the tables have every event once."""
    stage.say("storing and archiving what is left")
    stage.services.flush()
    stage.services.archive_events()
    with stage.connect_postgres() as postgres:
        stored = postgres.execute("SELECT sum(count) FROM analytics_daily").fetchone()
        archived = postgres.execute("SELECT count(*) FROM events").fetchone()
    assert stored is not None
    assert archived is not None
    if int(stored[0]) == archived[0] == sent:
        return "every one of them was counted and archived once"
    return f"counted {stored[0]:,} and archived {archived[0]:,} of {sent:,}"
