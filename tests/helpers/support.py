"""What tests share: waiting on conditions, events and messages to count, worker processes."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from base64 import b64decode
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, TypeVar
from uuid import uuid4

import redis
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from sqlalchemy import text

from pipeline.counting.batch import Applied, Delivery
from pipeline.event.model import Event
from pipeline.flushing.claims import Claim, Claims
from pipeline.intake.unacknowledged import Fetch, Unacknowledged
from pipeline.redis.keys import PAD, bucket_of, key_text
from pipeline.services import Services
from tests.helpers.forking import orders

ROOT = Path(__file__).resolve().parents[2]
NOW = datetime(2025, 3, 14, 15, 9, 26, tzinfo=UTC)
"""The clock of tests that do not ask for the real one."""
TODAY = NOW.date()

Found = TypeVar("Found")


def eventually(condition: Callable[[], Found], timeout_s: float = 45, what: str = "") -> Found:
    """Wait until `condition` returns something true, and return it; fail after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    pause, pause_s = threading.Event(), 0.002
    while not (found := condition()):
        message = what or "the condition did not come true"
        assert time.monotonic() < deadline, f"{message} within {timeout_s:g} s; last: {found!r}"
        pause.wait(pause_s)
        pause_s = min(pause_s * 1.5, 0.02)
    return found


def event(event_type: str = "page_view", user_id: str | None = None, **fields: Any) -> Event:
    """A valid event, of `NOW` unless it brings a timestamp."""
    return Event.create(event_type, user_id, now=NOW, **fields)


def json_values_of(texts: SearchStrategy[str]) -> SearchStrategy[Any]:
    """JSON that has every kind of value, with these texts."""
    finite = st.floats(allow_nan=False, allow_infinity=False)
    return st.recursive(
        st.none() | st.booleans() | st.integers() | finite | texts,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
        max_leaves=9,
    )


def message(*events: Event, task_id: str | None = None, **delivery: Any) -> Delivery:
    """A message of a producer without numbers: its task id is remembered."""
    return Delivery(events=events, task_id=task_id or uuid4().hex, **delivery)


def count_events(services: Services, *events: Event) -> Applied:
    """Count the events as one message."""
    return services.counters.apply([message(*events)], datetime.now(UTC))


def count_users(services: Services, users: int) -> None:
    """Count an event of each of so many users, a multiple of a thousand."""
    for first in range(0, users, 1_000):
        count_events(services, *[event(user_id=f"u{first + n}") for n in range(1_000)])


def live_counts(services: Services) -> dict[str, int]:
    """Every live counter with its count, by name: keys of their own, and fields of buckets."""
    client, keys = services.redis, services.keys
    counts = {}
    for kind in ("counter", "gap", "user", "dim"):
        for key in client.scan_iter(f"{keys.prefix}{kind}:*"):
            counts[key_text(key)] = int(client.get(key) or 0)
    for bucket in keys.live_buckets:
        for field, count in client.hgetall(bucket).items():
            if field != PAD.encode():
                counts[keys.name_of(key_text(field))] = int(count)
    return counts


def live_count(services: Services, name: str) -> int | None:
    """The live count of a user's or a value's counter, which has this name; None without one."""
    found = services.redis.hget(*field_place(services, name))
    return None if found is None else int(found)


def field_place(services: Services, name: str) -> tuple[str, str]:
    """The live bucket of the counter that has this name, and its field there."""
    place = services.keys.field_of(name)
    assert place is not None, f"{name} has a key of its own"
    return services.keys.live_buckets[place[0]], place[1]


def users_of_one_bucket(users: int, bucket: int = 0) -> list[str]:
    """So many user ids whose counters are in the same bucket."""
    ids = (f"u{n}" for n in itertools.count())
    return list(itertools.islice((one for one in ids if bucket_of(one) == bucket), users))


def counts_of(claims: Claims, claim: Claim) -> dict[str, int]:
    """All counts of a claimed batch, by the names of their counters."""
    counts = dict(claim.named)
    for page in claims.read_buckets(claim):
        for field, count in page.items():
            counts[claims.keys.name_of(key_text(field))] = int(count)
    return counts


def store(services: Services, claim: Claim) -> int:
    """Store a claimed batch without settling it; returns how many counters."""
    with services.store.transaction() as transaction:
        stored = transaction.save(claim, services.claims.read_buckets(claim))
    assert stored is not None
    return stored


def rows(services: Services, table: str) -> list[tuple[Any, ...]]:
    """The key columns and the count of a counter table, sorted."""
    with services.engine.connect() as connection:
        found = connection.execute(text(f"SELECT * FROM {table}"))
        counted = slice(0, -1)  # without updated_at
        return sorted(tuple(row)[counted] for row in found)


def fetched(services: Services, tag: str, *events: Event, **delivery: Any) -> Delivery:
    """A message that a worker has fetched and not acknowledged, as kombu keeps it."""
    [one] = all_fetched(services, Delivery(events=events, tag=tag, **delivery))
    return one


def all_fetched(services: Services, *deliveries: Delivery) -> tuple[Delivery, ...]:
    """The same of several messages."""
    tags = [str(delivery.tag) for delivery in deliveries]
    services.redis.hset(services.keys.unacked, mapping=dict.fromkeys(tags, "[]"))
    services.redis.zadd(services.keys.unacked_index, dict.fromkeys(tags, NOW.timestamp()))
    return deliveries


def waiting_letters(services: Services) -> list[dict[bytes, bytes]]:
    """The fields of the dead letters in Redis."""
    return [fields for _, fields in services.redis.xrange(services.keys.dead)]


def everything(client: redis.Redis) -> dict[bytes, bytes]:
    """All that Redis holds, in its own form."""
    return {key: client.dump(key) for key in client.scan_iter()}


def stored_total(services: Services) -> int:
    """The sum of all daily counts in Postgres."""
    return sum(row[-1] for row in rows(services, "analytics_daily"))


def execute(services: Services, statement: str) -> Any:
    """Run one SQL statement; returns the rows, if it has any."""
    with services.engine.begin() as connection:
        found = connection.execute(text(statement))
        return found.all() if found.returns_rows else None


QUEUE = "analytics.events"


def sent(client: redis.Redis) -> list[dict[str, Any]]:
    """The messages in the events queue, in the order in which they were sent."""
    return [json.loads(text) for text in reversed(client.lrange(QUEUE, 0, -1))]


def fetch(services: Services) -> list[tuple[str, bytes]]:
    """Take what waits in the events queue, as a worker does; returns delivery tags and texts."""
    return Fetch(services.redis, services.keys, [QUEUE]).answer()


def restore(services: Services, older_than_s: int = -1) -> int:
    """Give back what was fetched so long ago, as a worker does; returns how many messages."""
    return Unacknowledged(services.redis, services.keys).give_back_older(older_than_s)


def arguments(message: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of the task that a message asks for."""
    args, kwargs, _ = json.loads(b64decode(message["body"]))
    return args, kwargs


def counted_here(client: redis.Redis) -> dict[str, int]:
    """Live daily counts by event type, all days together."""
    counts: Counter[str] = Counter()
    for name in client.scan_iter("analytics:counter:*:????-??-??"):
        counts[name.decode().split(":")[2]] += int(client.get(name) or 0)
    return dict(counts)


def environment_without_settings() -> dict[str, str]:
    """This process's environment without any `ANALYTICS_…` variable."""
    return {name: value for name, value in os.environ.items() if not name.startswith("ANALYTICS_")}


def check_celery_app_is_unused() -> None:
    """Fail where the app of workers has taken settings in this process: for good, and with them
    connections, which a later test would take for those of its own servers."""
    module = sys.modules.get("tasks.app")
    assert module is None or not module.app.configured, "what asks workers needs its own process"


def start_group(
    command: list[str], output: IO[bytes], environment: Mapping[str, str], cwd: Path = ROOT
) -> subprocess.Popen[bytes]:
    """Start a process without input in a process group of its own, with this environment."""
    return subprocess.Popen(
        command,
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def start_module(
    module: str, arguments: Sequence[str], output: IO[bytes], environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Start `python -m MODULE ARGUMENTS…` as `start_group` does: forked, where it can be, from a
    parent that has it imported, which spares a second of work."""
    if orders.can_fork(module, arguments, environment, environment_without_settings()):
        streams = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output}
        return orders.Forked(module, arguments, environment, **streams)
    return start_group([sys.executable, "-m", module, *arguments], output, environment)


@dataclass(frozen=True)
class Worker:
    """A process of the `celery` command in a process group of its own."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def said(self) -> str:
        """Its log so far."""
        return self.log.read_text(errors="replace")

    def alive(self) -> bool:
        """Whether it runs."""
        return self.process.poll() is None

    def kill(self) -> None:
        """SIGKILL the process and its children."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self, timeout_s: float = 15) -> int:
        """End it warmly, as SIGTERM does; returns the exit code."""
        self.ask_to_stop()
        return self.wait(timeout_s)

    def ask_to_stop(self) -> None:
        """Begin a warm end."""
        if self.alive():
            self.process.send_signal(signal.SIGTERM)

    def wait(self, timeout_s: float) -> int:
        """Wait for the end and kill what is left of the group; returns the exit code."""
        try:
            return self.process.wait(timeout_s)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


class Workers:
    """Starts workers with the settings of one test; all of them end with it."""

    OPTIONS: Mapping[str, tuple[str, ...]] = {
        "events": ("-Q", "analytics.events", "-P", "solo"),
        "flush": ("-Q", "analytics.flush,analytics.maintenance", "-c", "1"),
    }

    def __init__(self, environment: Mapping[str, str], directory: Path) -> None:
        self.environment = {**environment_without_settings(), **environment}
        self.directory = directory
        self.started: list[Worker] = []

    def start(self, kind: str, *options: str, ready: bool = True, **settings: str) -> Worker:
        """Start an "events" or "flush" worker and wait until it is ready.

        `settings` are environment variables without their prefix, such as COUNT_BY='{…}'.
        """
        name = f"{kind}{len(self.started) + 1}"
        arguments = ["worker", *self.OPTIONS[kind], "-n", f"{name}@tests", "-l", "INFO"]
        arguments += ["--without-gossip", "--without-mingle", *options]
        worker = self.celery(name, *arguments, **settings)
        if ready:
            eventually(
                lambda: "ready." in worker.said() or not worker.alive(), 30, f"{name} is not ready"
            )
            assert worker.alive(), f"worker {name} ended:\n{worker.said()}"
        return worker

    def celery(self, name: str, *arguments: str, **settings: str) -> Worker:
        """Start `celery -A tasks` with any arguments."""
        log = self.directory / f"{name}.log"
        with log.open("wb") as output:
            process = start_module(
                "celery",
                ["-A", "tasks", *arguments],
                output,
                self.environment | {f"ANALYTICS_{k}": v for k, v in settings.items()},
            )
        self.started.append(Worker(name, process, log))
        return self.started[-1]

    def kill(self) -> None:
        """SIGKILL all that still run: a warm end takes seconds. Flower asks workers now and then,
        and would leave the queue of their answers in Redis: it ends warmly."""
        for worker in self.started:
            if worker.name == "flower":
                worker.stop()
        for worker in self.started:
            worker.kill()
