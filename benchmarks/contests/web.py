"""The web server under load: single events and batches into the collector, counts out of the
API."""

from __future__ import annotations

import base64
import json
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import quantiles
from uuid import uuid4

from benchmarks.report.report import Measured
from benchmarks.stage import load, sides
from benchmarks.stage.processes import Cores, Worker, celery_worker, running
from benchmarks.stage.sides import Side
from benchmarks.stage.stage import EVENT_TYPE, PROPERTIES, Stage, users, wait_until
from pipeline.access.key_store import AccessKeyStore
from pipeline.contract import EVENTS_QUEUE

_CONNECTIONS = 64
_CONNECTIONS_OF_BATCHES = 8
_EVENTS_IN_A_BATCH = 100
_WANTED_EVENTS_A_SECOND = 40_000.0


@dataclass(frozen=True)
class _Hall:
    """The servers under load, and what is presented to ours."""

    stage: Stage
    web: Worker
    web_port: int
    bare_port: int
    worker: Worker
    counting: Side
    write: Mapping[str, str]
    read: Mapping[str, str]

    def singles(self, port: int, requests: int, cores: Cores | None = None) -> float:
        """Requests a second, each with one event."""
        stamp = uuid4().hex
        prepared = [
            load.request("POST", "/v1/track", self.write, _encode(_call(user, f"{stamp}-{at}")))
            for at, user in enumerate(users(requests))
        ]
        with cores or nullcontext():
            began = time.perf_counter()
            load.send_all(port, prepared, _CONNECTIONS)
            elapsed_s = time.perf_counter() - began
        self.drain()
        return requests / elapsed_s

    def batches(self, requests: int, cores: Cores) -> float:
        """Events a second, from the first request sent to the last event counted."""
        prepared = [
            load.request("POST", "/v1/batch", self.write, _batch()) for _ in range(requests)
        ]
        events = requests * _EVENTS_IN_A_BATCH
        target = self.counting.counted() + events
        self.worker.resume()
        with cores:
            began = time.perf_counter()
            load.send_all(self.web_port, prepared, _CONNECTIONS_OF_BATCHES)
            self.counting.wait_until_counted(target)
            elapsed_s = time.perf_counter() - began
        self.drain()
        return events / elapsed_s

    def drain(self) -> None:
        """Have everything counted that was taken, and hold the worker still."""
        self.worker.resume()
        self.counting.wait_until_settled()
        self.worker.hold()

    def read_by_api(self, reads: int) -> float:
        """The p99 of a count of today, in milliseconds."""
        target = f"/api/stats/count?event_type={EVENT_TYPE}"
        request = load.request("GET", target, self.read)
        return _p99_ms(load.send_all(self.web_port, [request] * reads, 1))

    def read_directly(self, reads: int) -> float:
        """The p99 of the call behind it, and that of a route without one, added."""
        stats, today = self.stage.services.stats, datetime.now(UTC).date()
        took_s = []
        for _ in range(reads):
            began = time.perf_counter()
            stats.count(EVENT_TYPE, today, today)
            took_s.append(time.perf_counter() - began)
        request = load.request("GET", "/count", {})
        return _p99_ms(took_s) + _p99_ms(load.send_all(self.bare_port, [request] * reads, 1))


def measure(stage: Stage) -> Measured:
    """Requests a second, events a second from socket to counted, and milliseconds of a read."""
    sizes = stage.sizes
    stage.say("starting the web servers and a worker")
    with _open_hall(stage) as hall:
        redis_pid = stage.redis_pid
        alone = Cores({"web": hall.web.pid, "Redis": redis_pid})
        together = Cores({"web": hall.web.pid, "worker": hall.worker.pid, "Redis": redis_pid})
        hall.singles(hall.web_port, 500)  # keys are read, connections made, code is warm
        samples = stage.interleave(
            {
                "single": lambda: hall.singles(hall.web_port, sizes.requests, alone),
                "bare": lambda: hall.singles(hall.bare_port, sizes.requests),
                "batches": lambda: hall.batches(sizes.batch_requests, together),
            }
        )
        samples |= stage.interleave(
            {
                "api": lambda: hall.read_by_api(sizes.api_reads),
                "stats": lambda: hall.read_directly(sizes.api_reads),
            }
        )
    samples["wanted"] = [_WANTED_EVENTS_A_SECOND]
    return Measured(
        samples,
        {"collector-bare": f"CPU used: {alone}.", "collector-batches": f"CPU used: {together}."},
    )


@contextmanager
def _open_hall(stage: Stage) -> Iterator[_Hall]:
    access = AccessKeyStore(stage.services.redis, stage.services.keys)
    user = base64.b64encode(f"{access.create('write', 'load')[1]}:".encode()).decode()
    web_port, bare_port = _free_port(), _free_port()
    # The limits are checked, and not reached.
    limits = dict.fromkeys(("KEY_EVENTS_PER_S", "ADDRESS_REQUESTS_PER_S"), "1000000")
    web = Worker(
        ["pipeline.cli", "web", "--port", f"{web_port}"],
        stage.directory / "web.log",
        **{f"ANALYTICS_{name}": value for name, value in limits.items()},
    )
    # As `analytics web` has itself served.
    options = ["--no-access-log", "--no-server-header", "--no-proxy-headers", "--ws", "none"]
    bare = Worker(
        ["uvicorn", "benchmarks.rivals.bare_route:app", "--port", f"{bare_port}", *options],
        stage.directory / "bare.log",
    )
    worker = celery_worker("tasks", EVENTS_QUEUE, stage.directory / "counting.log")
    with running(web, bare, worker):
        for port in (web_port, bare_port):
            _wait_for(port)
        counting = sides.ours(stage)
        counting.hold_when_ready(worker)
        yield _Hall(
            stage,
            web,
            web_port,
            bare_port,
            worker,
            counting,
            write={"Authorization": f"Basic {user}"},
            read={"Authorization": f"Bearer {access.create('read', 'load')[1]}"},
        )


def _call(user: str, message_id: str) -> dict[str, object]:
    return {
        "type": "track",
        "event": EVENT_TYPE,
        "userId": user,
        "messageId": message_id,
        "timestamp": datetime.now(UTC).isoformat(),
        "properties": PROPERTIES,
    }


def _batch() -> bytes:
    stamp = uuid4().hex
    calls = [_call(user, f"{stamp}-{at}") for at, user in enumerate(users(_EVENTS_IN_A_BATCH))]
    return _encode({"batch": calls, "sentAt": datetime.now(UTC).isoformat()})


def _encode(body: object) -> bytes:
    return json.dumps(body).encode()


def _p99_ms(took_s: Sequence[float]) -> float:
    return quantiles(took_s, n=100)[98] * 1e3


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def _wait_for(port: int) -> None:
    def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    wait_until(listens, f"port {port} answers")
