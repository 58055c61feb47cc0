"""Messages of the jobs' queues in Redis that kombu cannot read.

kombu takes a message with BRPOP and reads it then: what it cannot read is gone, and the error cuts
Celery's connection. The answer of BRPOP passes redis-py's response callbacks first. The one here
does with a message what kombu is about to do, and puts one that fails into an envelope that kombu
reads, for our consumer to make a dead letter of.
"""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any
from uuid import uuid4

from kombu.utils.json import dumps, loads

_REASON = "analytics-unreadable"
_LONGEST_REASON = 500


def wrap_unreadable(channel: Any) -> None:
    """Have a channel of kombu's Redis transport be given each unreadable message in an envelope."""
    client = channel.client
    read_answer = client.response_callbacks["BRPOP"]

    def read_and_check(answer: Any, **options: Any) -> Any:
        taken = read_answer(answer, **options)
        if not taken:
            return taken
        name, raw = taken
        try:
            _read(channel, raw)
        except Exception as error:  # whatever it likes
            queue = name.decode().rsplit(channel.sep, 1)[0]
            info = {"exchange": "", "routing_key": queue}
            properties = {"delivery_info": info, "delivery_tag": str(uuid4())}
            reason = {_REASON: repr(error)[:_LONGEST_REASON]}
            raw = pack(raw, reason, properties, "application/octet-stream", "binary")
        return name, raw

    client.set_response_callback("BRPOP", read_and_check)


def unwrap(message: Any) -> tuple[bytes, str] | None:
    """What lay in the queue, and why it cannot be read, where the message is such an envelope."""
    headers = message.headers
    reason = headers.get(_REASON) if isinstance(headers, dict) else None
    raw = message.body or b""  # kombu decodes no empty body
    return (raw, reason) if isinstance(reason, str) and isinstance(raw, bytes) else None


def _read(channel: Any, raw: bytes) -> None:
    """What kombu does with a message before it hands it over. Raises whatever it likes."""
    payload = loads(raw.decode())
    properties = channel.Message(payload, channel=channel).properties
    info = properties["delivery_info"]
    for name in (properties["delivery_tag"], info["exchange"], info["routing_key"]):
        if not isinstance(name, str):
            raise TypeError(f"{name!r:.100} is not a text")
    dumps(payload)


def pack(body: Any, headers: Any, properties: dict[str, Any], kind: Any, encoding: Any) -> bytes:
    """A message of these bytes as kombu has it in Redis; `kind` is the content type."""
    whole = {
        "body": b64encode(body).decode(),
        "content-encoding": encoding,
        "content-type": kind,
        "headers": headers,
        "properties": {**properties, "body_encoding": "base64"},
    }
    return json.dumps(whole, default=repr).encode()
