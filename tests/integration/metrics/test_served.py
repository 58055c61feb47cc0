"""What workers and the web server serve of what happens in them, as Prometheus reads it."""

from __future__ import annotations

import os
import shutil
import subprocess
import urllib.request
from pathlib import Path

import httpx
import pytest
from celery import Celery
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from pipeline.access.key_store import AccessKeyStore
from pipeline.contract import ARCHIVE_EVENTS, FLUSH_COUNTERS, FLUSH_QUEUE
from pipeline.lanes.ticks import note_tick
from pipeline.measures import MEASURES
from pipeline.metrics.reading import StateReader
from pipeline.metrics.state import PREFIX, make_registry
from pipeline.services import Services
from tests.helpers.redis_nodes import free_port
from tests.helpers.support import Workers, count_events, event, eventually, stored_total
from tests.helpers.web_process import WebProcess, wait_until_consumed

COUNTS = {f"{one.name}_count": one for one in MEASURES if one.buckets}


def promtool() -> str:
    """The program. Where there is none, skips; where CI is set, fails."""
    found = shutil.which("promtool")
    if found is None:
        without = pytest.fail if os.environ.get("CI") else pytest.skip
        without("promtool is not installed (on Debian: apt-get install prometheus)")
    return str(found)


def check_with_promtool(text: str) -> None:
    command = [promtool(), "check", "metrics"]
    checked = subprocess.run(command, input=text, text=True, capture_output=True, check=False)
    assert (checked.returncode, checked.stderr, checked.stdout) == (0, "", "")


class Scraped:
    """The samples that a port serves at this moment."""

    def __init__(self, port: int) -> None:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            self.text = answer.read().decode()
        self.samples = [
            (one.name.removeprefix(PREFIX), one.labels, one.value)
            for family in text_string_to_metric_families(self.text)
            for one in family.samples
        ]

    def sum(self, wanted: str, **labels: str) -> float:
        """All samples of this name that have these labels."""
        return sum(
            value
            for name, found, value in self.samples
            if name == wanted and labels.items() <= found.items()
        )


def test_workers_and_the_web_server_serve_what_happens_in_them(
    services: Services, workers: Workers, redis_url: str, tmp_path: Path
) -> None:
    port = free_port()
    workers.environment |= {"TMPDIR": str(tmp_path), "ANALYTICS_METRICS_PORT": str(port)}
    workers.start("events")
    workers.start("flush")
    web = WebProcess(workers).start()
    _, key = AccessKeyStore(services.redis, services.keys).create("write", "shop")
    with httpx.Client(base_url=web.origin, auth=(key, "")) as client:
        sent = {"event_type": "page_view", "event_id": "e"}
        statuses = [client.post("/track", json=sent).status_code for _ in range(2)]
        assert statuses == [200, 200]
        assert client.post("/track", content=b"{").status_code == 400
        assert client.get("/livez").status_code == 200
        assert client.get("/dashboard/").status_code < 500
    wait_until_consumed(services)
    for task in (FLUSH_COUNTERS, ARCHIVE_EVENTS):
        Celery(broker=redis_url).send_task(task, queue=FLUSH_QUEUE)
    eventually(lambda: stored_total(services) == 1)

    def is_complete() -> Scraped | None:
        found = Scraped(port)
        return found if all(found.sum(name) for name in COUNTS) else None

    found = eventually(is_complete, 10, "not everything is measured")
    outcomes = {
        name: found.sum("worker_events_total", outcome=name) for name in ("counted", "dead")
    }
    assert outcomes == {"counted": 1, "dead": 0}
    assert found.sum("worker_events_total", outcome="duplicate") == 1
    assert found.sum("publish_batch_events_sum") == 2
    assert found.sum("flush_batch_counters_sum") >= 1
    assert found.sum("archive_batch_events_sum") == 1
    assert found.sum("task_duration_seconds_count", task="flush_counters", outcome="done") == 1
    assert found.sum("http_request_duration_seconds_count", part="collector", status="4xx") == 1
    assert found.sum("http_request_duration_seconds_count", part="health", status="2xx") == 1
    # The flush worker and the processes of its pool, an event worker, the web server.
    roles = {role: found.sum("processes", role=role) for role in ("events", "web")}
    assert roles == {"events": 1, "web": 1}
    assert found.sum("processes", role="flush") >= 2
    assert found.sum("process_resident_memory_bytes", role="web") > 20e6
    check_with_promtool(found.text)


def test_promtool_accepts_the_state(services: Services) -> None:
    note_tick(services.redis, services.keys)
    count_events(services, event())
    services.flush()
    check_with_promtool(generate_latest(make_registry(StateReader(services).read)).decode())
