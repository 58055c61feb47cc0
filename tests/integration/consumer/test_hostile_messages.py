"""No message ends a worker, stops it or comes back for ever: each is a dead letter, or is run."""

from __future__ import annotations

import bz2
import json
import time
import zlib
from base64 import b64encode
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import redis

from pipeline.contract import (
    EVENTS_QUEUE,
    FLUSH_COUNTERS,
    FLUSH_QUEUE,
    REPAIR_COUNTERS,
    TRACK_EVENT,
)
from pipeline.contract import MAINTENANCE_QUEUE as MAINTENANCE
from pipeline.services import Services
from tests.helpers.support import Worker, Workers, eventually

QUEUES = {
    "flush": ("flush", FLUSH_QUEUE, FLUSH_COUNTERS, []),
    "maintenance": ("flush", MAINTENANCE, REPAIR_COUNTERS, []),
    "events": ("events", EVENTS_QUEUE, TRACK_EVENT, ["page_view"]),
}
ODD: list[Any] = [
    *("x", 7, -1, 10**400, 1e308, float("nan"), True, ["x"], [7], {"a": 1}, [[]], []),
    *("9999-99-99T00:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"),
]
HEADERS = (
    *("id", "task", "eta", "expires", "retries", "timelimit", "stamped_headers", "stamps", "group"),
    *("root_id", "parent_id", "shadow", "argsrepr", "kwargsrepr", "origin", "ignore_result"),
    *("replaced_task_nesting", "lang", "compression", "chord", "callbacks", "delivery_info"),
    *(
        "headers",
        "hostname",
        "properties",
        "args",
        "kwargs",
        "reply_to",
        "analytics_plain_user_ids",
    ),
)
PROPERTIES = (
    *("correlation_id", "reply_to", "delivery_mode", "delivery_info", "priority"),
    *("body_encoding", "delivery_tag", "headers"),
)
PARTS = ("body", "content-encoding", "content-type", "headers", "properties")
SIGNATURE = {
    "task": "no.such",
    "args": [],
    "kwargs": {},
    "options": {"queue": 7},
    "immutable": True,
}
BODIES: list[Any] = [
    *([[1, 2], {}, {}], [[], {"x": 1}, {}], [[]], [], {}, "x", [None, None, None], ["abc", {}, {}]),
    *([[], [1], {}], [[], {}, []], [[], {}, "x"], [[], {"self": 1}, {}]),
    *([[], {}, {"callbacks": 7}], [[], {}, {"chord": "x"}], [[], {}, {"chain": [{}]}]),
    *([[], {}, {"callbacks": [SIGNATURE]}], [[], {}, {"errbacks": [SIGNATURE]}]),
]


def encode(body: Any) -> str:
    return b64encode(body if isinstance(body, bytes) else json.dumps(body).encode()).decode()


def make_message(queue: str, task: str, args: list[Any]) -> dict[str, Any]:
    """A message as a stock Celery client sends it."""
    return {
        "body": encode([args, {}, {"callbacks": None, "errbacks": None, "chain": None}]),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"task": task, "id": f"id-{time.time_ns()}", "argsrepr": "()"},
        "properties": {
            "correlation_id": "c",
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": queue},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": f"tag-{time.time_ns()}",
        },
    }


def odd_values(part: str, names: tuple[str, ...]) -> Callable[[Callable[[], Any]], list[Any]]:
    """Messages with one field of a part missing, or of a strange type."""

    def make(usual: Callable[[], Any]) -> list[Any]:
        found = []
        for name in names:
            for value in [*ODD, None]:
                message = usual()
                (message[part] if part else message)[name] = value
                found.append(message)
            message = usual()
            (message[part] if part else message).pop(name, None)
            found.append(message)
        return found

    return make


def odd_bodies(usual: Callable[[], Any]) -> list[Any]:
    deep = b"[" * 900 + b"]" * 900
    texts = [b"\xff\xfe{", b"[" * 100_000, b"[" + deep + b",{},{}]", b"[[],{}," + deep + b"]", b""]
    return [{**usual(), "body": encode(body)} for body in [*BODIES, *texts]]


def large_ones(usual: Callable[[], Any]) -> list[Any]:
    found = []
    for name in ("id", "argsrepr", "root_id", "lang"):
        message = usual()
        message["headers"][name] = "i" * 1_000_000
        found.append(message)
    return [*found, {**usual(), "body": encode([["x" * 20_000_000], {}, {}])}]


def first_protocol(usual: Callable[[], Any]) -> list[Any]:
    task = usual()["headers"]["task"]
    whole = {"task": task, "id": "p", "args": [], "kwargs": {}}
    bodies = [
        *({"task": task}, {**whole, "id": 7}, {**whole, "id": []}, {**whole, "args": 3}),
        *({**whole, "eta": 7}, {**whole, "expires": "y"}, {**whole, "timelimit": 7}),
        *({**whole, "callbacks": "x", "errbacks": [7], "chord": 7, "taskset": [1], "utc": "x"},),
        *({**whole, "task": []}, {**whole, "kwargs": {"x": 1}}, {**whole, "stamped_headers": 5}),
    ]
    return [{**usual(), "headers": {}, "body": encode(body)} for body in bodies]


def raw_texts(usual: Callable[[], Any]) -> list[Any]:
    return ["", "x", "[]", "{}", "null", "7", '{"body":"x"}', '"x"', "[" * 200_000, b"\xff\xfe"]


def far_etas(usual: Callable[[], Any]) -> list[Any]:
    found = []
    for eta in ("2100-01-01T00:00:00Z", "2100-01-01T00:00:00", "9000-01-01T00:00:00+05:00"):
        for name in ("eta", "expires"):
            message = usual()
            message["headers"][name] = eta
            found.append(message)
    return found


@cache
def compress(how: Callable[[bytes], bytes]) -> bytes:
    return how(b" " * 300_000_000)


def bombs(usual: Callable[[], Any]) -> list[Any]:
    """Messages of some hundred kilobytes that stand for hundreds of megabytes, and cut ones."""
    found = []
    for name, body in {
        "application/x-gzip": compress(zlib.compress),
        "gzip": zlib.compress(b"[[],{},{}]")[:-3],
        "application/x-bz2": compress(bz2.compress),
        "application/x-lzma": b"x",
        "application/zstd": b"x",
        "none such": b"x",
    }.items():
        message = usual()
        message["headers"]["compression"] = name
        found.append({**message, "body": encode(body)})
    return found


KINDS: dict[str, Callable[[Callable[[], Any]], list[Any]]] = {
    "headers": odd_values("headers", HEADERS),
    "properties": odd_values("properties", PROPERTIES),
    "parts": odd_values("", PARTS),
    "bodies": odd_bodies,
    "large": large_ones,
    "first protocol": first_protocol,
    "raw": raw_texts,
    "far etas": far_etas,
    "bombs": bombs,
}


def is_settled(services: Services, queue: str) -> bool:
    """Whether nothing waits, and nothing is held."""
    return not (
        services.redis.llen(queue)
        or services.redis.hlen(services.keys.unacked)
        or services.redis.hlen(services.keys.jobs_unacked)
    )


def check(services: Services, worker: Worker, queue: str, proof: bytes) -> None:
    """The worker takes everything, the last message too, and lives."""
    services.redis.lpush(queue, proof)
    eventually(lambda: is_settled(services, queue) or not worker.alive(), 60)
    assert worker.alive()
    assert "Unrecoverable" not in worker.said()


@pytest.mark.timeout(240)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("which", QUEUES)
def test_no_message_ends_a_worker_or_comes_back_for_ever(
    services: Services, workers: Workers, client: redis.Redis, which: str, kind: str
) -> None:
    role, queue, task, args = QUEUES[which]
    worker = workers.start(role)

    def usual() -> dict[str, Any]:
        return make_message(queue, task, args)

    hostile = KINDS[kind](usual)
    for message in hostile:
        text = message if isinstance(message, str | bytes) else json.dumps(message)
        client.lpush(queue, text)

    check(services, worker, queue, json.dumps(usual()).encode())
    assert "Connection to broker lost" not in worker.said()


def broadcasts() -> list[str | bytes]:
    """What may be published to the control channel: nonsense, and commands with odd arguments."""

    def wrap(body: object) -> str:
        message = {**make_message("", "", []), "body": encode(body)}
        message["properties"]["delivery_info"] = {"exchange": "celery.pidbox", "routing_key": ""}
        message["headers"] = {"clock": 1, "expires": time.time() + 60}
        return json.dumps(message)

    nonsense = [
        *("x", "[]", "{}", "7", "null", '"x"', "[" * 100_000, '{"body":"x"}', b"\xff\xfe"),
        *('{"body":"eA==","properties":7}', '{"body":7,"properties":{"body_encoding":"base64"}}'),
    ]
    bodies = [[], 7, None, {}, {"method": []}, {"method": "ping", "arguments": 7}]
    commands: dict[str, dict[str, Any]] = {
        "pool_grow": {},
        "pool_shrink": {},
        "add_consumer": {},
        "cancel_consumer": {},
        "time_limit": {"task_name": FLUSH_COUNTERS},
        "rate_limit": {"task_name": FLUSH_COUNTERS},
        "autoscale": {},
        "revoke": {},
        "revoke_by_stamped_headers": {},
        "conf": {},
    }
    names = {
        "pool_grow": "n",
        "pool_shrink": "n",
        "add_consumer": "queue",
        "autoscale": "max",
        "cancel_consumer": "queue",
        "time_limit": "hard",
        "rate_limit": "rate_limit",
        "revoke": "task_id",
        "revoke_by_stamped_headers": "headers",
        "conf": "with_defaults",
    }
    for command, fixed in commands.items():
        for value in [10**9, 1, -1, True, None, 1.5, [], {}, [[]], "\ud800"]:
            if command in ("pool_grow", "time_limit") and value == 1:
                continue  # which a worker is to do
            bodies.append({"method": command, "arguments": {names[command]: value, **fixed}})
    return [*nonsense, *map(wrap, bodies)]


@pytest.mark.timeout(240)
@pytest.mark.parametrize("which", ["flush", "events"])
def test_no_broadcast_ends_a_worker(
    services: Services, workers: Workers, client: redis.Redis, which: str
) -> None:
    role, queue, task, args = QUEUES[which]
    worker = workers.start(role)
    channel = f"/{client.connection_pool.connection_kwargs['db']}.celery.pidbox"

    for broadcast in broadcasts():
        eventually(lambda text=broadcast: client.publish(channel, text))  # it subscribes anew

    for _ in range(2):  # what a command has changed shows at the next task
        check(services, worker, queue, json.dumps(make_message(queue, task, args)).encode())
