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
_PLACES = re.compile(r'"@@(\w+)@@"')
_SHOWN_CHARACTERS = 1024
_encode = msgspec.json.Encoder().encode


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
        self,
        task_id: str,
        tag: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        shown: str | None = None,
    ) -> bytes:
        """The message with these arguments, which must be JSON-ready.

        Tools show `args` as `shown`, else as `repr` has it; both are cut as Celery cuts them.
        """
        shown = shown or repr(args)
        shown_kwargs = repr(kwargs)
        if len(shown) > _SHOWN_CHARACTERS:
            shown = f"{shown[: _SHOWN_CHARACTERS - 1]}…"
        if len(shown_kwargs) > _SHOWN_CHARACTERS:
            shown_kwargs = f"{shown_kwargs[: _SHOWN_CHARACTERS - 1]}…"
        return self._template % {
            b"id": _encode(task_id),
            b"tag": _encode(tag),
            b"body": b'"%b"' % b64encode(_encode((args, kwargs, _EMBEDDED))),
            b"args": _encode(shown),
            b"kwargs": _encode(shown_kwargs),
        }

    def message_of_events(self, task_id: str, tag: str, events: Sequence[bytes]) -> bytes:
        """The message of `track_events` with these events, each of them JSON already."""
        joined = msgspec.Raw(b"[%b]" % b",".join(events))
        return self.message(task_id, tag, (joined,), {}, f"([… {len(events)} events],)")
