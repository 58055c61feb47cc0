"""The Celery message around an event: made once for each task, then only filled in.

Byte for byte what kombu's Redis transport would put into the queue, so that stock Celery workers,
clients and Flower read it. The delivery tag names the producer and the number of its publish.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from typing import Any

import msgspec
from celery import Celery

_EMBEDDED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
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
        self._parts = _PLACES.split(json.dumps(message))

    def message(self, task_id: str, tag: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """The message with these arguments, which must be JSON-ready."""
        body = b64encode(msgspec.json.encode((args, kwargs, _EMBEDDED))).decode()
        filled = {
            "id": json.dumps(task_id),
            "tag": f'"{tag}"',
            "body": f'"{body}"',
            "args": json.dumps(_shown(args)),
            "kwargs": json.dumps(_shown(kwargs)),
        }
        parts = self._parts.copy()
        parts[1::2] = [filled[name] for name in parts[1::2]]
        return "".join(parts)


def _shown(arguments: object) -> str:
    """The arguments as tools show them, cut as Celery cuts them."""
    text = repr(arguments)
    return text if len(text) <= 1024 else text[:1023] + "…"
