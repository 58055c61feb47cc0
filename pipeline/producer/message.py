"""The Celery message around an event: made once for each task, then only filled in.

Byte for byte what kombu's Redis transport would put into the queue, so that stock Celery workers,
clients and Flower read it. The delivery tag names the producer and the number of its publish.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from celery import Celery

_EMBEDDED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
_EMBEDDED_JSON = msgspec.json.encode(_EMBEDDED)
_PLACES = re.compile(r'"@@(\w+)@@"')


class Envelope:
    """The messages of one task to one queue, from this process."""

    def __init__(self, app: Celery, task: str, queue: str) -> None:
        rendered = app.amqp.as_task_v2(
            "@@id@@", task, argsrepr="@@args@@", kwargsrepr="@@kwargs@@", ignore_result=True
        )
        message = {
            "body": "@@body@@",
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": rendered.headers,
            "properties": {
                **rendered.properties,
                "delivery_mode": 2,
                "delivery_info": {"exchange": "", "routing_key": queue},
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": "@@tag@@",
            },
        }
        text = json.dumps(message).replace("%", "%%")
        self._template = _PLACES.sub(r"%(\1)b", text).encode()

    def message(
        self, task_id: str, tag: str, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> bytes:
        """The message with these arguments, which must be JSON-ready."""
        body = msgspec.json.encode((args, kwargs, _EMBEDDED))
        return self._filled(task_id, tag, body, _shown(args), _shown(kwargs))

    def message_of_events(self, task_id: str, tag: str, events: Sequence[bytes]) -> bytes:
        """The message of `track_events` with these events, each of them JSON already."""
        body = b"[[[%b]],{},%b]" % (b",".join(events), _EMBEDDED_JSON)
        return self._filled(task_id, tag, body, f"([… {len(events)} events],)", "{}")

    def _filled(self, task_id: str, tag: str, body: bytes, args: str, kwargs: str) -> bytes:
        return self._template % {
            b"id": msgspec.json.encode(task_id),
            b"tag": msgspec.json.encode(tag),
            b"body": b'"%b"' % b64encode(body),
            b"args": msgspec.json.encode(args),
            b"kwargs": msgspec.json.encode(kwargs),
        }


def _shown(arguments: object) -> str:
    """The arguments as tools show them, cut as Celery cuts them."""
    text = repr(arguments)
    return text if len(text) <= 1024 else text[:1023] + "…"
