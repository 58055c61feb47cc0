"""Flower, as `celery -A tasks flower` starts it: with the login it shows workers, queues and flush
tasks, and without it nothing.
"""

from __future__ import annotations

import base64
import json
import re
import socket
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery

from pipeline.access.flower_login import load_flower_login
from pipeline.contract import TRACK_EVENT
from pipeline.services import Services
from tasks.guarded_flower.failed_logins import AT_ONCE
from tests.helpers.redis_nodes import free_port
from tests.helpers.support import Workers, count_events, event, eventually, stored_total

ANSWER_S = 10
OK, LOGIN_NEEDED, TOO_MANY = 200, 401, 429
SENT = 50
"""Events; monitors are shown ten a second."""
Read = Callable[..., str]


@pytest.fixture
def flower(workers: Workers) -> Read:
    """Starts Flower; returns a function that reads one of its pages, or sends JSON to it."""
    _, read = start_flower(workers)
    return read


def start_flower(workers: Workers, prefix: str = "") -> tuple[str, Read]:
    """Start Flower; returns its address, and a function that reads, with the login which it keeps
    in the data directory, whatever the status is."""
    port = free_port()
    where = f"http://127.0.0.1:{port}{prefix}"
    process = workers.celery("flower", "flower", f"--port={port}", f"--url_prefix={prefix[1:]}")

    def answers() -> bool:
        assert process.alive(), process.said()
        try:
            return status_of(f"{where}/healthcheck") == OK
        except OSError:
            return False

    eventually(answers, 30, "Flower does not answer")
    kept = Path(workers.environment["ANALYTICS_DATA_DIR"]) / "flower-login.json"
    login = load_flower_login(kept.parent)
    encoded = base64.b64encode(f"{login.user}:{login.password}".encode()).decode()
    assert str(kept) in process.said()
    assert login.password not in process.said()

    def read(path: str, send: object = None, **headers: str) -> str:
        data = None if send is None else json.dumps(send).encode()
        headers["Authorization"] = f"Basic {encoded}"
        request = urllib.request.Request(f"{where}{path}", data, headers)
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_S) as answer:
                assert answer.headers["X-Frame-Options"] == "DENY"
                return str(answer.read().decode())
        except urllib.error.HTTPError as error:
            return error.read().decode()

    return where, read


def status_of(url: str, **request: Any) -> int:
    """The status of an answer without a login."""
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, **request), timeout=ANSWER_S
        ) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def cells(page: str) -> list[str]:
    """The texts of a page's table cells."""
    return [cell.strip() for cell in re.findall(r"<td[^>]*>([^<]*)</td>", page)]


def test_flower_shows_workers_queues_and_flush_tasks(
    services: Services, workers: Workers, flower: Read
) -> None:
    events_worker = workers.start("events")
    flush_worker = workers.start("flush")
    names = [f"{worker.name}@tests" for worker in (events_worker, flush_worker)]
    eventually(lambda: all(name in flower("/workers") for name in names), what="no workers")
    queues = eventually(lambda: _queues(flower("/api/workers?refresh=1"), names))
    assert queues == {
        names[0]: {"analytics.events"},
        names[1]: {"analytics.flush", "analytics.maintenance"},
    }

    check_counts_and_control(flower, *names)
    eventually(lambda: not events_worker.alive(), 20, "it is not shut down")
    services.redis.lpush("analytics.events", "one", "two")
    eventually(lambda: "analytics.events" in cells(flower("/broker")))
    shown = cells(flower("/broker"))
    assert shown[shown.index("analytics.events") + 1] == "2"
    assert {"analytics.flush", "analytics.maintenance"} <= set(shown)

    count_events(services, event(), event())
    flower("/api/task/async-apply/analytics.flush_counters", send={"args": []})
    flushed: dict[str, Any] = eventually(lambda: _succeeded(flower, "analytics.flush_counters"))
    assert stored_total(services) == SENT + 2
    assert flushed["worker"] == names[1]
    assert int(flushed["result"]) > 1  # a counter of the day, and one of the hour
    assert "analytics.flush_counters" in flower(f"/task/{flushed['uuid']}")


def check_counts_and_control(flower: Read, of_events: str, of_flushes: str) -> None:
    """What monitors are shown is a sample, and the page has the numbers of the workers; what is
    asked of them is done, or it is said why not."""
    for _ in range(SENT):
        args = {"args": ["page_view", "u1"]}
        flower("/api/task/async-apply/analytics.track_event", send=args)

    def shown() -> dict[str, int]:
        rows = json.loads(flower("/workers?json=1"))["data"]
        [row] = [row for row in rows if row["hostname"] == of_events]
        return {name: row.get(f"task-{name}") for name in ("received", "succeeded")}

    eventually(lambda: shown() == {"received": SENT, "succeeded": SENT}, what="not the true counts")

    def ask(path: str) -> str:
        return flower(f"/api/{path}", send={})

    pool, queue, limit = "worker/pool", "worker/queue", "task/rate-limit/analytics"
    assert "Growing" in ask(f"{pool}/grow/{of_flushes}?n=1")
    assert "one process (-P solo)" in ask(f"{pool}/grow/{of_events}?n=1")
    assert "shut the worker down" in ask(f"{pool}/restart/{of_flushes}")
    assert "need more workers" in ask(f"{pool}/autoscale/{of_flushes}?min=1&max=2")
    for done in ("cancel", "add"):
        assert "onsum" in ask(f"{queue}/{done}-consumer/{of_events}?queue=analytics.events")
    slower = f"workername={of_events}&ratelimit=1/m"
    assert "in batches" in ask(f"{limit}.track_event?{slower}")
    assert "set successfully" in ask(f"{limit}.prune?{slower.replace(of_events, of_flushes)}")
    times = f"workername={of_events}&hard=9&soft=8"
    assert "no time limit" in ask(f"task/timeout/analytics.track_event?{times}")
    assert "keep no results" in ask("task/apply/analytics.prune")
    assert "Revoked" in ask("task/revoke/none")
    assert "Shutting down" in ask(f"worker/shutdown/{of_events}")


@pytest.mark.parametrize("prefix", ["", "/watch"])
def test_flower_answers_nothing_without_the_login_and_listens_on_loopback_only(
    workers: Workers, prefix: str
) -> None:
    from flower.urls import handlers

    workers.environment["FLOWER_UNAUTHENTICATED_API"] = "true"
    where, read = start_flower(workers, prefix)
    patterns = [one.regex.pattern if hasattr(one, "regex") else one[0] for one in handlers]
    paths = {re.sub(r"\(.*", "x", pattern.rstrip("$/?")) or "/" for pattern in patterns}
    needs_none = {"/healthcheck", "/static/x", "/login", ".*"}

    assert {"/metrics", "/api/workers", "/tasks", "/api/task/send-task/x"} <= paths
    for path in sorted(paths - needs_none):
        assert status_of(where + path) == LOGIN_NEEDED, path
        assert status_of(where + path, data=b"{}") == LOGIN_NEEDED, path
    assert status_of(f"{where}/nothing") == LOGIN_NEEDED
    assert status_of(f"{where}/metrics", headers={"Authorization": "Basic Og=="}) == LOGIN_NEEDED
    odd = {"Authorization": f"Basic {base64.b64encode('ä:ö'.encode()).decode()}"}
    assert status_of(f"{where}/metrics", headers=odd) == LOGIN_NEEDED
    assert "flower_" in read("/metrics") or "python_info" in read("/metrics")
    assert "Cross-site" in read("/api/task/revoke/x", send={}, **{"Sec-Fetch-Site": "cross-site"})
    assert "Cross-origin" in read("/api/task/revoke/x", send={}, Origin="http://evil.example")
    check_guessing(where, read)
    with pytest.raises(ConnectionRefusedError), socket.socket() as other_address:
        other_address.connect(("127.0.0.2", int(where.removesuffix(prefix).rpartition(":")[2])))


def check_guessing(where: str, read: Read) -> None:
    """One who guesses is turned away, without learning whether a guess was right; a browser that
    has not asked for the password yet is not."""
    guess = {"Authorization": f"Basic {base64.b64encode(b'analytics:guess').decode()}"}
    statuses = [
        status_of(f"{where}/api/workers", headers=guess) for _ in range(AT_ONCE - 1)
    ]  # and two before
    assert statuses[-2:] == [LOGIN_NEEDED, TOO_MANY]
    assert "too many wrong passwords" in read("/api/workers")
    assert status_of(f"{where}/") == LOGIN_NEEDED
    assert status_of(f"{where}/healthcheck") == OK


@pytest.mark.parametrize(
    ("environment", "options", "reason"),
    [
        ({}, ["--address=0.0.0.0"], "listens on loopback only, not on '0.0.0.0'"),
        ({"FLOWER_ADDRESS": "::"}, [], "listens on loopback only, not on '::'"),
        ({"FLOWER_BASIC_AUTH": "admin:"}, [], "without a name or a password"),
        ({"FLOWER_BASIC_AUTH": "admin:ö"}, [], "not ASCII"),
        ({"FLOWER_BASIC_AUTH": ""}, ["--address=0.0.0.0"], "without a name or a password"),
    ],
)
def test_flower_refuses_to_start_open_to_others(
    workers: Workers, environment: dict[str, str], options: list[str], reason: str
) -> None:
    workers.environment.update(environment)
    process = workers.celery("flower", "flower", f"--port={free_port()}", *options)
    eventually(lambda: not process.alive(), 30)
    assert reason in process.said()
    assert "FLOWER_BASIC_AUTH" in process.said()
    assert "Traceback" not in process.said()


def test_flower_shows_no_user_and_no_password_of_a_server(
    redis_url: str, client: redis.Redis, workers: Workers, flower: Read
) -> None:
    worker = workers.start("events")
    stock = Celery(broker=redis_url)
    for countdown in (0, 3600):  # Celery's own way, now and later
        stock.send_task(
            TRACK_EVENT,
            ["page_view"],
            {"user_id": "secret-user"},
            queue="analytics.events",
            countdown=countdown,
            link=stock.signature("analytics.none", ["secret-user"]) if countdown else None,
        )
    name = f"{worker.name}@tests"
    eventually(lambda: "analytics.track_event" in flower("/api/tasks"), what="no task is shown")
    # What is not due waits in Redis, and no monitor is shown it.
    eventually(lambda: client.zcard("analytics:delayed") == 1)

    flower("/api/workers?refresh=1")
    pages = ["/api/tasks", "/tasks", f"/worker/{name}", "/api/workers", "/broker"]
    tasks = json.loads(flower("/api/tasks"))
    pages += [f"/task/{task}" for task in tasks]
    password = redis_url.partition("://:")[2].partition("@")[0]
    assert password
    for page in pages:
        assert "secret-user" not in flower(page), page
        assert password not in flower(page), page
    assert "secret-user" not in worker.said()
    asking = stock.control.inspect(destination=[name], timeout=10, limit=1)
    for told in (asking.conf(), asking.report()):
        assert name in told
        assert password not in f"{told}"


def _queues(answer: str, names: list[str]) -> dict[str, set[str]]:
    """The queues of each worker; none before Flower has heard of all workers."""
    found = {
        name: {queue["name"] for queue in worker.get("active_queues", ())}
        for name, worker in json.loads(answer).items()
    }
    return found if all(found.get(name) for name in names) else {}


def _succeeded(flower: Read, name: str) -> dict[str, Any] | None:
    """A task of this name that Flower has seen succeed."""
    tasks = json.loads(flower(f"/api/tasks?taskname={name}&state=SUCCESS"))
    return next(iter(tasks.values()), None)
