"""Postgres stopped and Redis killed under traffic: every accepted event is counted exactly once."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pipeline.embedded import PrivateServers
from pipeline.errors import ServerUnavailable
from pipeline.services import Services
from tests.helpers.support import ROOT, Workers, eventually, rows

# How long Postgres is away. A minute shows no more than seconds do, but it can be one.
OUTAGE_S = float(os.environ.get("ANALYTICS_TEST_OUTAGE_S", "3"))
FLUSH_EVERY_S = "0.5"
EVENTS_A_SECOND = 100
KILLS = 3

Found = TypeVar("Found")


@dataclass(frozen=True)
class Traffic:
    """A producer at work; its log says what became of each event it sent."""

    process: subprocess.Popen[bytes]
    log: Path

    def users(self, outcome: str) -> set[str]:
        """Those whose event was "accepted", or "unsure"."""
        whole_lines = self.log.read_text().rpartition("\n")[0].splitlines()
        return {user for said, user in map(str.split, whole_lines) if said == outcome}

    def stop(self) -> None:
        """Let the producer finish the publish under way."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(60) == 0


@contextmanager
def traffic(workers: Workers, name: str, publish_timeout_s: float) -> Iterator[Traffic]:
    log = workers.directory / f"{name}.txt"
    command = [
        sys.executable,
        "-m",
        "tests.acceptance.drivers.traffic_driver",
        name,
        f"{EVENTS_A_SECOND}",
    ]
    environment = workers.environment | {"ANALYTICS_PUBLISH_TIMEOUT_S": f"{publish_timeout_s}"}
    with (
        log.open("wb") as output,
        subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=output
        ) as process,
    ):
        try:
            yield Traffic(process, log)
        finally:
            process.kill()


def start_all(workers: Workers) -> None:
    """An event worker, a flush worker and beat, which asks for a flush every half second."""
    workers.start("flush", ready=False, VISIBILITY_TIMEOUT_S="5")
    workers.celery("beat", "beat", "--pidfile=", FLUSH_INTERVAL_S=FLUSH_EVERY_S)
    workers.start("events", VISIBILITY_TIMEOUT_S="5")


def if_available(ask: Callable[[], Found]) -> Found | None:
    """What `ask` says; None while a server is away."""
    try:
        return ask()
    except ServerUnavailable:
        return None


def consumed(services: Services) -> int:
    """How many events workers have consumed, according to Redis alone."""
    return int(services.redis.hget(services.keys.totals, "consumed") or 0)


def all_is_stored(services: Services) -> bool:
    """Nothing waits in a queue, in a worker or for a flush."""
    status = if_available(services.status)
    waiting = ("queue_depth", "unacknowledged", "pending_counters", "inflight_batches")
    return status is not None and not any(status[name] for name in waiting)


def assert_each_counted_once(services: Services, accepted: set[str], unsure: set[str]) -> None:
    """Postgres has one event of each accepted user, at most one of each unsure, and no other."""
    counts: Counter[str] = Counter()
    for _, _, user, count in rows(services, "analytics_user_daily"):
        counts[user] += count
    assert accepted <= counts.keys(), f"lost: {sorted(accepted - counts.keys())[:20]}"
    assert counts.keys() <= accepted | unsure
    twice = {user: n for user, n in counts.items() if n != 1}
    assert not twice
    for table in ("analytics_daily", "analytics_hourly"):
        assert sum(row[-1] for row in rows(services, table)) == counts.total()
    assert services.status()["books"]["balanced"]


def test_events_counted_while_postgres_is_away_are_stored_when_it_is_back(
    own_servers: PrivateServers, services: Services, workers: Workers
) -> None:
    assert own_servers.postgres is not None
    start_all(workers)
    with traffic(workers, "shop", publish_timeout_s=30) as shop:
        eventually(lambda: rows(services, "analytics_daily"), what="no flush came")
        for go_away in (own_servers.postgres.stop, own_servers.postgres.kill):
            go_away()
            since, before = time.monotonic(), consumed(services)
            eventually(
                lambda before=before, since=since: (
                    consumed(services) > before + EVENTS_A_SECOND
                    and time.monotonic() > since + OUTAGE_S
                ),
                timeout_s=OUTAGE_S + 30,
                what="events were not counted while Postgres was away",
            )
            # Nothing is claimed for a Postgres that is not there: the counters wait as they are.
            assert services.claims.pending() > EVENTS_A_SECOND
            assert len(services.claims.open_batches()) <= 10
            own_servers.postgres.start()
        shop.stop()

    eventually(lambda: all_is_stored(services), what="beat's flush did not store all")
    assert_each_counted_once(services, shop.users("accepted"), set())
    assert not shop.users("unsure")


def test_events_accepted_while_redis_is_killed_again_and_again_are_counted_once(
    own_servers: PrivateServers, services: Services, workers: Workers
) -> None:
    assert own_servers.redis is not None
    start_all(workers)
    with ExitStack() as stack:
        patient = stack.enter_context(traffic(workers, "patient", publish_timeout_s=30))
        hasty = stack.enter_context(traffic(workers, "hasty", publish_timeout_s=0.1))
        for _ in range(KILLS):
            sent, before = len(patient.users("accepted")), consumed(services)
            eventually(
                lambda sent=sent, before=before: (
                    len(patient.users("accepted")) > sent + EVENTS_A_SECOND
                    and consumed(services) > before + EVENTS_A_SECOND
                ),
                what="traffic did not go on",
            )
            own_servers.redis.kill()
            unsure = len(hasty.users("unsure"))
            eventually(lambda unsure=unsure: len(hasty.users("unsure")) > unsure)
            own_servers.redis.start()
            services.redis.connection_pool.disconnect()
        patient.stop()
        hasty.stop()

    eventually(lambda: all_is_stored(services), 40, "not all was counted and stored")
    accepted = patient.users("accepted") | hasty.users("accepted")
    assert_each_counted_once(services, accepted, hasty.users("unsure"))
    assert not patient.users("unsure")
