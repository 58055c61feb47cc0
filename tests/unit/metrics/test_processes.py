"""Numbers of several processes, served by one: none is lost or added twice, however they end."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from pipeline.measures import EVENTS, HTTP_S, MEASURES, is_measured
from pipeline.metrics.directory import MetricsDirectory
from pipeline.metrics.processes import ProcessCollector
from pipeline.metrics.tally import Rows, Tally, make_row
from tests.helpers.redis_nodes import free_port
from tests.helpers.support import ROOT, environment_without_settings, eventually

Start = Callable[[int, int], "subprocess.Popen[str]"]
COUNTED = (EVENTS.name, ("counted",))
PROCESS = """
import os, sys
from pipeline.measures import EVENTS, HTTP_S
from pipeline.metrics import processes
processes.begin("events", "127.0.0.1", int(sys.argv[1]))
EVENTS.note(10, "counted")
for _ in range(int(sys.argv[2])):
    if os.fork() == 0:  # its parent's threads hold locks, and its numbers are its own
        EVENTS.note(1, "counted")
        HTTP_S.note(0.003, "api", "2xx")
        processes.end_child()
        os._exit(0)
    os.wait()
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    running: list[subprocess.Popen[str]] = []
    environment = environment_without_settings() | {"TMPDIR": str(tmp_path)}

    def start_process(port: int, children: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", PROCESS, str(port), str(children)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        running.append(subprocess.Popen(command, cwd=ROOT, env=environment, text=True, **pipes))
        return running[-1]

    yield start_process
    for process in running:
        process.kill()
        process.communicate()


def scrape(port: int) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""


def says(port: int, *lines: str) -> bool:
    found = scrape(port).splitlines()
    return all(f"analytics_{line}" in found for line in lines)


def test_one_port_has_the_numbers_of_all_processes_and_forked_children(start: Start) -> None:
    port = free_port()
    first = start(port, 2)
    eventually(lambda: says(port, 'worker_events_total{outcome="counted"} 12.0'))
    start(port, 1)
    told = ('worker_events_total{outcome="counted"} 23.0', 'processes{role="events"} 2.0')
    eventually(lambda: says(port, *told))
    http = 'http_request_duration_seconds_bucket{le="0.005",part="api",status="2xx"} 3.0'
    assert says(port, http)

    first.send_signal(signal.SIGKILL)  # which served
    first.wait()

    told = ('worker_events_total{outcome="counted"} 23.0', 'processes{role="events"} 1.0')
    eventually(lambda: says(port, *told), 10)


def test_a_port_of_another_program_is_said_and_ends_nothing(start: Start) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        process = start(other.getsockname()[1], 0)
        assert process.stdout is not None
        said = process.stdout.readline() + process.stdout.readline()
    assert "ready" in said
    assert "give a free ANALYTICS_METRICS_PORT" in said
    assert process.poll() is None


def test_what_ended_processes_left_is_added_once_and_removed(tmp_path: Path) -> None:
    directory = MetricsDirectory(tmp_path / "metrics")
    entry = directory.enter("events")
    entry.write({COUNTED: [5.0]})
    kept = {path.name: path.read_bytes() for path in directory.path.iterdir()}
    assert directory.read().processes == {"events": 1}
    entry._lock.close()  # as the kernel does when it ends

    for _ in range(2):
        found = directory.read()
        assert found.rows[COUNTED] == [5.0]
        assert not found.processes
        # A crash after they were added, and before they were removed.
        for name, content in kept.items():
            (directory.path / name).write_bytes(content)
    directory.read()
    assert [path.name for path in directory.path.iterdir()] == ["ended.json"]


def test_a_damaged_file_and_a_row_of_another_version_are_left_out(tmp_path: Path) -> None:
    directory = MetricsDirectory(tmp_path / "metrics")
    entries = [directory.enter("web") for _ in range(3)]
    rows: list[Rows] = [{COUNTED: [1.0]}, {(HTTP_S.name, ("api", "2xx")): [1.0, 2.0]}, {}]
    for entry, row in zip(entries, rows, strict=True):
        entry.write(row)
    entries[2]._path.write_text("{")

    registry = CollectorRegistry(auto_describe=False)
    registry.register(ProcessCollector(directory))
    text = generate_latest(registry).decode()

    assert 'analytics_worker_events_total{outcome="counted"} 1.0' in text
    assert "http_request_duration_seconds_count" not in text


def test_a_child_forked_while_a_thread_adds_does_not_wait_for_its_lock(tmp_path: Path) -> None:
    tally = Tally(lambda: None)
    with tally._lock:
        tally.forget()  # what the child does
        added = threading.Thread(target=tally.keep, args=(EVENTS, 1, ("counted",)), daemon=True)
        added.start()
        added.join(5)
    assert tally.copy() == {COUNTED: [1]}


def test_buckets_hold_what_is_at_most_their_bound() -> None:
    tally = Tally(lambda: None)
    for seconds in (0.0, 0.001, 0.0011, 99.0):
        tally.keep(HTTP_S, seconds, ("api", "2xx"))
    [row] = tally.copy().values()
    assert row[:2] == [2, 1]
    assert row[-2:] == [1, pytest.approx(99.0021)]
    assert len(row) == len(make_row(HTTP_S))


def test_nothing_is_measured_by_default() -> None:
    assert not is_measured()
    EVENTS.note(1, "counted")


@pytest.mark.parametrize("measure", MEASURES, ids=lambda one: one.name)
def test_a_measure_is_named_by_convention(measure: object) -> None:
    assert measure.name.endswith("_total") != bool(measure.buckets)
    assert list(measure.buckets) == sorted(measure.buckets)
