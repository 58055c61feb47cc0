"""What every contest stands on: private servers of this run, sizes, and rounds that interleave."""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from benchmarks.report.report import Samples
from benchmarks.stage import filler
from config.options import pipeline_options
from config.settings import Settings
from pipeline.embedded import PrivateServers
from pipeline.postgres import schema
from pipeline.postgres.sealing.tables import day_users, past_users, seals, user_numbers
from pipeline.postgres.tables import COUNTER_TABLES, archived_entries, events, flush_batches
from pipeline.producer.app import configure
from pipeline.services import Services, connect

EVENT_TYPE = filler.EVENT_TYPE
PROPERTIES = {"path": "/pricing", "referrer": "search", "duration_ms": 1250}
USERS = 5_000
_WORTH_PROCESSES = 2_000_000
_TABLES = [
    *(table.name for table in COUNTER_TABLES),
    *(table.name for table in (seals, user_numbers, day_users, past_users)),
    flush_batches.name,
    events.name,
    archived_entries.name,
]


@dataclass(frozen=True)
class Sizes:
    """How much each contest does; the rivals do as much as takes them about as long."""

    rounds: int
    rounds_with_always: int
    rounds_of_calls: int
    rounds_of_flush: int
    rounds_of_writers: int
    calls: int = 300
    tracked: int = 30_000
    our_messages: int = 60_000
    celery_messages: int = 1_200
    dramatiq_messages: int = 3_000
    our_batched_events: int = 200_000
    celery_events: int = 800
    asyncio_events: int = 6_000
    batches: int = 20
    benchmark_commands: int = 300_000
    flushed: int = 1_000_000
    flushed_daily: int = 200_000
    upserted: int = 50_000
    flushed_while_read: int = 500_000
    archived: int = 150_000
    funnel_events: int = 3_000_000
    requests: int = 20_000
    batch_requests: int = 1_000
    api_reads: int = 2_000
    daily_users: int = 50_000
    quiet_s: float = 5
    sustained_s: float = 300
    growth: tuple[int, ...] = (10_000, 100_000, 1_000_000, 10_000_000)


FULL = Sizes(
    rounds=3, rounds_with_always=1, rounds_of_calls=9, rounds_of_flush=2, rounds_of_writers=3
)
QUICK = Sizes(
    rounds=2,
    rounds_with_always=1,
    rounds_of_calls=3,
    rounds_of_flush=2,
    rounds_of_writers=1,
    calls=200,
    tracked=10_000,
    our_messages=20_000,
    celery_messages=500,
    dramatiq_messages=1_000,
    our_batched_events=50_000,
    celery_events=300,
    asyncio_events=2_000,
    batches=10,
    benchmark_commands=200_000,
    flushed=100_000,
    flushed_daily=20_000,
    upserted=5_000,
    flushed_while_read=100_000,
    archived=40_000,
    funnel_events=200_000,
    requests=5_000,
    batch_requests=300,
    api_reads=500,
    daily_users=20_000,
    quiet_s=3,
    sustained_s=15,
    growth=(10_000, 100_000, 1_000_000),
)


@dataclass(frozen=True)
class Stage:
    """The servers of this run, with everything connected. `say` tells what is measured now."""

    services: Services
    redis_url: str
    postgres_url: str
    directory: Path
    sizes: Sizes
    say: Callable[[str], None]

    @property
    def redis_pid(self) -> int:
        """The process of Redis."""
        pid: int = self.services.redis.info("server")["process_id"]
        return pid

    def interleave(
        self, measures: Mapping[str, Callable[[], float]], rounds: int | None = None
    ) -> Samples:
        """Measure every contestant once a round, in an order that rotates, so that whatever else
        the machine does in between meets all of them."""
        names = list(measures)
        samples: Samples = {name: [] for name in names}
        rounds = rounds or self.sizes.rounds
        for at in range(rounds):
            first = at % len(names)
            for name in names[first:] + names[:first]:
                self.say(f"round {at + 1} of {rounds}: {name}")
                samples[name].append(measures[name]())
        return samples

    def with_appendfsync_always(self) -> Stage:
        """The same stage, on which the first contests are held once more in fewer rounds."""
        self.services.redis.config_set("appendfsync", "always")
        rounds = self.sizes.rounds_with_always
        sizes = replace(self.sizes, rounds=rounds, rounds_of_calls=3 * rounds)
        return replace(self, sizes=sizes)

    def fill(self, counters: int) -> None:
        """Make so many counters of different users pending, as workers do, by applying events; by
        two processes where they are many."""
        if counters < _WORTH_PROCESSES:
            filler.fill(self.services.counters, range(counters))
        else:
            filler.fill_by_processes(counters)

    def used_bytes(self) -> int:
        """The memory that Redis's data takes: without the clients' buffers and the append-only
        file's."""
        memory = self.services.redis.info("memory")
        return int(memory["used_memory"]) - int(memory["mem_not_counted_for_evict"])

    def redis_cpu_s(self) -> float:
        """The CPU time that Redis has used, in all its threads."""
        used = self.services.redis.info("cpu")
        return float(used["used_cpu_user"]) + float(used["used_cpu_sys"])

    def wait_until_redis_rests(self) -> None:
        """Wait until it rewrites no append-only file, which takes a core for seconds and was made
        due by filling it, and has no memory left to free in the background."""
        redis = self.services.redis

        def rests() -> bool:
            rewrites = redis.info("persistence")["aof_rewrite_in_progress"]
            return not rewrites and not redis.info("memory")["lazyfree_pending_objects"]

        wait_until(rests, "Redis has nothing to do in the background")

    def connect_postgres(self) -> psycopg.Connection:
        """A connection of its own, without the transactions that psycopg would open by itself."""
        return psycopg.connect(self.postgres_url.replace("+psycopg", ""), autocommit=True)

    def clear(self) -> None:
        """Forget every key but kombu's bindings, which a rival's client declares only once, and
        wait until their memory is free; empty our tables, and write out what Postgres has in
        memory."""
        client = self.services.redis
        names = [name for name in client.scan_iter(count=1_000) if not name.startswith(b"_kombu")]
        for first in range(0, len(names), 1_000):
            client.unlink(*names[first : first + 1_000])
        self.wait_until_redis_rests()
        with self.connect_postgres() as postgres:
            postgres.execute(f"TRUNCATE {', '.join(_TABLES)}")
            postgres.execute("CHECKPOINT")


@contextmanager
def open_stage(sizes: Sizes, say: Callable[[str], None]) -> Iterator[Stage]:
    """Servers of our own with `appendfsync everysec`, a fresh schema, and an environment in which
    worker processes and rivals find them."""
    say("starting Redis and Postgres")
    with (
        tempfile.TemporaryDirectory() as directory,
        PrivateServers.start(Path(directory) / "servers", appendfsync="everysec") as servers,
    ):
        assert servers.redis_url is not None
        assert servers.postgres_url is not None
        os.environ |= {
            "ANALYTICS_REDIS_URL": servers.redis_url,
            "ANALYTICS_POSTGRES_URL": servers.postgres_url,
            "ANALYTICS_APPENDFSYNC": "everysec",
        }
        services = connect(pipeline_options(Settings()), servers.redis_url, servers.postgres_url)
        schema.migrate(services.engine)
        services.maintain(datetime.now(UTC))
        configure(redis_url=servers.redis_url)
        yield Stage(services, servers.redis_url, servers.postgres_url, Path(directory), sizes, say)
        services.close()


def users(count: int) -> list[str]:
    """The users of so many events: 5,000 of them, each as likely as any, the same in every run."""
    chosen = random.Random(count)
    return [f"u{chosen.randrange(USERS)}" for _ in range(count)]


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = 120) -> None:
    """Look every 5 ms until it holds. Raises TimeoutError."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout_s:g} s")
        time.sleep(0.005)
