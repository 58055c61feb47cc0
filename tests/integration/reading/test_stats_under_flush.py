"""A reader beside traffic and flushes: no count falls, and none exceeds what was counted."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pipeline.services import Services
from tests.conftest import MakeServices
from tests.helpers.support import (
    ROOT,
    TODAY,
    count_events,
    environment_without_settings,
    event,
    rows,
)

EVENTS = 300
FLUSHER = """
import sys
from config.options import pipeline_options
from config.settings import Settings
from pipeline.services import connect

services = connect(pipeline_options(Settings(flush_batch_size=2)), *sys.argv[1:])
services.flush()
print("ready", flush=True)
stopping = False
while not stopping:
    stopping = services.redis.exists("stop")
    services.flush()
services.close()
"""


@contextmanager
def flusher(redis_url: str, postgres_url: str) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that flushes without a pause, in batches of two counters."""
    with subprocess.Popen(
        [sys.executable, "-c", FLUSHER, redis_url, postgres_url],
        cwd=ROOT,
        env=environment_without_settings(),
        stdout=subprocess.PIPE,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield process
        finally:
            if process.poll() is None:
                process.kill()


class Traffic(threading.Thread):
    """Counts events one by one, and knows how many were begun and how many are done."""

    def __init__(self, services: Services) -> None:
        super().__init__()
        self.services = services
        self.begun = self.done = 0

    def run(self) -> None:
        one = event(user_id="u1", properties={"path": "/"})
        for _ in range(EVENTS):
            self.begun += 1
            count_events(self.services, one)
            self.done += 1


READS: dict[str, Callable[[Services], int]] = {
    "day": lambda services: services.stats.daily_count("page_view", TODAY),
    "hours": lambda services: sum(services.stats.hourly_counts("page_view", TODAY)),
    "user": lambda services: services.stats.user_count("u1", "page_view", TODAY, TODAY),
    "all of a user": lambda services: (
        services.stats.user_counts("u1").get("page_view", {}).get(TODAY, 0)
    ),
    "value": lambda services: services.stats.property_count("page_view", "path", "/", TODAY, TODAY),
}


def test_a_reader_beside_a_flusher_sees_every_count_and_none_twice(
    make_services: MakeServices, redis_url: str, postgres_url: str
) -> None:
    services = make_services(count_by={"page_view": ["path"]})
    traffic = Traffic(services)
    last = dict.fromkeys(READS, 0)
    with flusher(redis_url, postgres_url) as process:
        traffic.start()
        while traffic.is_alive():
            for name, read in READS.items():
                at_least = max(traffic.done, last[name])
                last[name] = read(services)
                assert at_least <= last[name] <= traffic.begun, name
        traffic.join()
        services.redis.set("stop", 1, ex=60)
        assert process.wait(30) == 0
    assert {read(services) for read in READS.values()} == {EVENTS}
    assert rows(services, "analytics_daily") == [("page_view", TODAY, EVENTS)]
    assert len(rows(services, "flush_batches")) > 10, "the flusher had little to do"
