"""What may lie in a queue: messages of Celery clients, right and wrong, and bytes of any kind."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

from hypothesis import strategies as st

from pipeline.contract import (
    ARCHIVE_EVENTS,
    FLUSH_COUNTERS,
    MAINTAIN,
    MOVE_DEAD_LETTERS,
    REPAIR_COUNTERS,
    TRACK_EVENT,
    TRACK_EVENTS,
)
from pipeline.event.model import FIELDS
from tests.fuzz.strategies.requests import text, values

TASKS = (FLUSH_COUNTERS, ARCHIVE_EVENTS, MAINTAIN, MOVE_DEAD_LETTERS, REPAIR_COUNTERS)
HEADERS = (
    *("lang", "task", "id", "shadow", "eta", "expires", "group", "group_index", "retries"),
    *("timelimit", "root_id", "parent_id", "argsrepr", "kwargsrepr", "origin", "ignore_result"),
    *("replaced_task_nesting", "stamped_headers", "stamps", "compression", "x-death", "callbacks"),
)
PROPERTIES = (
    *("correlation_id", "reply_to", "delivery_mode", "delivery_info", "priority"),
    *("body_encoding", "delivery_tag", "expiration", "message_id"),
)
# Those that stop a worker, or what it consumes, do as they are told.
CONTROL = (
    *("ping", "stats", "active", "registered", "report", "conf", "scheduled", "reserved"),
    *("revoke", "revoke_by_stamped_headers", "rate_limit", "time_limit", "query_task", "clock"),
    *("enable_events", "disable_events", "heartbeat", "hello", "active_queues", "election"),
)

moments = st.sampled_from(["2026-01-31T12:00:00+00:00", "2001-01-01T00:00:00", "9999", "x", ""])
odd = values | moments | st.sampled_from([-1, 0, 1e308, [None, None], [1, 2], {"a": {}}, []])
some_events = st.lists(
    st.fixed_dictionaries({"event_type": st.just("fuzzed") | text | values})
    | st.dictionaries(st.sampled_from(FIELDS) | text, odd, max_size=5)
    | values,
    max_size=4,
)
arguments = st.tuples(
    st.lists(odd | some_events, max_size=3) | st.just([]),
    st.dictionaries(st.sampled_from([*FIELDS, "events"]) | text, odd, max_size=4),
    st.just({})
    | st.dictionaries(st.sampled_from(["callbacks", "errbacks", "chain", "chord"]), odd),
)


@st.composite
def bodies(draw: st.DrawFn, task: str) -> str:
    """The text of a body, which is usually base64 of JSON, and how it says it is encoded."""
    content: Any = draw(arguments | values)
    match draw(st.sampled_from(["one", "many", "any", "any"])):
        case "one" if task == TRACK_EVENT:
            content = [["fuzzed"], {"properties": draw(odd)}, {}]
        case "many" if task == TRACK_EVENTS:
            content = [[draw(some_events)], {}, {}]
    written = json.dumps(content).encode()
    match draw(st.sampled_from(["whole", "whole", "whole", "cut", "bytes", "plain"])):
        case "cut":
            written = written[: draw(st.integers(0, len(written)))]
        case "bytes":
            written = draw(st.binary(max_size=60))
        case "plain":
            return written.decode()
    return b64encode(written).decode()


@st.composite
def messages(draw: st.DrawFn, tasks: tuple[str, ...]) -> bytes:
    """A message for one of these tasks, or something else."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=80) | values.map(json.dumps).map(str.encode))
    task = draw(st.sampled_from(tasks))
    message: dict[str, Any] = {
        "body": draw(bodies(task)),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"lang": "py", "task": task, "id": draw(st.uuids()).hex},
        "properties": {
            "correlation_id": "x",
            "delivery_info": {"exchange": "", "routing_key": "analytics.events"},
            "delivery_tag": draw(st.uuids()).hex,
            "body_encoding": "base64",
        },
    }
    for part, names in (("headers", HEADERS), ("properties", PROPERTIES)):
        if draw(st.booleans()):
            message[part] |= draw(st.dictionaries(st.sampled_from(names), odd, max_size=3))
    if draw(st.integers(0, 9)) == 0:
        message[draw(st.sampled_from(sorted(message)))] = draw(odd)
    encoded = json.dumps(message).encode()
    cut = draw(st.integers(0, 19)) == 0
    return encoded[: draw(st.integers(0, len(encoded)))] if cut else encoded


event_messages = messages((TRACK_EVENT, TRACK_EVENTS))
other_messages = messages((*TASKS, TRACK_EVENT, "no.such.task"))


@st.composite
def control_messages(draw: st.DrawFn) -> bytes:
    """A command for all workers, as `celery inspect` and `celery control` broadcast them."""
    if draw(st.integers(0, 4)) == 0:
        return draw(st.binary(max_size=80) | values.map(json.dumps).map(str.encode))
    command = {
        "method": draw(st.sampled_from(CONTROL) | text),
        "arguments": draw(st.dictionaries(st.sampled_from(["task_id", "limit"]) | text, odd)),
        "destination": draw(st.none() | odd),
    }
    if draw(st.booleans()):
        command |= draw(st.dictionaries(st.sampled_from(["pattern", "matcher", "ticket"]), odd))
    message = {
        "body": b64encode(json.dumps(command).encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": draw(st.just({}) | st.dictionaries(st.sampled_from(["clock", "expires"]), odd)),
        "properties": {
            "delivery_info": {"exchange": "celery.pidbox", "routing_key": ""},
            "delivery_tag": draw(st.uuids()).hex,
            "body_encoding": "base64",
        },
    }
    return json.dumps(message).encode()
