"""What Prometheus is told, and that each metric is known and right."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text

from config.options import pipeline_options
from config.settings import Settings
from pipeline.contract import FLUSH_COUNTERS
from pipeline.lanes.lanes import Lanes
from pipeline.lanes.ticks import note_tick
from pipeline.metrics.reading import StateReader
from pipeline.metrics.state import PREFIX, STATE_METRICS, make_registry
from pipeline.services import Services, connect
from tests.conftest import MakeServices
from tests.helpers.support import (
    ROOT,
    count_events,
    environment_without_settings,
    event,
    eventually,
)


def scraped(services: Services) -> dict[str, float]:
    """The metrics by name; of one with a label its last value."""
    told = generate_latest(make_registry(StateReader(services).read)).decode()
    return {
        sample.name.removeprefix(PREFIX): sample.value
        for family in text_string_to_metric_families(told)
        for sample in family.samples
    }


def test_every_metric_is_told(services: Services) -> None:
    note_tick(services.redis, services.keys)
    count_events(services, event())
    lanes = Lanes(services.redis, services.keys)
    run = lanes.begin(FLUSH_COUNTERS, "request")
    assert run is not None
    services.flush()
    lanes.end(run, is_done=True)

    assert scraped(services).keys() == {one.name for one in STATE_METRICS}


def test_a_metric_shows_what_happened(make_services: MakeServices) -> None:
    services = make_services(event_log_max_entries=1)
    count_events(services, event(user_id="u1"), event(event_id="e"))
    count_events(services, event(event_id="e"), event())  # there is room for one entry in the log

    found = scraped(services)

    assert found["up"] == found["books_balanced"] == 1
    assert (found["counted_events_total"], found["duplicate_events_total"]) == (3, 1)
    assert (found["event_log_entries"], found["event_log_lag_entries"]) == (1, 1)
    assert (found["event_log_events"], found["unlogged_events_total"]) == (2, 1)
    assert found["event_log_bytes"] > 0
    assert found["pending_counters"] == services.claims.pending()
    assert (found["claims_total"], found["audit_drift"]) == (0, 0)
    services.flush()
    services.archive_events()
    found = scraped(services)
    assert (found["pending_counters"], found["event_log_entries"]) == (0, 0)
    assert found["claims_total"] == 1


def test_consumers_of_the_log_are_told_without_a_label_for_each(services: Services) -> None:
    count_events(services, event())
    services.event_log.open()
    began_s = time.monotonic()
    services.event_log.read(0, "c1", 10)
    found = scraped(services)
    assert found["event_log_consumers"] == 1
    assert 0 <= found["event_log_consumer_idle_seconds"] <= time.monotonic() - began_s
    assert found["event_log_pending_entries"] == 1


@pytest.mark.parametrize("away", ["redis", "postgres"])
def test_a_server_that_is_away_is_told(redis_url: str, postgres_url: str, away: str) -> None:
    if away == "redis":
        redis_url = "redis://127.0.0.1:1/0"
    else:
        postgres_url = "postgresql://nobody@127.0.0.1:1/none"
    services = connect(pipeline_options(Settings()), redis_url, postgres_url)
    found = scraped(services)
    services.close()
    assert found["up"] == found[f"{away}_up"] == 0
    assert ("pending_counters" in found) == (away == "postgres")


def test_a_postgres_that_stands_still_is_waited_for_once(services: Services) -> None:
    count_events(services, event())
    reader = StateReader(services, postgres_timeout_s=0.2)
    with services.engine.begin() as connection:
        connection.execute(text("LOCK TABLE flush_batches"))
        states = [reader.read() for _ in range(3)]
        with services.engine.connect() as other:
            waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            assert other.execute(text(waiting)).scalar_one() == 1
    assert [one["postgres_up"] for one in states] == [False] * 3
    assert [one["books"]["counted"] for one in states] == [1] * 3
    eventually(lambda: reader.read()["postgres_up"])


def test_the_command_serves_them_until_it_is_told_to_stop(
    services: Services, redis_url: str, postgres_url: str
) -> None:
    count_events(services, event())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    urls = {"ANALYTICS_REDIS_URL": redis_url, "ANALYTICS_POSTGRES_URL": postgres_url}
    environment = environment_without_settings() | urls
    command = [sys.executable, "-m", "pipeline.cli", "metrics", "--port", str(port)]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert f":{port}/metrics" in process.stdout.readline().decode()
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
                told = answer.read().decode()
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 130
        finally:
            process.kill()
    assert "analytics_counted_events_total 1.0" in told
    once = subprocess.run(
        [*command[:4], "--once"], cwd=ROOT, env=environment, capture_output=True, check=True
    )
    assert "analytics_counted_events_total 1.0" in once.stdout.decode()
