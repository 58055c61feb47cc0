"""Each outage raises its alarm and no other, and the alarm clears by itself: by Prometheus, which
scrapes a real `analytics metrics`, and by `analytics watch`, which posts to a webhook."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import text

from pipeline.contract import FLUSH_COUNTERS, RECOUNT
from pipeline.embedded import PrivateServers
from pipeline.event.model import Event
from pipeline.lanes.lanes import Lanes
from pipeline.services import Services
from pipeline.upkeep.dead_letter_groups import drop_group, list_groups
from pipeline.watch.rules import make_rules
from tests.alarms.listeners import (
    Receiver,
    find_prometheus,
    list_firing,
    prometheus_command,
)
from tests.helpers.redis_nodes import free_port
from tests.helpers.support import (
    QUEUE,
    ROOT,
    Worker,
    Workers,
    count_events,
    event,
    eventually,
    execute,
    field_place,
    start_group,
)

_SOON_S = 20
SETTINGS = {"FLUSH_INTERVAL_S": "1"}
PROMETHEUS = """
global: {{scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms}}
rule_files: [alerts.yml]
scrape_configs:
  - job_name: analytics-state
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""


@dataclass
class Stage:
    """All that runs, and both who watch it."""

    services: Services
    servers: PrivateServers
    workers: Workers
    receiver: Receiver
    prometheus_port: int
    stack: ExitStack
    parts: dict[str, Worker] = field(default_factory=dict)

    def start(self, kind: str) -> None:
        """Start an "events" or "flush" worker, or "beat"."""
        if kind == "beat":
            self.parts[kind] = self.workers.celery("beat", "beat", "--pidfile=", **SETTINGS)
        else:
            self.parts[kind] = self.workers.start(kind, ready=False, **SETTINGS)

    def ask_prometheus(self) -> set[str]:
        """The alarms that fire there."""
        try:
            return list_firing(self.prometheus_port)
        except OSError:
            return {"prometheus is not there"}

    def expect(self, *alarms: str) -> None:
        """Both have raised these alarms, and no others."""
        expected, seen = set(alarms), ""

        def is_so() -> bool:
            nonlocal seen
            told, firing = self.receiver.raised, self.ask_prometheus()
            seen = f"{told} by watch, {firing} by Prometheus"
            return told == expected == firing

        try:
            eventually(is_so, _SOON_S)
        except AssertionError as error:
            raise AssertionError(f"{seen}, not {expected}: {self.receiver.notices}") from error


@contextmanager
def running(command: list[str], log: Path, environment: dict[str, str]) -> Iterator[None]:
    with log.open("wb") as output:
        process = start_group(command, output, environment)
    try:
        yield
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def stage(
    own_servers: PrivateServers, services: Services, workers: Workers, tmp_path: Path
) -> Iterator[Stage]:
    """Everything runs, and all is well."""
    program = find_prometheus()
    if program is None:
        assert not os.environ.get("CI"), "prometheus is not installed (package prometheus)"
        pytest.skip("needs prometheus (package prometheus)")
    metrics, port, receiver = free_port(), free_port(), Receiver(refusals=1)
    environment = {
        **workers.environment,
        "ANALYTICS_FLUSH_INTERVAL_S": "1",
        "ANALYTICS_ALARM_WEBHOOK": receiver.url,
        "PYTHONPATH": str(ROOT),
    }
    (tmp_path / "alerts.yml").write_text(make_rules().replace("for: 15s", "for: 500ms"))
    (tmp_path / "prometheus.yml").write_text(PROMETHEUS.format(port=metrics))
    ours = [sys.executable, "-P", "-m", "pipeline.cli"]
    commands = {
        "metrics": [*ours, "metrics", "--port", f"{metrics}"],
        "watch": [*ours, "watch", "--every", "0.5", "--state", f"{tmp_path}/watch/alarms.json"],
        "prometheus": prometheus_command(program, tmp_path, port),
    }
    services.maintain(datetime.now(UTC))
    with ExitStack() as stack:
        built = Stage(services, own_servers, workers, receiver, port, stack)
        for kind in ("events", "flush", "beat"):
            built.start(kind)
        eventually(lambda: services.redis.zcard(services.keys.workers) == 2, 30)
        eventually(lambda: services.redis.hexists(services.keys.requests, "beat:ticked_ms"), 30)
        stack.callback(receiver.close)
        for name, command in commands.items():
            stack.enter_context(running(command, tmp_path / f"{name}.log", environment))
        yield built


def block_flush(stage: Stage) -> Callable[[], None]:
    """A session holds a lock, and the flush has waited for it for a while."""
    connection = stage.services.engine.connect()
    stage.stack.callback(connection.close)
    connection.execute(text("LOCK analytics_daily IN ACCESS EXCLUSIVE MODE"))
    count_events(stage.services, event())
    client, lane = stage.services.redis, stage.services.keys.lane("flush")
    eventually(lambda: client.exists(lane) and stage.services.claims.open_batches(), _SOON_S)
    # As if flushes had failed, and been tried again, for a while.
    requests = stage.services.keys.requests
    client.hincrby(requests, f"{FLUSH_COUNTERS}:ended_ms", -200_000)
    client.hincrby(requests, f"{FLUSH_COUNTERS}:tried_ms", -100_000)
    return connection.close


def fill_redis(stage: Stage) -> Callable[[], None]:
    client = stage.services.redis
    client.config_set("maxmemory", round(client.info("memory")["used_memory"] / 0.95))
    return lambda: client.config_set("maxmemory", 0)


def stop_postgres(stage: Stage) -> Callable[[], None]:
    postgres = stage.servers.postgres
    assert postgres is not None
    postgres.kill()
    return postgres.start


def kill_worker(stage: Stage) -> Callable[[], None]:
    stage.parts["events"].kill()
    client, workers = stage.services.redis, stage.services.keys.workers
    for name in client.zrange(workers, 0, -1):
        if name.startswith(b"events:"):
            client.zincrby(workers, -65, name)
    return lambda: stage.start("events")


def stop_beat(stage: Stage) -> Callable[[], None]:
    stage.parts["beat"].kill()
    stage.services.redis.hincrby(stage.services.keys.requests, "beat:ticked_ms", -65_000)
    return lambda: stage.start("beat")


def send_bad_event(stage: Stage) -> Callable[[], None]:
    stage.services.redis.lpush(QUEUE, "no message")

    def mend() -> None:
        stage.services.move_dead_letters()
        [group] = list_groups(stage.services.engine, 10)
        assert drop_group(stage.services.engine, group.id, group.last_at) == 1

    return mend


def tamper_with_books(stage: Stage) -> Callable[[], None]:
    client, totals = stage.services.redis, stage.services.keys.totals
    client.hincrby(totals, "counted", 5)
    return lambda: client.hincrby(totals, "counted", -5)


def tamper_with_counters(stage: Stage) -> Callable[[], None]:
    """A row of a user, and a live counter; the recount finds both, when it is next due."""
    services = stage.services
    client, now = services.redis, datetime.now(UTC)
    count_events(services, Event.create("page_view", "u1", now=now))
    services.flush()
    count_events(services, Event.create("sale", "u2", now=now))
    live = field_place(services, services.keys.user("u2", "sale", f"{now:%F}"))

    def make_due() -> None:
        for what in ("began_ms", "ended_ms"):
            client.hincrby(services.keys.requests, f"{RECOUNT}:{what}", -45_000)

    def mend() -> None:
        services.flush()  # as it was changed
        execute(services, "UPDATE analytics_user_daily SET count = count - 3")
        make_due()

    client.hincrby(*live, 3)
    execute(services, "UPDATE analytics_user_daily SET count = count + 3 WHERE user_id = 'u1'")
    make_due()
    return mend


OUTAGES = {
    block_flush: "flush_late",
    fill_redis: "redis_nearly_full",
    stop_postgres: "postgres_away",
    kill_worker: "no_event_worker",
    stop_beat: "beat_silent",
    send_bad_event: "dead_letters",
    tamper_with_books: "books_off",
    tamper_with_counters: "audit_off",
}


def test_each_outage_raises_its_alarm_and_no_other_and_the_mend_clears_it(stage: Stage) -> None:
    stage.expect()
    assert stage.receiver.notices == []
    for strike, alarm in OUTAGES.items():
        mend = strike(stage)
        stage.expect(alarm)
        mend()
        stage.expect()
    told = [(one["alarm"], one["status"]) for one in stage.receiver.notices]
    assert told == [
        (alarm, status) for alarm in OUTAGES.values() for status in ("raised", "cleared")
    ]
    assert Lanes(stage.services.redis, stage.services.keys).measure_rest_s(FLUSH_COUNTERS)[0] < 60
    for one in stage.receiver.notices:
        assert (ROOT / one["page"]).is_file()
        assert one["what"]
        assert one["remedy"]
